"""Gather*, Scatter* and MaxUnpool against onnxruntime, with indices inside and outside of their axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.lowering.region import Region, check, model

Array = np.ndarray[Any, Any]

DTYPES = ["float32", "float64", "int8", "int32", "int64", "uint8", "bool"]
few = settings(max_examples=12, deadline=None)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
index_types = st.sampled_from(["int32", "int64"])


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    return rng.integers(0 if dtype[0] in "ub" else -9, 10, shape).astype(dtype)


def indices(rng: np.random.Generator, shape: tuple[int, ...], extent: int, dtype: str) -> Array:
    return rng.integers(-extent, extent, shape).astype(dtype)


@st.composite
def gathers(draw: Any) -> tuple[Any, dict[str, Array], list[int]]:
    """A node of any of the gathering operators, its inputs, and the extents that its indices count in."""
    rng, shape, dtype = draw(seeds), draw(shapes), draw(st.sampled_from(DTYPES))
    kind, to = draw(st.sampled_from(["Gather", "GatherElements", "GatherND"])), draw(index_types)
    data = values(rng, shape, dtype)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    if kind == "Gather":
        sizes = draw(st.lists(st.integers(1, 4), max_size=2).map(tuple))
        node = helper.make_node(kind, ["x", "i"], ["y"], axis=axis)
        return node, {"x": data, "i": indices(rng, sizes, shape[axis], to)}, [shape[axis]]
    if kind == "GatherElements":
        sizes = tuple(draw(st.integers(1, extent)) for extent in shape)
        node = helper.make_node(kind, ["x", "i"], ["y"], axis=axis)
        return node, {"x": data, "i": indices(rng, sizes, shape[axis], to)}, [shape[axis]]
    batch = draw(st.integers(0, len(shape) - 1))
    length = draw(st.integers(1, len(shape) - batch))
    tuples = (*shape[:batch], *draw(st.lists(st.integers(1, 3), max_size=2)))
    extents = shape[batch : batch + length]
    index = np.stack([indices(rng, tuples, extent, "int64") for extent in extents], -1)
    return helper.make_node(kind, ["x", "i"], ["y"], batch_dims=batch), {"x": data, "i": index}, list(extents)


@st.composite
def scatters(draw: Any) -> tuple[Any, dict[str, Array], list[int]]:
    """A node of any of the scattering operators, its inputs, and the extents that its indices count in."""
    rng, shape, to = draw(seeds), draw(shapes), draw(index_types)
    reduction = draw(st.sampled_from(["none", "add", "mul", "max", "min"]))
    dtype = draw(st.sampled_from(DTYPES if reduction == "none" else ["float32", "float64", "int32", "int64"]))
    data = values(rng, shape, dtype)
    if draw(st.booleans()):
        axis = draw(st.integers(-len(shape), len(shape) - 1))
        sizes = tuple(draw(st.integers(1, extent)) for extent in shape)
        node = helper.make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=axis, reduction=reduction)
        index = indices(rng, sizes, shape[axis], to)
        return node, {"x": data, "i": index, "u": values(rng, sizes, dtype)}, [shape[axis]]
    length, tuples = draw(st.integers(1, len(shape))), tuple(draw(st.lists(st.integers(1, 4), max_size=2)))
    index = np.stack([indices(rng, tuples, extent, "int64") for extent in shape[:length]], -1)
    updates = values(rng, (*tuples, *shape[length:]), dtype)
    node = helper.make_node("ScatterND", ["x", "i", "u"], ["y"], reduction=reduction)
    return node, {"x": data, "i": index, "u": updates}, list(shape[:length])


@few
@given(gathers())
def test_gathering(case: tuple[Any, dict[str, Array], list[int]]) -> None:
    node, inputs, _ = case
    check(model(node, inputs), inputs)


@few
@given(scatters())
def test_scattering(case: tuple[Any, dict[str, Array], list[int]]) -> None:
    node, inputs, _ = case
    check(model(node, inputs), inputs)


FAR = [0, 1, 10**6, 2**31 - 1, 2**31, 2**62, 2**63 - 1, 2**32]


@few
@given(st.one_of(gathers(), scatters()), st.data())
def test_an_index_outside_is_a_fault_and_touches_nothing(case: Any, data: Any) -> None:
    """One index just beyond either end of its axis, or far away; `Region.run` looks at what lies around the buffers."""
    node, inputs, extents = case
    region = Region(model(node, inputs))
    region.run(inputs)
    position = data.draw(st.integers(0, inputs["i"].size - 1))
    extent = extents[position % len(extents)] if node.op_type.endswith("ND") else extents[0]
    limit = np.iinfo(inputs["i"].dtype)
    for far in FAR:
        for index in (extent + far, -extent - 1 - far):
            if limit.min <= index <= limit.max:
                wrong = inputs["i"].copy()
                wrong.reshape(-1)[position] = index
                with pytest.raises(IndexError):
                    region.run({**inputs, "i": wrong}, 2)


@pytest.mark.parametrize("shape", [(1, 2, 4, 6), (2, 1, 6, 4)])
def test_max_unpool(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    size = int(np.prod(shape)) * 4
    inputs = {
        "x": rng.standard_normal(shape).astype(np.float32),
        "i": rng.permutation(size)[: size // 4].reshape(shape).astype(np.int64),
    }
    proto = model(helper.make_node("MaxUnpool", ["x", "i"], ["y"], kernel_shape=[2, 2], strides=[2, 2]), inputs)
    check(proto, inputs)
    for index in (size, -1, 2**40):
        wrong = {**inputs, "i": inputs["i"].copy()}
        wrong["i"].reshape(-1)[3] = index
        with pytest.raises(IndexError):
            Region(proto).run(wrong)
