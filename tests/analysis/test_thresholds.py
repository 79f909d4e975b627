import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.analysis.monotone import MonotoneOp, run_chain
from qcompiler.analysis.ranges import Lattice
from qcompiler.analysis.thresholds import attains_zero, find_sign_change, turning_points
from qcompiler.ir.numerics import least_integer

NODE = ir.node("Mul", [])
FLOATS = st.floats(-8, 8, width=32)
GAMMAS = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -0.25]), FLOATS)


def op(name: str, *constants: float | list[float]) -> MonotoneOp:
    return MonotoneOp(NODE, name, tuple(np.asarray(c, dtype=np.float32) for c in constants))


def lattice(low: int, high: int, step: int, channels: int = 1) -> Lattice:
    full = np.full(channels, 1, np.int64)
    return Lattice(low * full, step * full, ((high - low) // step + 1) * full)


def exhaustive(ops: tuple[MonotoneOp, ...], reach: Lattice, zero: float) -> np.ndarray:
    """Signs of the chain at every integer: bool [count, C]."""
    x = run_chain(ops, reach.at(np.arange(reach.count.max())[:, None]))
    return x >= 0 if zero > 0 else x > 0


def thresholded(ops: tuple[MonotoneOp, ...], reach: Lattice, zero: float) -> np.ndarray:
    change = find_sign_change(ops, reach, zero)
    acc = reach.at(np.arange(reach.count.max())[:, None])
    return change.direction * (acc - change.threshold) >= 0


@given(
    st.lists(st.tuples(GAMMAS, FLOATS), min_size=1, max_size=4),
    st.integers(1, 300),
    st.sampled_from([1, 2]),
    st.sampled_from([-1.0, 1.0]),
)
def test_batch_norm_of_any_sign_folds_as_an_exhaustive_evaluation(affine, fan_in, stride, zero):
    gammas, betas = zip(*affine, strict=True)
    ops = (op("Mul", list(gammas)), op("Add", list(betas)))
    reach = lattice(-fan_in, fan_in, stride, len(affine))
    np.testing.assert_array_equal(thresholded(ops, reach, zero), exhaustive(ops, reach, zero))


@given(st.integers(1, 200), st.integers(-250, 250), st.floats(2**-20, 4, width=32), st.sampled_from([-1.0, 1.0]))
def test_thresholds_exactly_on_integers(fan_in, root, gamma, zero):
    """gamma * acc - gamma * root is 0 at acc = root up to rounding: where closed formulas are off by one."""
    gamma = np.float32(gamma)
    ops = (op("Mul", float(gamma)), op("Add", float(-(gamma * np.float32(root)))))
    reach = lattice(-fan_in, fan_in, 1)
    np.testing.assert_array_equal(thresholded(ops, reach, zero), exhaustive(ops, reach, zero))


@given(GAMMAS, FLOATS, FLOATS, st.floats(0, 1, width=32), st.sampled_from([-1.0, 1.0]))
def test_clips_slopes_and_divisions_between(gamma, beta, bound, slope, zero):
    ops = (
        op("Mul", gamma),
        op("PRelu", slope),
        op("Add", beta),
        op("Clip", min(bound, 1.0), 1.0),
        op("Div", 3.0),
        op("Sub", 0.125),
    )
    reach = lattice(-33, 33, 2)
    np.testing.assert_array_equal(thresholded(ops, reach, zero), exhaustive(ops, reach, zero))


def test_never_and_always_stay_within_one_of_the_reach():
    ops = (op("Mul", [0.0, 0.0, 1.0, 1.0]), op("Add", [-1.0, 1.0, 1e6, -1e6]))
    change = find_sign_change(ops, lattice(-9, 9, 2, 4), 1.0)
    np.testing.assert_array_equal(change.threshold, [10, -9, -9, 10])
    np.testing.assert_array_equal(change.direction, 1)


def test_negative_gamma_turns_the_direction():
    change = find_sign_change((op("Mul", -2.0), op("Add", 6.0)), lattice(-9, 9, 2), 1.0)
    assert (change.threshold, change.direction) == (3, -1)


@settings(max_examples=200, deadline=None)
@given(
    st.floats(2.0**-30, 2.0**-20, width=32),
    st.integers(2**22, 2**30),
    st.sampled_from([-1.0, 1.0]),
    st.sampled_from([-1, 1]),
    st.integers(1, 500),
)
def test_thresholds_of_sums_that_float32_rounds(gamma, root, zero, sign, step):
    """Integers beyond 2**24: the float32 next to a sum goes through the chain and through the comparison."""
    gamma = np.float32(gamma * sign)
    ops = (op("Mul", float(gamma)), op("Add", float(-(gamma * np.float32(root)))))
    low = root - 300 * step
    reach = lattice(low, root + 300 * step, step)
    expected = exhaustive(ops, reach, zero)
    np.testing.assert_array_equal(thresholded(ops, reach, zero), expected)
    change = find_sign_change(ops, reach, zero)
    turned = turning_points(ops, reach, change.threshold, change.direction)
    integers = low + step * np.arange(reach.count[0])[:, None]
    np.testing.assert_array_equal(change.direction * (integers.astype(np.float32) - turned) >= 0, expected)
    first = least_integer(turned, beyond=bool(change.direction[0] < 0))
    np.testing.assert_array_equal((integers >= first) ^ (change.direction < 0), expected)


@given(st.integers(-(2**30), 2**30), st.integers(-3, 3), st.booleans())
def test_the_least_integer_that_reaches_a_number(near, ulps, beyond):
    number = np.float32(near)
    for _ in range(abs(ulps)):
        number = np.nextafter(number, np.float32(np.sign(ulps) * np.inf))
    (found,) = least_integer(np.asarray([number]), beyond=beyond)
    reach = np.greater if beyond else np.greater_equal
    assert reach(np.float32(found), number) and not reach(np.float32(found - 1), number)


@given(FLOATS, st.integers(-9, 9), st.sampled_from([1, 2]))
def test_zero_is_attained_exactly_where_an_exhaustive_evaluation_finds_it(gamma, root, stride):
    ops = (op("Mul", gamma), op("Add", -gamma * root))
    reach = lattice(-9, 9, stride)
    values = run_chain(ops, reach.at(np.arange(reach.count.max())[:, None]))
    assert attains_zero(ops, reach)[0] == (values == 0).any()


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-3, 3).filter(lambda scale: abs(scale) > 0.01),
    st.floats(-40, 40),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1.0, -1.0]),
)
def test_turning_points_lie_where_exact_arithmetic_turns(scale, offset, step, zero):
    """Between the last integer on one side and the first on the other, and within rounding of the root."""
    ops = (op("Mul", scale), op("Add", offset))
    reach = lattice(-60, 60, step)
    change = find_sign_change(ops, reach, zero)
    (turned,) = turning_points(ops, reach, change.threshold, change.direction)
    integers = np.arange(-60, 61, step)
    reached = change.direction * (integers - change.threshold) >= 0
    np.testing.assert_array_equal(change.direction * (integers - turned) >= 0, reached)
    if reached.any() and not reached.all():
        root = -np.float64(np.float32(offset)) / np.float64(np.float32(scale))
        assert abs(turned - root) <= 1e-4 * max(1, abs(root))
