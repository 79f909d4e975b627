"""Lookups of whole codes (AVX2): any shape and every tiling against numpy, and sums that just fit their bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.kernel_runner import KernelRunner
from qcompiler.targets.x86 import code_lookups
from qcompiler.targets.x86.code_lookups import Codebook, CodeLookups
from qcompiler.targets.x86.lookup_sums import WideSums
from tests.targets.problems import RUNNABLE, epilogues, results
from tests.targets.test_lookup_columns import windows
from tests.targets.test_reductions import check_largest

AVX2 = [variant for variant in RUNNABLE if variant.name == "avx2"]
pytestmark = pytest.mark.skipif(not AVX2, reason="this processor has no AVX2")

ACTIVATIONS = [Codes(0, 3), Codes(-2, 1), Codes(-3, 3, 2), Codes(0, 7), Codes(-7, 7, 2)]
WEIGHTS = [BINARY, Codes(0, 1), Codes(-1, 1), Codes(-2, 1), Codes(0, 3), Codes(-3, 3, 2)]
WIDTHS = [(x, weights) for x in ACTIVATIONS[:4] for weights in WEIGHTS]
ALL_TILINGS = [
    (Codes(0, 3), BINARY),
    (Codes(0, 3), Codes(-2, 1)),
    (Codes(-3, 3, 2), Codes(-3, 3, 2)),
    (Codes(0, 7), Codes(-1, 1)),
]
pairs = st.tuples(st.integers(1, 3), st.integers(1, 2))


def lookups(problem: Conv2d) -> list[DirectConv2d]:
    found = [each for each in AVX2[0].kernels(problem) if isinstance(each, DirectConv2d)]
    return [each for each in found if isinstance(each.reduction, CodeLookups)]


def serves(x: Codes, weights: Codes, taps: int) -> bool:
    """Whether there are kernels: rows have 256 entries at most, and bytes hold the sums of a lookup of all taps."""
    inputs = 4 if weights.levels == 2 else 2
    ends = [a * w for a in (0, x.levels - 1) for w in (0 if weights.low > 0 else weights.low, weights.high, 0)]
    if weights == BINARY or weights.step == 2:
        ends = [0, (x.levels - 1) * (weights.high if weights.step == 2 else 1)]
    return inputs * x.bits <= 8 and inputs * taps * (max(ends) - min(ends)) <= 255


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_layer(data: st.DataObject) -> None:
    taps = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    stride, dilation = data.draw(pairs), data.draw(pairs)
    size = tuple(d * (k - 1) + data.draw(st.integers(2, 7)) for k, d in zip(taps, dilation, strict=True))
    x, weights = data.draw(st.sampled_from(ACTIVATIONS)), data.draw(st.sampled_from(WEIGHTS))
    channels, blocks = data.draw(st.sampled_from([3, 20, 32, 60, 64, 100])), data.draw(st.sampled_from([2, 4, 6, 12]))
    layer = windows(x, weights, channels, blocks, size, taps, stride, dilation)
    if data.draw(st.booleans()):
        outputs = 16 * blocks - data.draw(st.integers(0, 15))
        layer = dataclasses.replace(layer, out_channels=outputs)
        ends = epilogues(1, *layer.out_hw, outputs, threshold=True, wide=True)
        layer = dataclasses.replace(layer, epilogue=data.draw(ends))
    found = lookups(layer)
    if found:
        kernel = data.draw(st.sampled_from(found))
        with np.errstate(all="ignore"):
            for got, expected in results(kernel, AVX2[0], kernel.problem, data.draw(st.integers(0, 99))):
                np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@pytest.mark.parametrize(("x", "weights"), WIDTHS, ids=lambda codes: f"{codes.low}to{codes.high}by{codes.step}")
def test_every_tiling(x: Codes, weights: Codes) -> None:
    """With a border, whose rows are left out where its code adds nothing, and where it adds something."""
    found = lookups(windows(x, weights, 70, 8, (3, 8), (3, 3)))
    assert bool(found) == serves(x, weights, 3)
    for kernel in found if (x, weights) in ALL_TILINGS else found[:: max(1, len(found) - 1)]:
        for got, expected in results(kernel, AVX2[0], kernel.problem, 1):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


def test_groups() -> None:
    """Groups that whole vectors of channels and whole words of inputs belong to."""
    halo = Halo(1, 1, 1, 1)
    held = Buffer(1, 5, 6, 128, Codes(0, 3), halo=halo, halo_value=0.0, groups=2)
    layer = Conv2d(held, 128, (3, 3), (1, 1), (1, 1, 1, 1), groups=2, weights=Codes(-2, 1))
    store = Operation("store", into=Buffer(1, *layer.out_hw, 128, "float32"))
    found = lookups(dataclasses.replace(layer, epilogue=(store,)))
    assert found
    for kernel in found:
        for got, expected in results(kernel, AVX2[0], kernel.problem, 2):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


def check_largest_sums(x: Codes, weights: Codes, taps: int) -> None:
    for kernel in lookups(windows(x, weights, 64, 4, (3, 8), (1, taps), pad=0))[:1]:
        for lowest in (False, True):
            check_largest(kernel, AVX2[0], KernelRunner, lowest)


@pytest.mark.parametrize("taps", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda codes: f"{codes.low}to{codes.high}by{codes.step}")
def test_bytes_hold_the_largest_sums(weights: Codes, taps: int) -> None:
    layer = windows(Codes(0, 3), weights, 64, 4, (3, 8), (1, taps))
    assert bool(lookups(layer)) == serves(Codes(0, 3), weights, taps)
    check_largest_sums(Codes(0, 3), weights, taps)


def test_one_lookup_too_many_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    together = Codebook.together.fget
    assert together is not None
    monkeypatch.setattr(Codebook, "together", property(lambda book: together(book) + 1))
    with pytest.raises(AssertionError):
        check_largest_sums(Codes(0, 3), Codes(-2, 1), 3)


def test_a_wrong_start_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums start below 0 by what counting entries from the least adds."""
    monkeypatch.setattr(code_lookups, "WideSums", lambda width, times, less: WideSums(width, times, less + 1))
    with pytest.raises(AssertionError):
        check_largest_sums(Codes(0, 3), Codes(-2, 1), 3)


def test_a_wrong_entry_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Codebook.products

    def wrong(book: Codebook) -> npt.NDArray[np.int64]:
        table = right(book)
        table[5, 6] += 1
        return table

    monkeypatch.setattr(Codebook, "products", wrong)
    (kernel, *_) = lookups(windows(Codes(0, 3), Codes(-2, 1), 64, 4, (3, 8), (3, 3)))
    with pytest.raises(AssertionError):
        for got, expected in results(kernel, AVX2[0], kernel.problem, 1):
            np.testing.assert_array_equal(got, expected)
