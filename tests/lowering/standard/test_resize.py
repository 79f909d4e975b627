"""Resize against onnxruntime, in all its modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from qcompiler.errors import QCompilerError, UnsupportedModel
from qcompiler.ir import oracle
from qcompiler.lowering.standard.resize_taps import TRANSFORMATIONS
from tests.lowering.region import Region, check, model

Array = np.ndarray[Any, Any]

NEAREST_MODES = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
# coordinates fall on halves, near them, and anywhere
SCALES = [0.25, 0.5, 0.6, 0.75, 2 / 3, 1.0, 1.2, 1.25, 1.4, 1.5, 5 / 3, 1.7, 2.0, 2.5, 3.0, 4.0]

few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
many = settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


@st.composite
def resizes(draw: Any) -> tuple[Any, Array, dict[str, Array]]:
    """A Resize node, its input and its constants, in a form that onnxruntime has a kernel for."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]))
    antialias = draw(st.booleans()) and mode != "nearest"
    if mode == "nearest":
        rank = draw(st.integers(1, 5))
        axes = draw(st.permutations(range(rank)))[: draw(st.integers(1, rank))]
    else:
        rank, axes = draw(st.sampled_from([(2, [0, 1]), (4, [2, 3]), (4, [1, 2]) if mode == "linear" else (4, [2, 3])]))
    shape = tuple(draw(st.integers(1, 7)) for _ in range(rank))
    transformation = draw(st.sampled_from(TRANSFORMATIONS))
    antialias = antialias and transformation != "tf_crop_and_resize"
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": transformation, "axes": axes}
    attributes["nearest_mode"] = draw(st.sampled_from(NEAREST_MODES))
    if mode == "cubic":
        attributes["cubic_coeff_a"] = draw(st.sampled_from([-0.75, -0.5]))
    if mode == "cubic" or antialias:
        attributes["exclude_outside"] = int(transformation != "tf_crop_and_resize" and draw(st.booleans()))
    attributes["antialias"] = int(antialias)
    attributes["extrapolation_value"] = 3.0
    constants, names = {}, ["x", "", "", ""]
    if transformation == "tf_crop_and_resize":
        starts = rng.uniform(-0.3, 0.6, len(axes))
        constants["roi"], names[1] = (
            np.array([*starts, *(starts + rng.uniform(0.2, 0.9, len(axes)))], np.float32),
            "roi",
        )
    if draw(st.booleans()):
        constants["sizes"], names[3] = np.array([draw(st.integers(1, 13)) for _ in axes]), "sizes"
        policies = ["stretch"] if mode != "nearest" else ["stretch", "not_larger", "not_smaller"]
        attributes["keep_aspect_ratio_policy"] = draw(st.sampled_from(policies))
    else:
        scale = st.one_of(st.sampled_from([0.5, 1.0, 2.0, 3.0, 0.6, 1.4, 1 / 3]), st.floats(0.3125, 3, width=32))
        constants["scales"], names[2] = np.array([draw(scale) for _ in axes], np.float32), "scales"
    dtype = draw(st.sampled_from(["float32", "int32", "uint8"])) if mode == "nearest" else "float32"
    return helper.make_node("Resize", names, ["y"], **attributes), rng.integers(0, 100, shape).astype(dtype), constants


def compare(node: Any, x: Array, constants: dict[str, Array]) -> None:
    try:
        proto = model(node, {"x": x}, constants)
        expected = oracle.run(proto, {"x": x})
    except QCompilerError:
        assume(False)
    assume(all(extent > 0 for extent in expected["y"].shape))
    if tuple(d.dim_value for d in proto.graph.output[0].type.tensor_type.shape.dim) != expected["y"].shape:
        with pytest.raises(UnsupportedModel, match="of which onnxruntime makes"):
            Region(proto)
        return
    nearest = next(a for a in node.attribute if a.name == "mode").s == b"nearest"
    check(proto, {"x": x}, tolerance=0 if nearest else 1e-5)


@few
@given(resizes())
def test_resize(case: tuple[Any, Array, dict[str, Array]]) -> None:
    compare(*case)


@pytest.mark.slow
@many
@given(resizes())
def test_resize_in_many_shapes(case: tuple[Any, Array, dict[str, Array]]) -> None:
    compare(*case)


@pytest.mark.parametrize("transformation", [name for name in TRANSFORMATIONS if name != "tf_crop_and_resize"])
def test_nearest_neighbours(transformation: str) -> None:
    """Every way to round, at scales where the last bit decides, in one region."""
    x = np.arange(18, dtype=np.float32).reshape(2, 9)
    constants = {f"s{i}": np.array([1, scale], np.float32) for i, scale in enumerate(SCALES)}
    attributes = {"mode": "nearest", "coordinate_transformation_mode": transformation}
    nodes = [
        helper.make_node("Resize", ["x", "", scales], [f"{mode}_{scales}"], nearest_mode=mode, **attributes)
        for mode in NEAREST_MODES
        for scales in constants
    ]
    proto = model(nodes, {"x": x}, constants)
    made = oracle.run(proto, {"x": x})
    inferred = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in proto.graph.output}
    same = [node for node in nodes if made[node.output[0]].shape == inferred[node.output[0]]]
    assert len(same) > 50
    check(model(same, {"x": x}, constants), {"x": x}, cuts=(1,))
