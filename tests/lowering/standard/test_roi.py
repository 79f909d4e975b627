"""RoiAlign against onnxruntime, and regions of images that are not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.lowering.region import Region, check, model

RNG = np.random.default_rng(3)


def inputs() -> dict[str, Any]:
    starts = RNG.uniform(-2, 6, (7, 2))
    rois = np.concatenate([starts, starts + RNG.uniform(0.2, 9, (7, 2))], 1).astype(np.float32)
    x = RNG.standard_normal((2, 3, 8, 6)).astype(np.float32)
    return {"x": x, "r": rois, "b": RNG.integers(0, 2, 7)}


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
def test_roi_align(mode: str, ratio: int, transformation: str) -> None:
    node = helper.make_node(
        "RoiAlign",
        ["x", "r", "b"],
        ["y"],
        mode=mode,
        sampling_ratio=ratio,
        coordinate_transformation_mode=transformation,
        output_height=3,
        output_width=2,
        spatial_scale=0.8,
    )
    given = inputs()
    check(model(node, given), given, tolerance=2e-6)


def test_a_region_of_no_image_is_a_fault() -> None:
    given = inputs()
    node = helper.make_node("RoiAlign", ["x", "r", "b"], ["y"], output_height=3, output_width=2)
    region = Region(model(node, given))
    for image in (2, -1, 2**40):
        given["b"][3] = image
        with pytest.raises(IndexError):
            region.run(given)


@pytest.mark.parametrize("coordinate", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_coordinates_of_any_size_read_inside(coordinate: float) -> None:
    given = inputs()
    for ratio in (0, 2):
        node = helper.make_node("RoiAlign", ["x", "r", "b"], ["y"], sampling_ratio=ratio)
        region = Region(model(node, given))
        for position in range(4):
            given["r"][:, position] = coordinate
            region.run(given)
