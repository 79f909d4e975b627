"""Rows whose last tile is as short as what is left of them, against numpy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Element, Halo, Packing
from qcompiler.targets import arm, x86
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Variant
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.walk import walk
from tests.targets.problems import RUNNABLE, results
from tests.targets.test_reductions import layer

WIDTHS: dict[str, tuple[Element, Codes, Packing]] = {
    "float": ("float32", BINARY, "planes"),
    "w4a4": (Codes(0, 15), Codes(-8, 7), "bytes"),
    "w8a8": (Codes(0, 255), Codes(-128, 127), "bytes"),
    "w1a4": (Codes(0, 15), BINARY, "flips"),
}


def in_rows(width: str, outputs: int) -> Conv2d:
    """Rows of so many outputs, which see their neighbours."""
    element, weights, packing = WIDTHS[width]
    return layer(24, 40, 5, outputs + 2, 3, element, weights, packing)


def in_one_row(width: str) -> Conv2d:
    """55 outputs behind one another, with a border around them where they are stored."""
    element, weights, packing = WIDTHS[width]
    problem = layer(24, 40, 5, 11, 1, element, weights, packing)
    (store,) = problem.epilogue
    assert store.into is not None
    return dataclasses.replace(
        problem, epilogue=(dataclasses.replace(store, into=dataclasses.replace(store.into, halo=Halo(1, 1, 1, 1))),)
    )


def shortened(variant: Variant, problem: Conv2d) -> Iterator[DirectConv2d]:
    """All tilings that do not divide a row, with a short last tile, in segments of one tile, two, or all."""
    for place, kernel in enumerate(variant.kernels(problem)):
        if not isinstance(kernel, DirectConv2d) or walk(kernel.problem)[1] % kernel.frame.tiling.pixels == 0:
            continue
        segment = (1, 2, kernel.frame.grid.tiles)[place % 3]
        tiling = dataclasses.replace(kernel.frame.tiling, segment=segment, short=True)
        yield dataclasses.replace(kernel, frame=dataclasses.replace(kernel.frame, tiling=tiling))


def check(kernel: DirectConv2d, variant: Variant) -> None:
    for got, expected in results(kernel, variant, kernel.problem, 1, cuts=(1, kernel.items // 2)):
        np.testing.assert_array_equal(got, expected, err_msg=f"{kernel.name}, {kernel.frame.tiling}")


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_tiling(width: str, variant: x86.X86Variant) -> None:
    for problem in (in_rows(width, 11), in_one_row(width)):
        kernels = [each for each in shortened(variant, problem) if "plan" not in each.name]
        assert kernels
        for kernel in kernels:
            check(kernel, variant)


def test_a_pixel_too_few_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    variant = RUNNABLE[0]
    kernel = next(each for each in shortened(variant, in_rows("w4a4", 11)) if 11 % each.frame.tiling.pixels > 1)
    check(kernel, variant)
    right, whole = Frame.of_pixels, kernel.frame.tiling.pixels
    monkeypatch.setattr(Frame, "of_pixels", lambda frame, pixels: right(frame, pixels - (1 < pixels < whole)))
    with pytest.raises(AssertionError):
        check(kernel, variant)


@pytest.mark.parametrize("outputs", [7, 14, 56])
def test_where_registers_hold_few_pixels(outputs: int) -> None:
    """Products of bytes hide no latency, so that any rest is worth a tile of its own; sums of floats do."""
    few, many = x86.TARGET.variants(["avx2"])[0], (*x86.TARGET.variants(["avx512vpopcntdq"]), *arm.TARGET.variants(()))
    kernels = [each for each in few.kernels(in_rows("w4a4", outputs)) if isinstance(each, DirectConv2d)]
    assert any(each.frame.tiling.short for each in kernels)
    for each in few.kernels(in_rows("float", 7)):
        assert isinstance(each, DirectConv2d)
        assert not (each.frame.tiling.pixels == 4 and each.frame.tiling.short)
    for variant in many:
        for each in variant.kernels(in_rows("w4a4", outputs)):
            assert not isinstance(each, DirectConv2d) or not each.frame.tiling.short
