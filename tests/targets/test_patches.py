"""Windows of few channels whose bytes are laid out side by side: any shape against numpy, and faults that must show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets.choose import chosen
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.vector import patch_sums
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.patch_sums import PatchFrame, PatchSums, fits_patches
from qcompiler.targets.x86 import X86Variant
from tests.targets.fenced import survives
from tests.targets.problems import RUNNABLE, results

WEIGHTS = [Codes(-128, 127), Codes(-8, 7), Codes(-2, 1)]
ACTIVATIONS = [Codes(0, 255), Codes(-5, 250), Codes(0, 15), Codes(-7, 7, 2)]


def windows(
    channels: int, outputs: int, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int] = (1, 1),
    x: Codes = ACTIVATIONS[0], weights: Codes = WEIGHTS[0], rows_apart: int = 1, pad: int = 1, centred: bool = False,
) -> Conv2d:  # fmt: skip
    """A border of `pad` pixels of the highest code, rather than of number 0."""
    border = (pad, pad, pad, pad)
    held = Buffer(1, *size, channels, x, halo=Halo(*border), halo_value=float(x.high), packing="bytes")
    found = Conv2d(
        held,
        outputs,
        kernel,
        stride,
        border,
        (rows_apart, 1),
        pad_value=float(x.high),
        weights=weights,
        centred=centred,
    )
    return dataclasses.replace(found, epilogue=(Operation("store", into=Buffer(1, *found.out_hw, outputs, "float32")),))


def patches(problem: Conv2d, variant: X86Variant) -> list[DirectConv2d]:
    kernels = (kernel for kernel in variant.kernels(problem) if isinstance(kernel, DirectConv2d))
    return [kernel for kernel in kernels if isinstance(kernel.reduction, PatchSums)]


def check(kernel: DirectConv2d, variant: X86Variant, seed: int = 1) -> None:
    for got, expected in results(kernel, variant, kernel.problem, seed):
        np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_layer(data: st.DataObject) -> None:
    kernel, stride = data.draw(st.tuples(st.integers(1, 6), st.integers(2, 11))), data.draw(st.sampled_from([1, 2, 3]))
    apart = data.draw(st.integers(1, 2))
    size = (apart * (kernel[0] - 1) + data.draw(st.integers(1, 5)), kernel[1] + data.draw(st.integers(0, 7)))
    problem = windows(
        data.draw(st.integers(1, 3)), data.draw(st.sampled_from([10, 32, 70, 128])), size, kernel, (stride, stride),
        data.draw(st.sampled_from(ACTIVATIONS)), data.draw(st.sampled_from(WEIGHTS)), apart,
        data.draw(st.integers(0, 2)), data.draw(st.booleans()),
    )  # fmt: skip
    variant = data.draw(st.sampled_from(RUNNABLE))
    found = patches(problem, variant)
    assert bool(found) <= fits_patches(problem)
    if found:
        check(data.draw(st.sampled_from(found)), variant, data.draw(st.integers(0, 99)))


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
def test_every_tiling(variant: X86Variant) -> None:
    for kernel in patches(windows(3, 64, (7, 17), (7, 7), (2, 2)), variant):
        check(kernel, variant)


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
@pytest.mark.parametrize(
    ("channels", "outputs", "size", "kernel", "stride"), [(3, 64, 224, 7, 2), (1, 32, 28, 5, 1)], ids=["7x7", "5x5"]
)
def test_first_layers_take_them(
    variant: X86Variant, channels: int, outputs: int, size: int, kernel: int, stride: int
) -> None:
    """On processors with vectors of 32 bytes and more, for others choose on their own."""
    problem = windows(channels, outputs, (size, size), (kernel, kernel), (stride, stride), pad=kernel // 2)
    choice = chosen(variant, problem)
    assert choice is not None and isinstance(choice.kernel, DirectConv2d)
    if variant.isa.vector_bytes >= 32:
        assert isinstance(choice.kernel.reduction, PatchSums)


@pytest.mark.parametrize(
    ("channels", "kernel", "fits"), [(3, (1, 1), False), (3, (1, 3), False), (3, (1, 4), True), (4, (3, 3), False)]
)
def test_layers_that_would_gain_nothing(channels: int, kernel: tuple[int, int], fits: bool) -> None:
    problem = windows(channels, 32, (9, 9), kernel)
    assert fits_patches(problem) == fits
    assert not fits_patches(dataclasses.replace(problem, dilations=(1, 2)))


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
@pytest.mark.parametrize("columns", [3, 7, 9])
def test_nothing_behind_the_input_is_read(variant: X86Variant, columns: int) -> None:
    problem = windows(3, 32, (3, columns + 1), (3, columns), pad=0)
    assert survives(patches(problem, variant)[0], variant, problem)


@pytest.mark.skipif(RUNNABLE[0].isa.vector_bytes < 32, reason="the processor has no loads that leave lanes out")
def test_a_pixel_too_far_does_not_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, variant = windows(3, 32, (3, 8), (3, 7), pad=0), RUNNABLE[0]
    kernel = patches(problem, variant)[0]
    monkeypatch.setattr(patch_sums.T, "masked_load", lambda dtype, data, index, mask: data[index])
    assert not survives(kernel, variant, problem)


def test_windows_lie_on_the_stack() -> None:
    """Larger arrays would be allocated."""
    found = [kernel for variant in RUNNABLE for kernel in patches(windows(3, 64, (13, 40), (11, 11)), variant)]
    assert found
    for kernel in found:
        assert isinstance(kernel.frame, PatchFrame)
        assert kernel.frame.tiling.pixels * kernel.frame.window_bytes <= 1023
    assert not patches(windows(3, 64, (21, 40), (20, 20)), RUNNABLE[0])


def a_byte_too_far(patch: pytest.MonkeyPatch) -> None:
    row_bytes = PatchFrame.row_bytes.fget
    assert row_bytes is not None
    patch.setattr(PatchFrame, "row_bytes", property(lambda frame: row_bytes(frame) + 1))


def another_order_of_weights(patch: pytest.MonkeyPatch) -> None:
    pack = patch_sums.pack_bytes
    patch.setattr(patch_sums, "pack_bytes", lambda index: pack(index[:, ::-1]))


def pixels_that_overlap(patch: pytest.MonkeyPatch) -> None:
    window_bytes = PatchFrame.window_bytes.fget
    assert window_bytes is not None
    patch.setattr(PatchFrame, "window_bytes", property(lambda frame: window_bytes(frame) - 12))


@pytest.mark.parametrize("fault", [a_byte_too_far, another_order_of_weights, pixels_that_overlap])
def test_a_fault_does_not_pass(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    problem, variant = windows(3, 64, (7, 17), (7, 7)), RUNNABLE[0]
    kernel = next(each for each in patches(problem, variant) if each.frame.tiling.pixels > 1)
    check(kernel, variant)
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check(kernel, variant)
