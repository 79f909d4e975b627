"""Lookups of whole codes (AVX2, VBMI): any shape and every tiling against numpy, and sums that just fit their bytes."""

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
from qcompiler.targets.x86 import X86Variant
from qcompiler.targets.x86.code_lookups import Codebook, CodeLookups
from tests.targets.problems import RUNNABLE, by_reduction, epilogues, results
from tests.targets.test_lookup_columns import compared, windows
from tests.targets.test_reductions import check_largest

VARIANTS = [variant for variant in RUNNABLE if variant.isa.vbmi or variant.name == "avx2"]
pytestmark = pytest.mark.skipif(not VARIANTS, reason="this processor has no AVX2")
on_each = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)

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


def lookups(problem: Conv2d, variant: X86Variant) -> list[DirectConv2d]:
    return by_reduction(variant, problem, CodeLookups)


def serves(x: Codes, weights: Codes, taps: int, variant: X86Variant) -> bool:
    """Whether there are kernels: rows have 256 entries at most, and bytes hold the sums of a lookup of all taps."""
    inputs = (6 if variant.isa.vbmi else 4) // (1 if weights.levels == 2 else 2)
    largest = inputs * taps * (x.levels - 1) * max(-weights.low, weights.high)
    return inputs * x.bits <= 8 and largest <= 255


def check(kernel: DirectConv2d, variant: X86Variant, seed: int) -> None:
    with np.errstate(all="ignore"):
        for got, expected in results(kernel, variant, kernel.problem, seed):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@on_each
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_layer(variant: X86Variant, data: st.DataObject) -> None:
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
    found = lookups(layer, variant)
    if found:
        check(data.draw(st.sampled_from(found)), variant, data.draw(st.integers(0, 99)))


@on_each
@pytest.mark.parametrize(("x", "weights"), WIDTHS, ids=lambda codes: f"{codes.low}to{codes.high}by{codes.step}")
def test_every_tiling(x: Codes, weights: Codes, variant: X86Variant) -> None:
    """With a border, whose rows are left out where its code adds nothing, and where it adds something."""
    found = lookups(windows(x, weights, 70, 8, (3, 8), (3, 3)), variant)
    assert bool(found) == serves(x, weights, 3, variant)
    for kernel in found if (x, weights) in ALL_TILINGS else found[:: max(1, len(found) - 1)]:
        check(kernel, variant, 1)


@on_each
@pytest.mark.parametrize("weights", [Codes(-2, 1), Codes(-3, 3, 2)], ids=["bits", "signs"])
def test_thresholds(weights: Codes, variant: X86Variant) -> None:
    """Sums that are compared; in 16 bits where vectors have 64 bytes."""
    into = Codes(0, 3)
    found = lookups(compared(windows(Codes(0, 3), weights, 70, 8, (3, 8), (3, 3)), into), variant)
    assert {kernel.reduction.sums == "int32" for kernel in found if isinstance(kernel.reduction, CodeLookups)} == {
        not variant.isa.vbmi
    }
    for kernel in found:
        check(kernel, variant, 3)


@on_each
def test_groups(variant: X86Variant) -> None:
    """Groups that whole vectors of channels and whole words of inputs belong to."""
    halo = Halo(1, 1, 1, 1)
    held = Buffer(1, 5, 6, 128, Codes(0, 3), halo=halo, halo_value=0.0, groups=2)
    layer = Conv2d(held, 128, (3, 3), (1, 1), (1, 1, 1, 1), groups=2, weights=Codes(-2, 1))
    store = Operation("store", into=Buffer(1, *layer.out_hw, 128, "float32"))
    found = lookups(dataclasses.replace(layer, epilogue=(store,)), variant)
    assert found
    for kernel in found:
        check(kernel, variant, 2)


def check_largest_sums(x: Codes, weights: Codes, taps: int, variant: X86Variant) -> None:
    for kernel in lookups(windows(x, weights, 64, 4, (3, 8), (1, taps), pad=0), variant)[:1]:
        check_largest(kernel, variant, KernelRunner)


@on_each
@pytest.mark.parametrize("taps", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda codes: f"{codes.low}to{codes.high}by{codes.step}")
def test_bytes_hold_the_largest_sums(weights: Codes, taps: int, variant: X86Variant) -> None:
    layer = windows(Codes(0, 3), weights, 64, 4, (3, 8), (1, taps))
    assert bool(lookups(layer, variant)) == serves(Codes(0, 3), weights, taps, variant)
    check_largest_sums(Codes(0, 3), weights, taps, variant)


@on_each
def test_one_lookup_too_many_does_not_pass(variant: X86Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    together = Codebook.together.fget
    assert together is not None
    monkeypatch.setattr(Codebook, "together", property(lambda book: together(book) + 1))
    with pytest.raises(AssertionError):
        check_largest_sums(Codes(0, 3), Codes(-2, 1), 4, variant)


@on_each
def test_a_wrong_start_does_not_pass(variant: X86Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums start where what entries are counted from is made up for."""
    right = CodeLookups._starts

    def wrong(self: CodeLookups, book: Codebook, indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
        starts = right(self, book, indices)
        starts[:, -1, 1, 5] += 1
        return starts

    monkeypatch.setattr(CodeLookups, "_starts", wrong)
    with pytest.raises(AssertionError):
        check_largest_sums(Codes(0, 3), Codes(-2, 1), 3, variant)


@on_each
def test_a_wrong_entry_does_not_pass(variant: X86Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Codebook.products

    def wrong(book: Codebook) -> npt.NDArray[np.int64]:
        table = right(book)
        table[5, 6] += 1
        return table

    monkeypatch.setattr(Codebook, "products", wrong)
    (kernel, *_) = lookups(windows(Codes(0, 3), Codes(-2, 1), 64, 4, (3, 8), (3, 3)), variant)
    with pytest.raises(AssertionError):
        check(kernel, variant, 1)
