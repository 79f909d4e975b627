"""Tiles of 1x1 convolutions go on where a row of an image ends, where registers hold few pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.walk import in_one_row, walk
from qcompiler.targets.x86 import TARGET, X86Variant

NONE, EDGE = Halo(), Halo(1, 1, 1, 1)
PLAIN = Buffer(1, 7, 7, 64, "float32")
CODES = replace(PLAIN, element=Codes(0, 255), packing="bytes")


def layer(x: Buffer, into: Halo = NONE, **more: object) -> Conv2d:
    return Conv2d(x, 64, (1, 1), epilogue=(Operation("store", into=replace(PLAIN, halo=into)),), **more)


@pytest.mark.parametrize("x", [PLAIN, CODES], ids=["floats", "bytes"])
@pytest.mark.parametrize("into", [NONE, EDGE], ids=["plain", "halo"])
@pytest.mark.parametrize("variant", TARGET.variants(["avx2", "baseline"]), ids=lambda v: v.name)
def test_an_image_takes_no_more_tiles_than_its_pixels_fill(variant: X86Variant, x: Buffer, into: Halo) -> None:
    kernels = [each for each in variant.kernels(layer(x, into)) if isinstance(each, DirectConv2d)]
    if x is PLAIN:
        # that divide no row
        assert {each.frame.tiling.pixels for each in kernels} - {1, 7}
    for each in kernels:
        grid, tiling = each.frame.grid, each.frame.tiling
        assert grid.tiles * tiling.pixels - 49 < tiling.pixels
        assert each.items == grid.runs * -(-grid.tiles // tiling.segment)


@pytest.mark.parametrize("variant", TARGET.variants(["avx512bw", "avx512vpopcntdq"]), ids=lambda v: v.name)
def test_rows_stay_apart_where_a_tile_has_fourteen_pixels(variant: X86Variant) -> None:
    kernels = [each for each in variant.kernels(layer(PLAIN)) if isinstance(each, DirectConv2d)]
    assert kernels and all(walk(each.problem) == (7, 7) for each in kernels)


def test_rows_stay_apart_where_pixels_have_neighbours_or_a_halo_between_them() -> None:
    assert walk(in_one_row(layer(PLAIN))) == (1, 49)
    for problem in (
        layer(replace(PLAIN, halo=Halo(0, 0, 0, 1))),
        layer(PLAIN, strides=(2, 1)),
        layer(PLAIN, pads=(0, 1, 0, 0), padding="kernel"),
        replace(layer(PLAIN), kernel=(1, 2)),
        layer(replace(CODES, packing="pixels", element=Codes(0, 1))),
    ):
        assert in_one_row(problem) == problem and walk(problem) == problem.out_hw
