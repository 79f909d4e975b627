"""No inner loop of a tiling on offer for ARM touches the stack: of all widths, packings and kinds of cores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from benchmarks.arm_widths import WIDTHS, products
from benchmarks.inner_loops import assemblies, assembly, inner_loops
from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Halo, Packing
from qcompiler.targets.arm import TARGET, ArmVariant
from qcompiler.targets.arm.machine import ISAS
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Kernel

PACKINGS: tuple[Packing, ...] = ("planes", "bytes", "flips", "subsets")
# channels, size, kernel: runs of 32 inputs, an odd number of sixteen, fewer than those, one pixel
SHAPES = {"3x3": (64, 14, 3), "1x1": (48, 7, 1), "short runs": (40, 7, 3), "one pixel": (256, 1, 1)}
MORE = {"w6a6": (Codes(-32, 31), Codes(0, 63)), "w1a6": (Codes(-1, 1, 2), Codes(0, 63)),
        "w3a4": (Codes(-7, 7, 2), Codes(-8, 7))}  # fmt: skip
ALL_WIDTHS = {**WIDTHS, **MORE}
SAMPLE = ["w1a2", "w1a8", "w2a2", "w2a4, weights -3, -1, 1, 3", "w8a8"]


def layer(width: str, shape: str, packing: Packing) -> Conv2d:
    weights, codes = ALL_WIDTHS[width]
    channels, size, kernel = SHAPES[shape]
    pad = kernel // 2
    x = Buffer(1, size, size, channels, codes, halo=Halo(pad, pad, pad, pad), packing=packing)
    problem = Conv2d(x, 64, (kernel, kernel), pads=(pad,) * 4, weights=weights)
    if codes.binary and weights.binary:
        problem = dataclasses.replace(problem, x=dataclasses.replace(x, halo_value=-1.0))
    return dataclasses.replace(
        problem, epilogue=(Operation("store", into=Buffer(1, *problem.out_hw, problem.out_channels, "float32")),)
    )


def check(kernels: Sequence[Kernel], problem: Conv2d, variant: ArmVariant) -> None:
    for kernel, text in zip(kernels, assemblies(kernels, variant), strict=True):
        loops = [loop for loop in inner_loops(text) if products(problem, loop)]
        assert loops, kernel.name
        for loop in loops:
            assert loop.spills == 0, (kernel.name, loop.instructions)


@pytest.mark.parametrize("level", ["generic", "dotprod"])
@pytest.mark.parametrize("width", SAMPLE)
def test_no_inner_loop_of_what_is_taken_touches_the_stack(width: str, level: str) -> None:
    (variant,) = TARGET.variants([level])
    for packing in PACKINGS:
        problem = layer(width, "3x3", packing)
        check(variant.kernels(problem)[:2], problem, variant)


@pytest.mark.slow
@pytest.mark.parametrize("variant", TARGET.variants([isa.name for isa in ISAS if isa.wide]), ids=lambda v: v.name)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", ALL_WIDTHS)
def test_no_inner_loop_of_any_tiling_touches_the_stack(width: str, shape: str, variant: ArmVariant) -> None:
    for packing in PACKINGS:
        problem = layer(width, shape, packing)
        check(variant.kernels(problem), problem, variant)


def test_a_spill_is_found() -> None:
    (variant,) = TARGET.variants(["generic"])
    problem = layer("w1a4", "3x3", "flips")
    kernel = variant.kernels(problem)[0]
    text = assembly(kernel, variant).replace("\ttbl\t", "\tldr\tq0, [sp, #16]\n\ttbl\t", 1)
    assert text != assembly(kernel, variant)
    spilt = [loop.spills for loop in inner_loops(text) if products(problem, loop)]
    assert max(spilt) == 1
