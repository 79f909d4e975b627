"""Lookups of whole kernel rows: any shape against numpy, and sums that just fit their bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets import reference
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Constants, Kernel
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from qcompiler.targets.vector.sum_finish import SumFinish
from qcompiler.targets.x86 import X86Variant, lookup_sums
from qcompiler.targets.x86.lookup_sums import ColumnLookups, fits_sums
from tests.targets.problems import RUNNABLE, results
from tests.targets.test_reductions import check_largest

WIDE = [variant for variant in RUNNABLE if variant.isa.vector_bytes == 64]
pytestmark = pytest.mark.skipif(not WIDE, reason="the processor has no AVX-512")

ACTIVATIONS = [Codes(0, 3), Codes(-2, 1), Codes(0, 7), Codes(-3, 3, 2)]
WEIGHTS = [BINARY, Codes(-1, 1), Codes(-2, 1), Codes(-3, 3, 2)]


def windows(
    x: Codes, weights: Codes, channels: int, blocks: int, size: tuple[int, int],
    kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1), pad: int = 2,
) -> Conv2d:  # fmt: skip
    """A border of `pad` pixels of the lowest code."""
    border = (pad, pad, pad, pad)
    held = Buffer(1, *size, channels, x, halo=Halo(*border), halo_value=float(x.low))
    found = Conv2d(held, 16 * blocks, kernel, stride, border, dilation, pad_value=float(x.low), weights=weights)
    return dataclasses.replace(
        found, epilogue=(Operation("store", into=Buffer(1, *found.out_hw, 16 * blocks, "float32")),)
    )


def compared(problem: Conv2d, into: Codes) -> Conv2d:
    """With thresholds that make bit planes."""
    planes = Buffer(1, *problem.out_hw, problem.out_channels, into)
    return dataclasses.replace(problem, epilogue=(Operation("threshold", into=planes),))


def columns(problem: Conv2d, variant: X86Variant | None = None) -> list[Kernel]:
    return [kernel for kernel in (variant or WIDE[0]).kernels(problem) if kernel.name.startswith(ColumnLookups.family)]


pairs = st.tuples(st.integers(1, 3), st.integers(1, 2))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_layer(data: st.DataObject) -> None:
    taps = data.draw(st.tuples(st.integers(1, 3), st.integers(2, 4)))
    stride, dilation = data.draw(pairs), data.draw(pairs)
    size = tuple(d * (k - 1) + data.draw(st.integers(2, 7)) for k, d in zip(taps, dilation, strict=True))
    x, weights = data.draw(st.sampled_from(ACTIVATIONS)), data.draw(st.sampled_from(WEIGHTS))
    channels, blocks = data.draw(st.sampled_from([20, 32, 60, 64, 100, 128])), data.draw(st.sampled_from([4, 8, 12]))
    variant = data.draw(st.sampled_from(WIDE))
    found = columns(windows(x, weights, channels, blocks, size, taps, stride, dilation), variant)
    if found:
        kernel = data.draw(st.sampled_from(found))
        for got, expected in results(kernel, variant, kernel.problem, data.draw(st.integers(0, 99))):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@pytest.mark.parametrize("weights", [BINARY, Codes(-2, 1)], ids=["w1", "w2"])
@pytest.mark.parametrize("x", [Codes(0, 3), Codes(0, 7)], ids=["a2", "a3"])
def test_every_tiling(x: Codes, weights: Codes) -> None:
    found = columns(windows(x, weights, 128, 8, (4, 9), (3, 3)))
    assert len(found) > 2
    for kernel in found:
        for got, expected in results(kernel, WIDE[0], kernel.problem, 1):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_two_blocks_are_compared_at_once(data: st.DataObject) -> None:
    x, weights = data.draw(st.sampled_from(ACTIVATIONS)), data.draw(st.sampled_from(WEIGHTS))
    into = data.draw(st.sampled_from([BINARY, Codes(0, 3), Codes(-3, 3, 2), Codes(-2, 4)]))
    layer = windows(x, weights, data.draw(st.sampled_from([20, 64, 96])), 4, (4, 6), (2, 3), pad=1)
    outputs = data.draw(st.sampled_from([60, 64, 100, 128, 200]))
    layer = compared(dataclasses.replace(layer, out_channels=outputs, pad_value=0.0), into)
    found = [kernel for kernel in WIDE[0].kernels(layer) if "lookup_" in kernel.name]
    kernel = data.draw(st.sampled_from(found))
    assert isinstance(kernel, DirectConv2d) and isinstance(kernel.finish, SumFinish) and kernel.finish.blocks == 2
    for got, expected in results(kernel, WIDE[0], layer, data.draw(st.integers(0, 99))):
        np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@pytest.mark.parametrize("weights", [BINARY, Codes(-2, 1)], ids=["unsigned", "signed"])
@pytest.mark.parametrize("x", [Codes(0, 3), Codes(-3, 3, 2)], ids=["step 1", "step 2"])
def test_limits_at_the_ends_of_sixteen_bits(x: Codes, weights: Codes) -> None:
    words = 681 if weights == BINARY else 170
    layer = compared(windows(x, weights, 32 * words, 4, (1, 4), (1, 1), pad=0), Codes(0, 3))
    assert fits_sums(layer, words) and not fits_sums(layer, words + 2)
    kernel = next(kernel for kernel in WIDE[0].kernels(layer) if "lookup_" in kernel.name)
    random, shape = np.random.default_rng(0), (64, 32 * words, 1, 1)
    made = np.where(np.arange(64) % 2, weights.low, weights.high)[:, None, None, None]
    sums = made[:, 0, 0, 0] * 32 * words * np.where(np.arange(64) % 4 < 2, x.low, x.high)
    turns = random.choice([-1.0, 1.0], size=64).astype(np.float32)
    never = np.full(64, 1e9)
    limits = np.stack([-never, sums + random.integers(-1, 2, 64), never])
    limits = np.where(turns > 0, limits, limits[::-1]).astype(np.float32)
    constants = Constants(np.broadcast_to(made, shape).astype(np.float32), limits, turns)
    held = np.full((1, 32 * words, 1, 4), x.low, np.float32)
    held[..., ::2] = x.high
    outputs = empty_outputs(layer)
    runner = KernelRunner(kernel, WIDE[0], constants)
    given_x = aligned(reference.store(layer.x, held))
    runner.call(runner.bind(given_x, [], outputs), 0, runner.items)
    np.testing.assert_array_equal(outputs[0], reference.run(layer, given_x, constants, [])[0])


def check_largest_sums(x: Codes, taps: int) -> None:
    for kernel in columns(windows(x, BINARY, 64, 4, (3, 8), (1, taps), pad=0))[:1]:
        assert isinstance(kernel, DirectConv2d)
        check_largest(kernel, WIDE[0], KernelRunner)


@pytest.mark.parametrize("taps", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("x", [Codes(0, 3), Codes(0, 7)], ids=["a2", "a3"])
def test_bytes_hold_the_largest_sums(x: Codes, taps: int) -> None:
    assert bool(columns(windows(x, BINARY, 64, 4, (3, 8), (1, taps)))) == (taps * 6 * x.high <= 255)
    check_largest_sums(x, taps)


def test_one_lookup_too_many_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    together = lookup_sums.lookups_together
    monkeypatch.setattr(lookup_sums, "lookups_together", lambda problem: together(problem) + 1)
    with pytest.raises(AssertionError):
        check_largest_sums(Codes(0, 3), 3)
