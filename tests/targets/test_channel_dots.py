"""Convolutions channel by channel in columns of four rows: any shape against numpy, and faults that must show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Kernel
from qcompiler.targets.x86 import channel_dots
from qcompiler.targets.x86.channel_dots import ChannelDots, columns_of
from tests.targets.problems import RUNNABLE, results

VNNI = [variant for variant in RUNNABLE if variant.isa.vnni][:1]
pytestmark = pytest.mark.skipif(not VNNI, reason="the processor has no AVX-512 VNNI")


def channelwise(
    blocks: int, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Conv2d:
    """All codes of eight bits; a border of two pixels of the code 3."""
    channels, border = 16 * blocks, (2, 2, 2, 2)
    x = Buffer(1, *size, channels, Codes(-5, 250), halo=Halo(*border), halo_value=3.0, packing="bytes")
    weights = Codes(-128, 127)
    found = Conv2d(x, channels, kernel, stride, border, dilation, channels, pad_value=3.0, weights=weights)
    return dataclasses.replace(
        found, epilogue=(Operation("store", into=Buffer(1, *found.out_hw, channels, "float32")),)
    )


def dots(problem: Conv2d) -> list[Kernel]:
    return [kernel for kernel in VNNI[0].kernels(problem) if kernel.name.startswith(ChannelDots.family)]


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_layer(data: st.DataObject) -> None:
    kernel, stride, dilation = (
        data.draw(st.tuples(st.integers(1, 9), st.integers(1, 7))),
        data.draw(pairs),
        data.draw(pairs),
    )
    size = tuple(d * (k - 1) + data.draw(st.integers(1, 9)) for k, d in zip(kernel, dilation, strict=True))
    problem = channelwise(data.draw(st.integers(1, 6)), size, kernel, stride, dilation)
    found = data.draw(st.sampled_from(dots(problem)))
    for got, expected in results(found, VNNI[0], problem, data.draw(st.integers(0, 99))):
        np.testing.assert_array_equal(got, expected, err_msg=found.name)


@pytest.mark.parametrize("stride", [1, 2])
def test_every_tiling(stride: int) -> None:
    for blocks in (1, 3, 4, 9):
        problem = channelwise(blocks, (7, 15), (3, 3), (stride, stride), (1, 1))
        kernels = dots(problem)
        assert {kernel.frame.tiling.blocks for kernel in kernels} == {b for b in (1, 2, 4) if b <= blocks}
        for kernel in kernels:
            for got, expected in results(kernel, VNNI[0], problem, 1):
                np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


def fault_in_columns(patch: pytest.MonkeyPatch) -> None:
    def moved(problem: Conv2d, pixels: int) -> dict[int, list[tuple[int, int]]]:
        return {column + 1: seen for column, seen in columns_of(problem, pixels).items()}

    patch.setattr(channel_dots, "columns_of", moved)


def fault_in_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(channel_dots, "_pairs", lambda rows, *others: original(rows[::-1], *others))


original = channel_dots._pairs


@pytest.mark.parametrize("fault", [fault_in_columns, fault_in_rows], ids=lambda f: f.__name__)
def test_a_fault_is_found(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    problem = channelwise(2, (5, 6), (3, 3), (1, 1), (1, 1))
    kernel = dots(problem)[0]
    fault(monkeypatch)
    with pytest.raises(AssertionError, match=ChannelDots.family):
        for got, expected in results(kernel, VNNI[0], problem, 1):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


def test_kernels_of_many_taps_and_ragged_channels_are_left_to_others() -> None:
    large = channelwise(1, (30, 30), (20, 20), (1, 1), (1, 1))
    ragged = dataclasses.replace(channelwise(1, (5, 5), (3, 3), (1, 1), (1, 1)))
    x = dataclasses.replace(ragged.x, c=20)
    out = Buffer(1, *ragged.out_hw, 20, "float32")
    ragged = dataclasses.replace(ragged, x=x, out_channels=20, groups=20, epilogue=(Operation("store", into=out),))
    for problem in (large, ragged):
        assert not dots(problem) and VNNI[0].kernels(problem)
