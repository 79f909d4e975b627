import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir.view import constant_of
from qcompiler.passes.sink_pools import SinkPools
from tests.passes.comparison import apply, graph, normal, ops_of, the

BIT = st.sampled_from([0, 1])
TEXT = """g (float[2, 3, 7, 7] x) => (y) {{
    p = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [{pad}, 0, {pad}, 1], ceil_mode = {ceil}> (x)
    m = Mul (p, gamma)
    a = Add (m, beta)
    y = qcompiler.Binarize (a) }}"""


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([-1.5, -0.3, 0.0, 0.4, 2.0]), min_size=3, max_size=3), BIT, BIT)
def test_batch_norm_of_any_sign_between_pool_and_sign(gamma, pad, ceil):
    constants = {
        "gamma": np.asarray(gamma, np.float32).reshape(1, 3, 1, 1),
        "beta": np.asarray([0.5, -0.5, 0.1], np.float32).reshape(1, 3, 1, 1),
    }
    model = graph(TEXT.format(pad=pad, ceil=ceil), **constants)
    assert apply(SinkPools(), model).rewrites == 1
    assert ops_of(model) == ["Mul", "Add", "Binarize", "BinaryMaxPool"]
    flip = constant_of(the(model, "BinaryMaxPool").inputs[1])
    assert flip.shape == (3, 1, 1)
    np.testing.assert_array_equal(flip.reshape(-1), np.where(np.asarray(gamma) < 0, -1, 1))


def test_a_pool_of_codes_becomes_binary():
    text = """g (float[1, 3, 6, 6] x) => (y) {
        b = qcompiler.Binarize (x)
        y = MaxPool <kernel_shape = [3, 3], strides = [3, 3], pads = [1, 1, 1, 1]> (b) }"""
    model = graph(text)
    assert apply(SinkPools(), model).rewrites == 1
    assert ops_of(model) == ["Binarize", "BinaryMaxPool"]


@pytest.mark.parametrize(
    "body",
    [
        "b = qcompiler.Binarize (p)\n y = Add (b, p)",
        "y = Relu (p)",
        "y = qcompiler.Binarize <zero = 0.0> (p)",
        "k = Abs (p)\n m = Mul (p, k)\n y = qcompiler.Binarize (m)",
    ],
    ids=["fork", "no sign", "ternary sign", "run-time factor"],
)
def test_refusals(body):
    text = "g (float[1, 3, 6, 6] x) => (y) {{ p = MaxPool <kernel_shape = [2, 2], pads = [0, 0, 0, 0]> (x)\n {0} }}"
    model = graph(text.format(body))
    before = ops_of(model)
    result = apply(SinkPools(), model)
    assert (result.rewrites, ops_of(model), len(result.refusals)) == (0, before, 1)


def test_constants_of_any_rank_survive_the_move():
    text = """g (float[1, 3, 6, 6] x) => (y) {
        p = MaxPool <kernel_shape = [2, 2], pads = [0, 0, 0, 0]> (x)
        a = Sub (c, p)
        r = PRelu (a, slope)
        k = Clip (r, low, high)
        y = qcompiler.Binarize (k) }"""
    constants = {
        "c": normal(np.random.default_rng(0), 3, 1, 1),
        "slope": np.full((3, 1, 1), 0.25, np.float32),
        "low": np.asarray(-1, np.float32),
        "high": np.asarray(0.5, np.float32),
    }
    model = graph(text, **constants)
    assert apply(SinkPools(), model).rewrites == 1
    assert constant_of(the(model, "BinaryMaxPool").inputs[1]).reshape(-1).tolist() == [-1, -1, -1]
