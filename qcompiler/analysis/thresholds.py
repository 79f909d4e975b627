"""Where a monotone float32 chain over integers changes sign: binary search over the attainable integers.

The closed formula mu - beta * sigma / gamma is off by one near integers; searching the emulated chain is not. All
channels are searched at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.monotone import MonotoneOp, run_chain
from qcompiler.analysis.ranges import IntArray, Lattice
from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import first_true, least_integer

FloatArray = npt.NDArray[np.float32]

# of the distance of two integers, to the precision of float32
_HALVINGS = 24
_SMALL = 2.0**-20
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SignChange:
    """Per channel: +1 exactly where direction * (acc - threshold) >= 0. Both float32 [C]."""

    threshold: FloatArray
    direction: FloatArray


@dataclass(frozen=True)
class Thresholds:
    """Per channel, the code number i where i counts the thresholds t with direction * (acc - t) >= 0.

    thresholds: float32 [levels - 1, C], rising along the first axis where direction is +1, falling where it is -1.
    direction: float32 [C].
    """

    thresholds: FloatArray
    direction: FloatArray


def finite_at_ends(ops: tuple[MonotoneOp, ...], lattice: Lattice) -> bool:
    """True if no op of the chain overflows on the lattice; by monotonicity the two ends decide."""
    for index in (np.zeros_like(lattice.count), lattice.count - 1):
        x = lattice.at(index)
        for op in ops:
            x = op(x)
            if not np.isfinite(x).all():
                return False
    return True


def find_sign_change(
    ops: tuple[MonotoneOp, ...], lattice: Lattice, zero: float, shift: FloatArray | float = 0.0
) -> SignChange:
    """The integer threshold of binarize(chain(acc + shift)) over the lattice. zero: the code of 0, -1 or +1."""

    def positive(index: IntArray) -> BoolArray:
        x = run_chain(ops, np.asarray(lattice.at(index) + shift, np.float32))
        signs: BoolArray = np.greater_equal(x, 0) if zero > 0 else np.greater(x, 0)
        return np.broadcast_to(signs, index.shape)

    first, last = positive(np.zeros_like(lattice.count)), positive(lattice.count - 1)
    changed = first_true(lattice.count, lambda index: positive(index) != first)
    rising, falling = last & ~first, first & ~last
    never = ~first & ~last
    threshold = lattice.low + lattice.step * np.where(falling, changed - 1, np.where(rising, changed, 0))
    threshold = np.where(never, _above(lattice.high), threshold)
    direction = np.where(falling, -1, 1)
    return SignChange(threshold.astype(np.float32), direction.astype(np.float32))


def _above(integers: IntArray) -> FloatArray:
    """The next integers, or the next float32 where those are further apart."""
    return np.maximum((integers + 1).astype(np.float32), np.nextafter(integers.astype(np.float32), np.float32(np.inf)))


def find_levels(ops: tuple[MonotoneOp, ...], lattice: Lattice, codes: Codes) -> Thresholds:
    """The thresholds of a chain that gives `codes` at every integer of the lattice: the integers that reach them."""
    level, every = _levels(ops, lattice, codes)
    change = find_sign_change(level, every, -1.0)
    thresholds, directions = change.threshold, change.direction
    falling = (directions < 0).any(axis=0)
    # what all or none of the integers reach is the same for either direction, but for the threshold that says so
    other = np.where(thresholds <= lattice.low, lattice.high, -_above(-lattice.low))
    thresholds = np.where(falling & (directions > 0), other, thresholds).astype(np.float32)
    return Thresholds(thresholds, np.where(falling, -1, 1).astype(np.float32))


def between_integers(found: Thresholds, ops: tuple[MonotoneOp, ...], lattice: Lattice, codes: Codes) -> Thresholds:
    """What `find_levels` found, moved to where the chain turns; see `turning_points`."""
    level, every = _levels(ops, lattice, codes)
    return Thresholds(turning_points(level, every, found.thresholds, found.direction), found.direction)


def _levels(ops: tuple[MonotoneOp, ...], lattice: Lattice, codes: Codes) -> tuple[tuple[MonotoneOp, ...], Lattice]:
    """For every level but the lowest, a chain that is positive from it on, and the integers once for each."""
    halves = (codes.low + codes.step * (np.arange(codes.levels - 1) + 0.5)).astype(np.float32)
    return (*ops, ops[-1].minus(halves[:, None])), lattice.over((len(halves), *lattice.low.shape))


def turning_points(
    ops: tuple[MonotoneOp, ...], lattice: Lattice, threshold: FloatArray, direction: FloatArray
) -> FloatArray:
    """Where between two integers a chain changes sign in exact arithmetic: a threshold that the same integers reach.

    threshold, direction: what `find_sign_change` found, float32 [C]. An integer is a tie exactly where it is as close
    to this number as rounding errors are large, on either side. result: float32 [C]; thresholds that all or none of the
    integers reach stay.
    """
    reached = next_to(lattice, threshold, direction).astype(np.float64)
    missed = reached - direction * lattice.step
    between = (np.minimum(reached, missed) >= lattice.low) & (np.maximum(reached, missed) <= lattice.high)
    near, far = reached, missed
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        x = middle
        for op in ops:
            x = op.exactly(x)
        yes = x >= 0
        near, far = np.where(yes, middle, near), np.where(yes, far, middle)
    # next to 0 lie numbers that processors may take for 0
    beside = np.float32(missed + direction * lattice.step * _SMALL)
    last = np.where(np.abs(missed) < 1, beside, np.nextafter(np.float32(missed), threshold))
    inside = np.clip(near.astype(np.float32), np.minimum(last, threshold), np.maximum(last, threshold))
    return np.where(between, inside, threshold).astype(np.float32)


def next_to(lattice: Lattice, threshold: FloatArray, direction: FloatArray) -> IntArray:
    """The integers next to a threshold that reach it, where the next float32 of an integer counts; int64 [C]."""
    rising, falling = least_integer(threshold), least_integer(threshold, beyond=True) - 1
    index = np.where(
        direction > 0, np.ceil((rising - lattice.low) / lattice.step), np.floor((falling - lattice.low) / lattice.step)
    )
    return np.asarray(lattice.low + lattice.step * index.astype(np.int64))


def attains_zero(ops: tuple[MonotoneOp, ...], lattice: Lattice, slack: FloatArray | float = 0.0) -> BoolArray:
    """Per channel, whether the chain is 0 at some integer of the lattice, or between it and `slack` [C]. bool [C]."""
    attained = np.zeros(1, np.bool_)
    for shift in (slack, -slack) if np.any(slack) else (0.0,):
        nonnegative = find_sign_change(ops, lattice, 1.0, shift)
        positive = find_sign_change(ops, lattice, -1.0, -shift)
        moved: BoolArray = nonnegative.threshold != positive.threshold
        turned: BoolArray = nonnegative.direction != positive.direction
        attained = attained | moved | turned
    return attained
