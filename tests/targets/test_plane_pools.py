"""Pools of bit planes, several outputs at a time: any shape against numpy, and faults that must show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets.problem import Pool2d
from qcompiler.targets.vector import plane_pool
from qcompiler.targets.vector.plane_pool import PlanePool2d
from qcompiler.targets.x86 import X86Variant
from tests.targets.fenced import survives
from tests.targets.problems import RUNNABLE, results

CODES = [BINARY, Codes(0, 3), Codes(-1, 1), Codes(0, 7), Codes(-3, 6), Codes(0, 12)]


def pool(
    codes: Codes, channels: int, size: tuple[int, int], kernel: tuple[int, int] = (3, 3), stride: int = 2,
    pad: int = 1, dilation: int = 1, groups: int = 1, beyond: int = 0,
) -> Pool2d:  # fmt: skip
    """beyond: outputs of a row more than fit, as with ceil_mode."""
    oh, ow = ((s + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for s, k in zip(size, kernel, strict=True))
    halo, lowest = Halo(1, 2, 1, 1), float(codes.low)
    x = Buffer(1, *size, channels, codes, halo=halo, halo_value=lowest, groups=groups)
    into = Buffer(1, oh, ow + beyond, channels, codes, halo=halo, halo_value=lowest, groups=groups)
    pads, strides = (pad, pad, pad, pad), (stride, stride)
    return Pool2d(x, "codes", kernel, strides, pads, (oh, ow + beyond), (dilation, dilation), into=into)


def kernel_of(problem: Pool2d, variant: X86Variant) -> PlanePool2d:
    (kernel,) = variant.kernels(problem)
    assert isinstance(kernel, PlanePool2d)
    return kernel


def check(problem: Pool2d, variant: X86Variant, seed: int = 1) -> None:
    for got, expected in results(kernel_of(problem, variant), variant, problem, seed):
        np.testing.assert_array_equal(got, expected)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_pool(data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    dilation, stride = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 4))
    size = (dilation * (kernel[0] - 1) + data.draw(st.integers(1, 4)), dilation * 3 + data.draw(st.integers(2, 30)))
    groups = data.draw(st.sampled_from([1, 1, 2]))
    channels = groups * data.draw(st.sampled_from([8, 32, 40, 64, 128]))
    pad, beyond = data.draw(st.integers(0, min(kernel) // 2)), data.draw(st.integers(0, 1))
    problem = pool(data.draw(st.sampled_from(CODES)), channels, size, kernel, stride, pad, dilation, groups, beyond)
    check(problem, data.draw(st.sampled_from(RUNNABLE)), data.draw(st.integers(0, 99)))


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
@pytest.mark.parametrize("codes", CODES, ids=lambda codes: codes.label)
def test_behind_the_first_layer(codes: Codes, variant: X86Variant) -> None:
    problem = pool(codes, 64, (5, 33))
    expected = {1: {64: 8, 32: 4}, 2: {64: 4, 32: 2}, 3: {64: 2, 32: 1}, 4: {64: 2, 32: 1}}[codes.bits]
    assert kernel_of(problem, variant).together == expected.get(variant.isa.vector_bytes, 1)
    check(problem, variant)


def test_rows_that_are_too_short() -> None:
    for width in range(3, 12):
        check(pool(Codes(0, 3), 64, (4, width)), RUNNABLE[0])


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_nothing_behind_the_input_is_read(stride: int) -> None:
    problem = pool(Codes(0, 3), 64, (4, 26), stride=stride, pad=0)
    problem = dataclasses.replace(problem, x=dataclasses.replace(problem.x, halo=Halo()))
    assert kernel_of(problem, RUNNABLE[0]).together > 1 or RUNNABLE[0].isa.vector_bytes < 32
    assert survives(kernel_of(problem, RUNNABLE[0]), RUNNABLE[0], problem)


def wrong_planes(patch: pytest.MonkeyPatch) -> None:
    larger = plane_pool.keep_larger
    patch.setattr(plane_pool, "keep_larger", lambda best, found, at: larger(best, found[::-1], at))


def a_pixel_too_far(patch: pytest.MonkeyPatch) -> None:
    inside = PlanePool2d.__dict__["_inside"].fget
    patch.setattr(PlanePool2d, "_inside", property(lambda kernel: (inside(kernel)[0] - 1, inside(kernel)[1])))


def words_out_of_order(patch: pytest.MonkeyPatch) -> None:
    shuffled = plane_pool._shuffled
    patch.setattr(plane_pool, "_shuffled", lambda vectors, order: shuffled(vectors, [*order[:-1], order[0]]))


@pytest.mark.parametrize("fault", [wrong_planes, a_pixel_too_far, words_out_of_order])
def test_a_fault_does_not_pass(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    problem, variant = pool(Codes(0, 3), 64, (5, 33)), RUNNABLE[0]
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check(problem, variant)
