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
from qcompiler.lowering.standard.resize_taps import NEAREST_MODES, TRANSFORMATIONS
from tests.lowering.region import Region, check, model

Array = np.ndarray[Any, Any]

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
        with pytest.raises(UnsupportedModel, match="onnxruntime another number"):
            Region(proto)
        return
    nearest = next(a for a in node.attribute if a.name == "mode").s == b"nearest"
    check(proto, {"x": x}, tolerance=0 if nearest else 2e-6)


@few
@given(resizes())
def test_resize(case: tuple[Any, Array, dict[str, Array]]) -> None:
    compare(*case)


@pytest.mark.slow
@many
@given(resizes())
def test_resize_in_many_shapes(case: tuple[Any, Array, dict[str, Array]]) -> None:
    compare(*case)
