"""Lookups of four inputs by AVX-512 VBMI and VNNI: every tiling, and sums of two of them that just fit a byte."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.kernel_runner import KernelRunner
from qcompiler.targets.x86.dotted_nibbles import DottedNibbles
from tests.targets.problems import RUNNABLE, results
from tests.targets.test_reductions import check_largest, layer

DOTTED = [variant for variant in RUNNABLE if variant.isa.vbmi and variant.isa.vnni]
pytestmark = pytest.mark.skipif(not DOTTED, reason="the processor has no AVX-512 VBMI or VNNI")


def kernels(x: Codes, weights: Codes, channels: int = 64) -> list[DirectConv2d]:
    found = DOTTED[0].kernels(layer(channels, 64, 3, 16, 3, x, weights, "tables"))
    return [each for each in found if isinstance(each, DirectConv2d) and isinstance(each.reduction, DottedNibbles)]


@pytest.mark.parametrize(
    ("x", "weights", "channels"),
    [(Codes(0, 15), BINARY, 33), (Codes(0, 15), Codes(-2, 1), 64), (Codes(-128, 127), BINARY, 50)],
    ids=["w1a4", "w2a4", "w1a8"],
)
def test_every_tiling(x: Codes, weights: Codes, channels: int) -> None:
    found = kernels(x, weights, channels)
    assert len(found) == 16
    for kernel in found:
        for got, expected in results(kernel, DOTTED[0], kernel.problem, 1):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@pytest.mark.parametrize("levels", [32, 33, 64, 65, 256])
def test_bytes_hold_the_largest_sums(levels: int) -> None:
    for weights in (BINARY, Codes(0, 1)):
        kernel = kernels(Codes(0, levels - 1), weights)[0]
        assert kernel.reduction.at_once(kernel.problem) == (levels not in (33, 64))
        check_largest(kernel, DOTTED[0], KernelRunner)


@pytest.mark.parametrize("weights", [BINARY, Codes(0, 1)], ids=["flips", "subsets"])
def test_one_level_too_many_does_not_pass(monkeypatch: pytest.MonkeyPatch, weights: Codes) -> None:
    monkeypatch.setattr(DottedNibbles, "at_once", lambda self, problem: True)
    with pytest.raises(AssertionError):
        check_largest(kernels(Codes(0, 32), weights)[0], DOTTED[0], KernelRunner)
