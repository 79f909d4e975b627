"""Divisions by constants as products: the same integers everywhere, and no product that gives others."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer
from qcompiler.targets.problem import Map2d, Operation, Scalar
from qcompiler.targets.target import Constants
from qcompiler.targets.vector import landing, quotient
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from qcompiler.targets.vector.quotient import Quotient
from tests.targets.problems import RUNNABLE

scales = st.floats(2.0**-60, 2.0**60, width=32, exclude_min=True, exclude_max=True)
ENDS = [(0, 255), (-128, 127), (-100, 155), (0, 7), (-1, 1)]


def rounded_once(exact: Fraction) -> np.float32:
    """The nearest float32, of two the one with an even significand."""
    near = np.float32(float(exact))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min(around, key=lambda f: (abs(Fraction(float(f)) - exact), int(f.view(np.uint32)) & 1))


def by_product(found: Quotient, x: np.float32) -> float:
    x = min(max(x, np.float32(found.least)), np.float32(found.most))
    rest = x * np.float32(found.low)
    exact = Fraction(float(x)) * Fraction(found.high) + Fraction(float(rest))
    return float(np.rint(rounded_once(exact)))


@given(scale=scales, ends=st.sampled_from(ENDS), step=st.integers(-140, 300), away=st.integers(-3, 3))
def test_the_same_integers_on_either_side_of_a_step(scale: float, ends: tuple[int, int], step: int, away: int) -> None:
    found = quotient.quotient(scale, *ends)
    assert found is not None
    x = np.float32(np.float64(scale) * (step + 0.5))
    for _ in range(abs(away)):
        x = np.nextafter(x, np.float32(np.copysign(np.inf, away)))
    assert by_product(found, x) == np.clip(np.rint(x / np.float32(scale)), *ends)


@given(scale=scales, x=st.floats(width=32, allow_nan=False))
def test_the_same_integers_of_any_number(scale: float, x: float) -> None:
    found = quotient.quotient(scale, -128, 127)
    assert found is not None
    with np.errstate(over="ignore"):
        expected = np.clip(np.rint(np.float32(x) / np.float32(scale)), -128, 127)
    assert by_product(found, np.float32(x)) == expected


def test_products_that_give_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the second product most divisors by which integers differ are found out."""
    monkeypatch.setattr(quotient, "_sums", lambda x, high, low: x.astype(np.float64) * np.float64(high))
    divisors = np.linspace(0.01, 0.02, 50, dtype=np.float32)
    assert all(quotient.quotient.__wrapped__(float(each), 0, 255) is None for each in divisors)


def test_what_is_too_small_large_or_negative_is_divided() -> None:
    for divisor in (0.0, -0.5, 2.0**-100, 2.0**100, np.inf, np.nan):
        assert quotient.quotient(divisor, 0, 255) is None


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
def test_kernels_divide_alike(variant: object) -> None:
    codes, scale = Codes(-100, 155), np.float32(0.0137)
    into = Buffer(1, 1, 64, 16, codes, packing="bytes")
    chain = (Operation("div", Scalar(float(scale))), Operation("round"), Operation("store_codes", into=into))
    problem = Map2d(Buffer(1, 1, 64, 16, "float32"), chain)
    near = (np.arange(-300, 300) + 0.5).astype(np.float32) * scale
    values = np.concatenate([near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))])
    x = np.resize(np.concatenate([values[300:1316], [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 0.0, -0.0]]), 1024)
    x = aligned(x.astype(np.float32).reshape(problem.x.storage_shape))
    for kernel in variant.kernels(problem):
        fused = landing.landing(kernel.problem.epilogue)
        assert fused is not None and (fused.quotient is not None) == variant.isa.fma
        outputs = empty_outputs(problem)
        runner = KernelRunner(kernel, variant, Constants())
        runner.call(runner.bind(x, [], outputs), 0, runner.items)
        with np.errstate(over="ignore"):
            whole = np.clip(np.rint(x / scale), -100, 155)
        expected = np.where(np.isnan(x), -100, whole) + 100
        got = outputs[0].view(np.uint8).reshape(x.shape)
        np.testing.assert_array_equal(got, expected, err_msg=kernel.name)
