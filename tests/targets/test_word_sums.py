"""Products of bytes by vpmaddwd with four inputs side by side (AVX2) against numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Constants
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.kernel_runner import KernelRunner
from qcompiler.targets.x86.word_sums import WordSums
from tests.targets.problems import RUNNABLE, by_reduction, check_one, epilogues, results
from tests.targets.test_pair_sums import layer
from tests.targets.test_reductions import check_largest

AVX2 = [variant for variant in RUNNABLE if variant.name == "avx2"]
pytestmark = pytest.mark.skipif(not AVX2, reason="this processor has no AVX2")

INPUTS = [Codes(0, 255), Codes(-128, 127), Codes(-255, 255, 2)]
WEIGHTS = Codes(-128, 127)


def words(problem: Conv2d) -> list[DirectConv2d]:
    return by_reduction(AVX2[0], problem, WordSums)


@pytest.mark.parametrize("x", INPUTS, ids=lambda codes: f"{codes.low}to{codes.high}")
def test_every_tiling(x: Codes) -> None:
    offered = words(layer(70, 96, 6, x, WEIGHTS))
    assert len({(each.frame.tiling.pixels, each.frame.tiling.blocks) for each in offered}) > 3
    for kernel in offered:
        for got, expected in results(kernel, AVX2[0], kernel.problem, 1):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@pytest.mark.parametrize("x", INPUTS, ids=lambda codes: f"{codes.low}to{codes.high}")
def test_the_largest_sums(x: Codes) -> None:
    for kernel in words(layer(500, 32, 2, x, WEIGHTS, kernel=1)):
        check_largest(kernel, AVX2[0], KernelRunner)


@st.composite
def layers(draw: st.DrawFn) -> Conv2d:
    inputs, outputs = draw(st.sampled_from([(3, 20), (8, 64), (33, 48), (128, 32), (40, 130)]))
    problem = layer(inputs, outputs, draw(st.integers(1, 9)), draw(st.sampled_from(INPUTS)), WEIGHTS,
                    draw(st.sampled_from([1, 3, 5])))  # fmt: skip
    return dataclasses.replace(
        problem, epilogue=draw(epilogues(1, *problem.out_hw, outputs, threshold=True, wide=True))
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=layers(), seed=st.integers(0, 2**31))
def test_layers(problem: Conv2d, seed: int) -> None:
    check_one(words(problem), AVX2[0], problem, seed)


def test_every_product_counts() -> None:
    """One input and one weight at a time, in every place of a word and of a register."""
    problem = layer(8, 32, 1, INPUTS[0], WEIGHTS, kernel=1)
    for kernel in words(problem):
        for place in range(8):
            weights = np.zeros((32, 8, 1, 1), np.float32)
            weights[:, place, 0, 0] = np.arange(-16, 16)
            for got, expected in results(kernel, AVX2[0], problem, place, made=Constants(weights=weights)):
                np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


def test_others_are_left_to_bytes() -> None:
    assert words(layer(64, 64, 6, INPUTS[0], WEIGHTS))
    assert words(layer(64, 64, 6, INPUTS[0], WEIGHTS, groups=2))
    # bit planes of outputs, whose blocks have lanes that read different groups
    planes = Operation("threshold", into=Buffer(1, 6, 6, 64, Codes(0, 3)))
    assert not words(dataclasses.replace(layer(64, 64, 6, INPUTS[0], WEIGHTS, groups=8), epilogue=(planes,)))
    assert not words(dataclasses.replace(layer(64, 64, 6, INPUTS[0], WEIGHTS), centred=True))
    assert not words(layer(64, 64, 6, INPUTS[0], Codes(-64, 63)))
