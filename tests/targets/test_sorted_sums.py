"""Products of bytes by vpmaddubsw where it is exact, and by vpmaddwd elsewhere (AVX2), against numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import Codes
from qcompiler.targets import reference
from qcompiler.targets.choose import chosen
from qcompiler.targets.problem import Conv2d, mostly_small
from qcompiler.targets.target import Constants
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from qcompiler.targets.x86 import sorted_sums
from qcompiler.targets.x86.sorted_sums import PatchSorted, SortedSums
from tests.targets.problems import RUNNABLE, by_reduction, check_one, epilogues, results
from tests.targets.test_pair_sums import layer
from tests.targets.test_reductions import check_largest

AVX2 = [variant for variant in RUNNABLE if variant.name == "avx2"]
pytestmark = pytest.mark.skipif(not AVX2, reason="this processor has no AVX2")

INPUTS = [Codes(0, 255), Codes(-128, 127), Codes(-255, 255, 2), Codes(0, 190)]
WEIGHTS = Codes(-128, 127)


def small(*given: int, **more: object) -> Conv2d:
    x = more.pop("x", INPUTS[0])
    return dataclasses.replace(layer(*given, x, WEIGHTS, **more), mostly_small=True)


def padded_with_zero(problem: Conv2d) -> Conv2d:
    """Whose tiles leave out kernel rows in the padding."""
    return dataclasses.replace(problem, x=dataclasses.replace(problem.x, halo_value=0.0), pad_value=0.0)


def kernels(problem: Conv2d) -> list[DirectConv2d]:
    return by_reduction(AVX2[0], problem, SortedSums)


def drawn(problem: Conv2d, spread: float, seed: int = 0) -> Constants:
    """Weights of a normal distribution."""
    shape = (problem.out_channels, problem.x.c // problem.groups, *problem.kernel)
    weights = np.random.default_rng(seed).standard_normal(shape) * spread
    return Constants(weights=np.rint(weights).clip(WEIGHTS.low, WEIGHTS.high).astype(np.float32))


def check(kernel: DirectConv2d, made: Constants, x: npt.NDArray[np.float32] | float) -> None:
    """What a kernel computes of inputs, or of one number in all places, with given weights."""
    problem = kernel.problem
    logical = np.broadcast_to(np.float32(x), (problem.x.n, problem.x.c, problem.x.h, problem.x.w))
    stored = aligned(reference.store(problem.x, logical))
    outputs, runner = empty_outputs(problem), KernelRunner(kernel, AVX2[0], made)
    runner.call(runner.bind(stored, [], outputs), 0, runner.items)
    (expected,) = reference.run(problem, stored, made, [])
    np.testing.assert_array_equal(outputs[0], expected, err_msg=kernel.name)


@pytest.mark.parametrize(
    ("x", "spread"), [*zip(INPUTS, (32, 90, 25, 8), strict=True)], ids=["few", "most", "step", "none"]
)
def test_every_tiling(x: Codes, spread: float) -> None:
    """Where few pairs may overflow, most, or none."""
    for problem in (small(70, 96, 6, x=x), small(96, 48, 7, kernel=1, x=x), padded_with_zero(small(33, 40, 5)),
                    small(3, 40, 9, kernel=5, x=x)):  # fmt: skip
        offered = kernels(problem)
        assert len({each.frame.tiling.pixels for each in offered}) > 3
        assert any(isinstance(each.reduction, PatchSorted) for each in offered) == (problem.x.c == 3)
        for kernel in offered:
            for got, expected in results(kernel, AVX2[0], problem, 1, made=drawn(problem, spread)):
                np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@pytest.mark.parametrize("x", INPUTS, ids=lambda codes: f"{codes.low}to{codes.high}")
def test_the_largest_sums(x: Codes) -> None:
    for kernel in kernels(small(500, 32, 4, kernel=1, x=x)):
        check_largest(kernel, AVX2[0], KernelRunner)


@pytest.mark.parametrize("pair", [(64, 64), (64, 65), (127, 1), (127, 2), (-64, -64), (-64, -65), (-128, 0), (-128, -1),
                                  (127, -128), (-1, 127)])  # fmt: skip
def test_the_largest_inputs_at_the_edge_of_sixteen_bits(pair: tuple[int, int]) -> None:
    """One pair of every step in one channel, in either place of its word."""
    problem = small(16, 32, 4, kernel=1)
    for place in (0, 2):
        weights = np.ones((32, 16, 1, 1), np.float32)
        weights[13, place::4, 0, 0], weights[13, place + 1 :: 4, 0, 0] = pair
        for kernel in kernels(problem):
            check(kernel, Constants(weights=weights), 255)
            _, _, turns, _ = kernel.pack(Constants(weights=weights))[:4]
            overflows = abs(sum(pair)) > 128
            assert turns.reshape(-1).tolist() == [0 if overflows else 2, 2]


def test_a_limit_that_is_off_by_one_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = sorted_sums.may_overflow
    monkeypatch.setattr(sorted_sums, "may_overflow", lambda pairs, most: exact(pairs, most - 2))
    weights = np.full((32, 16, 1, 1), 1, np.float32)
    weights[:, 0], weights[:, 1] = 65, 64
    (kernel, *_) = kernels(small(16, 32, 4, kernel=1))
    with pytest.raises(AssertionError):
        check(kernel, Constants(weights=weights), 255)


def test_a_step_that_is_done_twice_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = small(32, 32, 4)
    (kernel, *_) = kernels(problem)
    made = drawn(problem, 25)
    x = np.random.default_rng(0).integers(0, 256, (1, 32, 4, 4)).astype(np.float32)
    check(kernel, made, x)
    pack = SortedSums.pack

    def wrong(sums: SortedSums, frame: object, weights: object) -> object:
        words, order, pairs, places = pack(sums, frame, weights)
        order[0, 0, 1] = order[0, 0, 0]
        return [words, order, pairs, places]

    monkeypatch.setattr(SortedSums, "pack", wrong)
    with pytest.raises(AssertionError):
        check(kernel, made, x)


@pytest.mark.parametrize("zero", [False, True], ids=["one part", "kernel rows"])
def test_lists_name_every_step_once(zero: bool) -> None:
    problem = small(70, 40, 6)
    problem = padded_with_zero(problem) if zero else problem
    (kernel, *_) = kernels(problem)
    made = drawn(problem, 36)
    _, order, pairs, places, *_ = kernel.pack(made)
    parts, steps = (3 if zero else 1), 9 * 18
    assert order.shape == (3, parts, steps // parts) and pairs.shape == (3, parts) and places.shape == (steps,)
    for part in range(parts):
        rows = np.arange(steps).reshape(parts, -1)[part]
        assert (np.sort(order[:, part]) == rows).all()
    assert 0 < pairs.sum() * 2 < order.size
    held = kernel.frame.geometry.weight_lanes(made.weights).view(np.int8).reshape(3, steps, 16, 2, 2).astype(int)
    sums = np.maximum(held, 0).sum(axis=-1), np.minimum(held, 0).sum(axis=-1)
    large = ((sums[0] > 128) | (sums[1] < -128)).any(axis=(2, 3))
    for block in range(3):
        for part in range(parts):
            assert not large[block, order[block, part, : 2 * pairs[block, part]]].any()
            assert large[block, order[block, part, 2 * pairs[block, part] + 1 :]].all()


@st.composite
def layers(draw: st.DrawFn) -> Conv2d:
    inputs, outputs = draw(st.sampled_from([(3, 20), (8, 64), (33, 48), (128, 32), (40, 130)]))
    x, kernel, groups = (draw(st.sampled_from(each)) for each in (INPUTS, [1, 3, 5], [1, 2 - inputs % 2]))
    problem = small(inputs, outputs, draw(st.integers(1, 9)), x=x, kernel=kernel, groups=groups)
    if problem.x.codes is not None and problem.x.codes.low == 0 and draw(st.booleans()):
        problem = padded_with_zero(problem)
    return dataclasses.replace(
        problem, epilogue=draw(epilogues(1, *problem.out_hw, outputs, threshold=True, wide=True))
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=layers(), seed=st.integers(0, 2**31))
def test_layers(problem: Conv2d, seed: int) -> None:
    check_one(kernels(problem), AVX2[0], problem, seed)


def test_others_are_left_to_words_and_bytes() -> None:
    problem = small(64, 64, 6)
    assert kernels(problem) and "sorted" in chosen(AVX2[0], problem).kernel.name
    assert not kernels(dataclasses.replace(problem, mostly_small=False))
    assert not kernels(dataclasses.replace(problem, centred=True))
    assert not kernels(dataclasses.replace(problem, weights=Codes(-64, 63)))
    # few rows, whose weights are read for few products
    assert not kernels(small(64, 64, 1, kernel=1))
    # two bytes name more steps than sums of 32 bits have
    most = 2**31 // (128 * 128 * 4)
    assert most < 2**16 and not kernels(small(4 * most + 4, 16, 4, kernel=1, x=Codes(0, 128)))


@pytest.mark.parametrize(("spread", "are"), [(20, True), (30, True), (70, False)])
def test_which_weights_are_mostly_small(spread: float, are: bool) -> None:
    made = drawn(small(64, 40, 6), spread)
    assert made.weights is not None and mostly_small(made.weights) == are


def test_the_share_of_large_pairs_decides() -> None:
    """Of ten steps of sixteen channels four may have a pair beyond 128, of either sign and in either place."""
    for count, are in ((4, True), (5, False)):
        for low, high, place in ((64, 65, 0), (-64, -65, 2), (127, 2, 2)):
            weights = np.zeros((16, 40, 1, 1), np.float32)
            weights[3, place : 4 * count : 4, 0, 0], weights[3, place + 1 : 4 * count : 4, 0, 0] = low, high
            assert mostly_small(weights) == are
    # neighbours are of one pair or of two
    apart = np.zeros((16, 40, 1, 1), np.float32)
    apart[:, 1::4], apart[:, 2::4] = 127, 127
    assert mostly_small(apart)
