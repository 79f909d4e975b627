"""Indices of four bits (AVX2), each in a byte of its own or two in one: the same sums, and where each of them is."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Constants
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.x86 import TARGET, table_lookups
from qcompiler.targets.x86.code_lookups import CodeLookups
from qcompiler.targets.x86.widened_nibbles import WidenedNibbles
from tests.targets.problems import RUNNABLE, by_reduction, results
from tests.targets.test_reductions import layer

(AVX2,) = TARGET.variants(["avx2"])
CODES = {
    "2 x 1 bits": layer(70, 64, 4, 6, 3, Codes(0, 3), BINARY),
    "2 x 2 bits": layer(33, 96, 3, 5, 2, Codes(-2, 1), Codes(-2, 1)),
    "2 x 2 bits of odd numbers, 1x1": layer(64, 64, 4, 6, 1, Codes(0, 3), Codes(-3, 3, 2)),
}
NIBBLES = {
    "4 x 1 bits": layer(70, 48, 5, 9, 3, Codes(0, 15), BINARY, "tables"),
    "4 x 2 bits, sixteen channels": layer(16, 33, 4, 6, 2, Codes(0, 15), Codes(-2, 1), "tables"),
    "8 x 1 bits": layer(48, 50, 3, 6, 2, Codes(0, 255), BINARY, "tables"),
}


def kernels(problem: Conv2d) -> list[DirectConv2d]:
    return [each for kind in (CodeLookups, WidenedNibbles) for each in by_reduction(AVX2, problem, kind)]


def weight_bytes(problem: Conv2d) -> int:
    """Of the first kernel."""
    low, high = problem.weights.low, problem.weights.high
    shape = problem.out_channels, problem.x.c // problem.groups, *problem.kernel
    values = np.random.default_rng(0).integers(0, 2, shape) * (high - low) + low
    return kernels(problem)[0].pack(Constants(weights=values.astype(np.float32)))[0].nbytes


@pytest.mark.skipif(AVX2.name not in {each.name for each in RUNNABLE}, reason="this processor has no AVX2")
@pytest.mark.parametrize("apart", [True, False], ids=["apart", "two in a byte"])
@pytest.mark.parametrize("problem", [*CODES.values(), *NIBBLES.values()], ids=[*CODES, *NIBBLES])
def test_every_tiling(problem: Conv2d, apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_lookups, "_MOST_IN_NIBBLES", 2**18 if apart else 0)
    offered = kernels(problem)
    assert offered and all(("_apart_" in each.name) == apart for each in offered)
    for each in offered:
        for got, expected in results(each, AVX2, problem, 1):
            np.testing.assert_array_equal(got, expected, err_msg=each.name)


@pytest.mark.parametrize("problem", [*CODES.values(), *NIBBLES.values()], ids=[*CODES, *NIBBLES])
def test_bytes(problem: Conv2d, monkeypatch: pytest.MonkeyPatch) -> None:
    apart = weight_bytes(problem)
    monkeypatch.setattr(table_lookups, "_MOST_IN_NIBBLES", 0)
    assert apart == 2 * weight_bytes(problem)


def test_many_weights_share_bytes() -> None:
    def is_apart(channels: int) -> bool:
        made = layer(channels, 512, 7, 7, 3, Codes(0, 3), Codes(-2, 1))
        return all("_apart_" in each.name for each in kernels(made))

    assert [is_apart(channels) for channels in (128, 224, 256)] == [True, True, False]
