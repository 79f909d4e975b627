"""Weights of a single pixel lie for several blocks side by side: tiles hold some, all, or several times as many."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.targets import arm, x86
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Variant
from qcompiler.targets.vector.kernel_runner import KernelRunner
from qcompiler.targets.vector.reduction import Reduction
from tests.targets.emulated import EmulatedRunner, missing
from tests.targets.problems import RUNNABLE, by_reduction, results
from tests.targets.test_reductions import centred, layer

BYTES = Codes(0, 255)
LAYERS = {
    "floats": layer(30, 96, 1, 1, 1, "float32", BINARY),
    "floats, blocks apart": layer(30, 80, 1, 1, 1, "float32", BINARY),
    "floats, eight blocks": layer(30, 128, 1, 1, 1, "float32", BINARY),
    "floats of a window": layer(5, 96, 3, 3, 3, "float32", BINARY),
    "binary": layer(70, 96, 1, 1, 1, BINARY, BINARY),
    "ternary x 2 bits": layer(70, 96, 1, 1, 1, Codes(0, 3), Codes(-1, 1)),
    "2 x 2 bits": layer(70, 96, 1, 1, 1, Codes(0, 3), Codes(-2, 1)),
    "8 x 8 bits": layer(70, 96, 1, 1, 1, BYTES, Codes(-128, 127), "bytes"),
    "8 x 8 bits, eight blocks": layer(70, 128, 1, 1, 1, BYTES, Codes(-128, 127), "bytes"),
    "8 x 8 bits, centred": centred(layer(70, 96, 1, 1, 1, BYTES, Codes(-128, 127), "bytes")),
}


def check(variant: Variant, problem: Conv2d, make_runner: type[KernelRunner] | type[EmulatedRunner]) -> None:
    kernels = by_reduction(variant, problem, Reduction)
    assert kernels
    for kernel in kernels:
        for got, expected in results(kernel, variant, problem, 1, make_runner=make_runner):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
@pytest.mark.parametrize("problem", LAYERS.values(), ids=LAYERS)
def test_every_tile(problem: Conv2d, variant: x86.X86Variant) -> None:
    check(variant, problem, KernelRunner)


@pytest.mark.skipif(bool(missing("aarch64")), reason=f"missing Debian packages: {missing('aarch64')}")
@pytest.mark.parametrize("name", ["floats", "8 x 8 bits"])
@pytest.mark.parametrize("variant", arm.TARGET.variants(["i8mm", "dotprod", "generic"]), ids=lambda v: v.name)
def test_every_tile_on_arm(variant: arm.ArmVariant, name: str) -> None:
    check(variant, LAYERS[name], EmulatedRunner)


@pytest.mark.parametrize(
    ("cpu", "name", "expected"),
    [
        ("avx2", "floats", {(1, 3), (3, 3), (6, 3)}),
        ("avx2", "floats, blocks apart", {(blocks, 1) for blocks in range(1, 6)}),
        ("znver4", "floats, eight blocks", {(1, 4), (2, 4), (4, 4), (8, 4)}),
        ("znver4", "8 x 8 bits, eight blocks", {(1, 4), (2, 4), (4, 4), (8, 4)}),
    ],
)
def test_tiles_are_parts_and_multiples_of_what_lies_side_by_side(
    cpu: str, name: str, expected: set[tuple[int, int]]
) -> None:
    frames = [each.frame for each in by_reduction(x86.TARGET.variants([cpu])[0], LAYERS[name], Reduction)]
    assert {(frame.tiling.blocks, frame.geometry.interleave) for frame in frames} == expected
