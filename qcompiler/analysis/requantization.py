"""One product and one sum in place of many thresholds: the count of them as round(v * scale + offset), clipped.

A line through the steps of a quantizer is bounded from two sides: at the integer that reaches level k it must round to
k at least, at the one before it to less. Given a scale, every bound is one of the offset. What is found is tried in
float32 on both sides of every step, which proves it for all integers, because every rounding keeps order.

Of such lines one is taken that is close to the thresholds. Where the chain turns next to an integer, so that rounding
errors alone decide its code, that line is next to a half there too, and the integer is known for a tie (ties.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.ranges import Lattice
from qcompiler.analysis.thresholds import BoolArray, Thresholds, next_to
from qcompiler.ir.codes import Codes

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
Line = tuple[DoubleArray, DoubleArray]

_TRIES = 64
"""Scales tried at most; each leaves half of the others or less."""

_MARGIN = 2.0**-22
"""Of the largest numbers on the way, more than their roundings to float32 amount to."""

_SHARES = (0.0, *(2.0**-power for power in range(22, 0, -1)))
"""Of the line in the middle of the bounds in that through the thresholds, where the latter alone is not exact."""


@dataclass(frozen=True)
class Requantization:
    """Per channel, the code clip(round(v * scale + offset)) of a sum v. Both float32 [C]."""

    scale: FloatArray
    offset: FloatArray

    def __call__(self, v: npt.NDArray[np.floating], codes: Codes) -> FloatArray:
        """float32 [..., C], every operation rounded to float32."""
        product = np.asarray(v, np.float32) * self.scale
        return np.asarray(np.clip(np.rint(product + self.offset), np.float32(codes.low), np.float32(codes.high)))


@dataclass(frozen=True)
class _Steps:
    """Where the levels 1, 2, ... begin, for channels that rise; each float64 [levels - 1, C].

    reached: the least attained number of a level or one above it, missed: the largest of one below it; infinite where
    there is none. largest: the magnitude of the codes.
    """

    reached: DoubleArray
    missed: DoubleArray
    largest: int

    def margin(self, scale: DoubleArray) -> DoubleArray:
        """What rounding errors may add up to on a line, in codes, [C]."""
        ends = np.where(np.isfinite(self.reached), np.abs(self.reached), 0.0).max(axis=0)
        return np.asarray(_MARGIN * (scale * ends + self.largest))


def requantization(found: Thresholds, lattice: Lattice, codes: Codes) -> Requantization | None:
    """A line that counts the thresholds of every channel on the integers of the lattice; None if there is none.

    found: thresholds that are where the chain turns (see `between_integers`) have the line close to them.
    """
    if codes.step != 1:
        return None
    steps = _steps(found, lattice, codes)
    within = np.isfinite(steps.reached) & np.isfinite(steps.missed)
    turning = np.where(within, found.thresholds * found.direction.astype(np.float64), np.nan)
    chosen = Requantization(np.zeros_like(found.direction), np.zeros_like(found.direction))
    left = np.ones(found.direction.shape, np.bool_)
    roomy = ~left
    for _ in range(2):
        fitted = _fitted(steps, roomy)
        if fitted is None:
            return None
        for scale, offset in _lines(turning, steps, fitted):
            # a level is rounded to from half below it
            lifted = (offset + codes.low - 0.5).astype(np.float32)
            line = Requantization((scale * found.direction).astype(np.float32), lifted)
            proven = left & _counts(line, steps, found.direction, codes)
            chosen = Requantization(
                np.where(proven, line.scale, chosen.scale), np.where(proven, line.offset, chosen.offset)
            )
            left = left & ~proven
            if not left.any():
                return chosen
        roomy = left
    return None


def _lines(turning: DoubleArray, steps: _Steps, fitted: Line) -> Iterator[Line]:
    """Scales and offsets to try, float64 [C] each: from the line through the thresholds to the one fitted.

    turning: of rising channels, [levels - 1, C], NaN where no two integers are on its two sides.
    """
    slope = _slope(turning, fitted[0])
    offset = _inside(steps, slope, _through(turning, slope, fitted[1]))
    for share in _SHARES:
        yield slope + share * (fitted[0] - slope), offset + share * (fitted[1] - offset)
    yield fitted


def _slope(turning: DoubleArray, otherwise: DoubleArray) -> DoubleArray:
    """Of the line through the first and the last threshold, float64 [C], where these are two."""
    known = ~np.isnan(turning)
    first, last = known.argmax(axis=0), len(turning) - 1 - known[::-1].argmax(axis=0)
    channels = np.arange(turning.shape[1])
    run = turning[last, channels] - turning[first, channels]
    return np.where(run > 0, (last - first) / np.where(run > 0, run, 1.0), otherwise)


def _through(turning: DoubleArray, slope: DoubleArray, otherwise: DoubleArray) -> DoubleArray:
    """The offset that leads a line through the thresholds, on the average, float64 [C], where there are any."""
    known = ~np.isnan(turning)
    levels, count = np.arange(1.0, len(turning) + 1)[:, None], known.sum(axis=0)
    total = np.where(known, levels - slope * turning, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), otherwise)


def _inside(steps: _Steps, slope: DoubleArray, offset: DoubleArray) -> DoubleArray:
    """The offset [C] clipped to a little inside its bounds; what bounds are too close for that has their middle."""
    low, high, _, _ = _offset_bounds(steps, slope)
    margin = steps.margin(slope)
    return np.where(high - low > 2 * margin, np.clip(offset, low + margin, high - margin), _between(low, high))


def _steps(found: Thresholds, lattice: Lattice, codes: Codes) -> _Steps:
    """The steps of rising channels; those of falling ones with the signs of their numbers changed."""
    every = lattice.over(found.thresholds.shape)
    direction = found.direction.astype(np.float64)
    reached = next_to(every, found.thresholds, found.direction) * direction
    missed = reached - every.step
    least, most = (np.minimum(every.low * direction, every.high * direction),
                   np.maximum(every.low * direction, every.high * direction))  # fmt: skip
    return _Steps(
        np.where(reached <= most, np.maximum(reached, least), np.inf),
        np.where(missed >= least, np.minimum(missed, most), -np.inf),
        max(abs(codes.low), abs(codes.high)),
    )


def _fitted(steps: _Steps, roomy: BoolArray) -> Line | None:
    """A scale of at least 0 and an offset of every channel, float64 [C] each, within all bounds, if there are any.

    Where two bounds of the offset exclude each other, the same two bound the scale on one side of the one tried.
    roomy: channels where they do so, too, if between them is only what roundings to float32 may amount to, bool [C].
    """
    channels = steps.reached.shape[1]
    least, most = np.zeros(channels), np.full(channels, np.inf)
    for _ in range(_TRIES):
        scale = _between(least, most)
        low, high, first, second = _offset_bounds(steps, scale)
        # a single scale is left where numbers between two codes are rounded to the even one
        excluded = (low + np.where(roomy, 2 * steps.margin(scale), 0.0) >= high) & (least < most)
        if not excluded.any():
            return scale, _between(low, high)
        rise = second - first
        run = steps.missed[second, np.arange(channels)] - steps.reached[first, np.arange(channels)]
        slope = rise / np.where(run == 0, 1.0, run)
        most = np.where(excluded & (run > 0), np.minimum(most, slope), most)
        least = np.where(excluded & (run < 0), np.maximum(least, slope), least)
        if (least > most).any() or (excluded & (run == 0)).any():
            return None
    return None


def _offset_bounds(
    steps: _Steps, scale: DoubleArray
) -> tuple[DoubleArray, DoubleArray, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Between what the line, without its offset, must be lifted by, and whose levels say so; [C] each."""
    levels = np.arange(1.0, len(steps.reached) + 1)[:, None]
    at_least, below = levels - scale * steps.reached, levels - scale * steps.missed
    at_least[np.isinf(steps.reached)], below[np.isinf(steps.missed)] = -np.inf, np.inf
    first, second = at_least.argmax(axis=0), below.argmin(axis=0)
    return at_least.max(axis=0), below.min(axis=0), first, second


def _between(low: DoubleArray, high: DoubleArray) -> DoubleArray:
    """The middle, or a little inside the only bound."""
    with np.errstate(invalid="ignore"):
        middle = (low + high) / 2
    return np.where(np.isinf(low), high - 0.5, np.where(np.isinf(high), low + 0.5, middle))


def _counts(line: Requantization, steps: _Steps, direction: FloatArray, codes: Codes) -> BoolArray:
    """In which channels the line is in every level that is reached, and below every level that is missed; bool [C]."""
    levels = np.arange(1, codes.levels)[:, None] + codes.low
    with np.errstate(all="ignore"):
        at, before = (line(v * direction, codes) for v in (steps.reached, steps.missed))
    reached = (at >= levels) | np.isinf(steps.reached)
    missed = (before < levels) | np.isinf(steps.missed)
    return np.asarray((reached & missed).all(axis=0), np.bool_)
