"""Constants on any axis and of any rank, 0-d ones too, between values of rank 1 to 4, through every pass."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.frontend.dialects.plain.idioms import recognize_binarization
from qcompiler.frontend.load import load
from qcompiler.ir import oracle
from qcompiler.passes import DEFAULT
from qcompiler.passes.editing import add_constant, insert
from qcompiler.passes.runner import run_passes
from tests.frontend.files import write
from tests.passes.chains import Chain
from tests.passes.comparison import graph, misdeclared

OPS = ("arithmetic", "prelu", "clip", "sign", "reshape", "transpose", "norm", "matmul", "gemm", "conv")


@st.composite
def networks(draw):
    network = Chain(draw(st.data()), tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))))
    for name in draw(st.lists(st.sampled_from(OPS), min_size=1, max_size=6)):
        if math.prod(network.shape) <= 256:
            getattr(network, name)()
    return network.model()


def every_pass_keeps_values_and_shapes(tmp_path, proto):
    """All numbers are dyadic and small, so that a pass cannot hide behind its bound."""
    model = load(write(tmp_path, proto))
    recognize_binarization(model)
    shape = [int(size) for size in model.graph.inputs[0].shape]
    inputs = {"x": (np.arange(math.prod(shape)) % 5 - 2).astype(np.float32).reshape(shape)}
    found = []
    run_passes(model, DEFAULT, check=True, callback=lambda current, *_: found.append(misdeclared(current, inputs)))
    assert found == [None] * len(DEFAULT)
    expected = oracle.run(proto, inputs)
    for name, found in oracle.run(model, inputs).items():
        np.testing.assert_array_equal(found, expected[name])


IN_A_FOLDER = [HealthCheck.function_scoped_fixture]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=IN_A_FOLDER)
@given(networks())
def test_every_pass_keeps_values_and_declared_shapes(tmp_path, proto):
    every_pass_keeps_values_and_shapes(tmp_path, proto)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=IN_A_FOLDER)
@given(networks())
def test_every_pass_keeps_values_and_declared_shapes_of_many_networks(tmp_path, proto):
    every_pass_keeps_values_and_shapes(tmp_path, proto)


def test_a_constant_keeps_its_rank():
    model = graph("g (float[4] x) => (y) { y = Neg (x) }")
    for array in (np.asarray(2, np.float32), np.ones(1, np.float32)):
        value = add_constant(model.graph, array, "c")
        assert value.const_value.numpy().shape == array.shape == tuple(value.shape)


def test_a_numpy_scalar_becomes_a_constant_of_rank_0():
    model = graph("g (float[4] x) => (y) { y = Neg (x) }")
    node = model.graph.node(0)
    output = insert(node, "Mul", [node.inputs[0], np.float32(3)], (4,))
    assert output.producer().inputs[1].const_value.numpy().shape == ()
