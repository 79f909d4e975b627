"""TopK, CumSum and OneHot against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from qcompiler.errors import UnsupportedModel
from tests.lowering.region import Region, check, model

few = settings(max_examples=10, deadline=None)
shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)
seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@few
@given(shapes, seeds, st.data())
def test_top_k(shape: tuple[int, ...], rng: Any, data: Any) -> None:
    """Few different numbers, so that there are ties; the lower index comes first."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    k = data.draw(st.integers(1, shape[axis]))
    dtype = data.draw(st.sampled_from(["float32", "int32", "int64", "float64"]))
    x = {"x": rng.integers(-3, 3, shape).astype(dtype)}
    node = helper.make_node("TopK", ["x", "k"], ["v", "i"], axis=axis, largest=data.draw(st.integers(0, 1)))
    check(model(node, x, {"k": np.array([k])}), x)


def test_top_k_in_no_order_is_refused() -> None:
    x = {"x": np.zeros((3, 7), np.float32)}
    proto = model(helper.make_node("TopK", ["x", "k"], ["v", "i"], "best", sorted=0), x, {"k": np.array([3])})
    with pytest.raises(UnsupportedModel, match="node 'best': TopK leaves the order of its results open"):
        Region(proto)


@few
@given(shapes, seeds, st.data())
def test_cum_sum(shape: tuple[int, ...], rng: Any, data: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    dtype = data.draw(st.sampled_from(["float32", "float64", "int32", "int64"]))
    x = {"x": (rng.standard_normal(shape) * 9).astype(dtype)}
    flags = {"exclusive": data.draw(st.integers(0, 1)), "reverse": data.draw(st.integers(0, 1))}
    check(model(helper.make_node("CumSum", ["x", "a"], ["y"], **flags), x, {"a": np.array(axis)}), x)


@few
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), seeds, st.data())
def test_one_hot(shape: tuple[int, ...], rng: Any, data: Any) -> None:
    """Indices on both sides of both ends: those beyond are all off, as the standard says."""
    axis, depth = data.draw(st.integers(-len(shape) - 1, len(shape))), data.draw(st.integers(1, 6))
    indices = rng.integers(-depth - 2, depth + 2, shape).astype("int64")
    inputs = {"i": indices, "v": np.array([2.5, -1.5], np.float32)}
    node = helper.make_node("OneHot", ["i", "d", "v"], ["y"], axis=axis)
    check(model(node, inputs, {"d": np.array(depth)}), inputs)
