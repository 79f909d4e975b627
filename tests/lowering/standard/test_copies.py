"""Concat and Transpose of floats beside onnxruntime, for any extents, with every bit of what they copy."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from qcompiler.ir.axis_order import CHANNELS_LAST, LAYOUT
from qcompiler.lowering.regions import region_calls
from qcompiler.lowering.standard.transpose import merged
from qcompiler.targets.vector.host import HOST
from tests.lowering.region import check, model

EXTENTS = st.sampled_from([1, 2, 3, 7, 15, 16, 17, 33, 40])


def bits(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Floats of any bits, numbers that are none among them."""
    return rng.integers(0, 2**32, shape, np.uint32).view(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_transposes(data):
    shape = tuple(data.draw(st.lists(EXTENTS, min_size=1, max_size=4)))
    perm = data.draw(st.sampled_from(list(permutations(range(len(shape))))))
    x = bits(np.random.default_rng(0), shape)
    check(model(helper.make_node("Transpose", ["x"], ["y"], perm=perm), {"x": x}), {"x": x})


def test_transposes_without_a_permutation_turn_all_axes():
    x = bits(np.random.default_rng(1), (3, 20, 18))
    check(model(helper.make_node("Transpose", ["x"], ["y"]), {"x": x}), {"x": x})


@settings(max_examples=40, deadline=None)
@given(st.lists(EXTENTS, min_size=3, max_size=3), st.integers(-3, 2), st.lists(EXTENTS, min_size=1, max_size=4))
def test_concats(shape, axis, widths):
    rng = np.random.default_rng(0)
    inputs = {}
    for index, width in enumerate(widths):
        own = list(shape)
        own[axis] = width
        inputs[f"x{index}"] = bits(rng, tuple(own))
    check(model(helper.make_node("Concat", list(inputs), ["y"], axis=axis), inputs), inputs)


def test_a_concat_with_constants_and_of_integers():
    x = bits(np.random.default_rng(2), (2, 5, 19))
    constant = bits(np.random.default_rng(3), (2, 1, 19))
    node = helper.make_node("Concat", ["x", "c", "x"], ["y"], axis=1)
    check(model(node, {"x": x}, {"c": constant}), {"x": x})
    whole = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
    check(model(helper.make_node("Concat", ["x", "x"], ["y"], axis=2), {"x": whole}), {"x": whole})


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_concat_of_channels_last_knows_where_its_axes_are(axis):
    """What it reads and writes there; onnxruntime has no such layout to compare with."""
    inputs = {name: np.zeros((2, 3, 4, 5), np.float32) for name in "ab"}
    graph = ir.from_proto(model(helper.make_node("Concat", ["a", "b"], ["y"], axis=axis), inputs)).graph
    (node,) = graph
    node.metadata_props[LAYOUT] = CHANNELS_LAST
    (call,) = region_calls([node], HOST)
    stretches = {0: 1, 1: 2 * 4 * 5, -1: 2 * 4}[axis]
    assert call.launch.count == stretches and call.kernel == "standard"


@pytest.mark.parametrize(
    ("shape", "perm", "expected"),
    [
        ((2, 3, 4, 5), (0, 2, 3, 1), ([2, 3, 20], [0, 2, 1])),
        ((1, 3, 1, 5), (2, 1, 0, 3), ([15], [0])),
        ((2, 3, 1, 5), (1, 3, 2, 0), ([2, 15], [1, 0])),
        ((2, 3, 4), (2, 1, 0), ([2, 3, 4], [2, 1, 0])),
        ((1, 1), (1, 0), ([1], [0])),
    ],
)
def test_axes_that_stay_neighbours_are_one(shape, perm, expected):
    assert merged(shape, perm) == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(EXTENTS, min_size=1, max_size=4), st.sampled_from(["Relu", "Add", "scaled"]))
def test_elementwise_ops_go_through_rows_of_all_elements(shape, kind):
    """Whatever the extents: lanes that lie in different rows would be gathered one by one."""
    rng = np.random.default_rng(0)
    inputs = {name: rng.standard_normal(shape).astype(np.float32) for name in "xz"}
    node = {
        "Relu": helper.make_node("Relu", ["x"], ["y"]),
        "Add": helper.make_node("Add", ["x", "z"], ["y"]),
        "scaled": helper.make_node("Mul", ["x", "c"], ["y"]),
    }[kind]
    used = {name: inputs[name] for name in node.input if name in inputs}
    proto = model(node, used, {"c": np.array(1.5, np.float32)} if kind == "scaled" else None)
    check(proto, used)
    (call,) = region_calls(list(ir.from_proto(proto).graph), HOST)
    count = int(np.prod(shape))
    assert f"decl_buffer(({count},)" in str(call.function.script()) or f"decl_buffer((T.int64({count}),)" in str(
        call.function.script()
    )
