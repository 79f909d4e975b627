"""Division by a constant before rounding: a product and a fused multiply-add, where they give the same integers.

x / s is x * h + x * l with h the float32 next to 1 / s and l the one next to 1 / s - h, see Brisebarre, Muller, Raina:
Accelerating correctly rounded floating-point division when the divisor is known in advance (IEEE Transactions on
Computers 53, 2004). The sum, fused with the first product, is off x / s by less than 2^-48 of it, a floating-point
number of x's neighbours by 2^-24; so both chains rise with x, and they round to the same integers everywhere if they do
so on both sides of every step from one integer to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import Expr, splat

# floats on either side of a step's place that are looked through
_NEAR = 4
# of float64, relative, and of float32
_DOUBT = 2.0**-50
_SMALLEST, _LARGEST = 2.0**-80, 2.0**80


@dataclass(frozen=True)
class Quotient:
    """x / s for x from `least` to `most`, which give the lowest and the highest of the integers."""

    high: float
    low: float
    least: float
    most: float

    def of(self, x: Expr) -> Expr:
        """float32x16."""
        rest = x * splat(T.float32(self.low))
        return T.call_llvm_pure_intrin("float32x16", "llvm.fma", x, splat(T.float32(self.high)), rest)


@lru_cache(maxsize=4096)
def quotient(divisor: float, lowest: int, highest: int) -> Quotient | None:
    """How to divide by a float32 before rounding to integers from `lowest` to `highest`; None if not in this way."""
    s = np.float32(divisor)
    if not _SMALLEST < s < _LARGEST:
        return None
    high = np.float32(1 / np.float64(s))
    low = np.float32(1 / np.float64(s) - np.float64(high))
    least, most = (np.float32(s * np.float32(end)) for end in (lowest, highest))
    if [np.rint(least / s), np.rint(most / s)] != [lowest, highest]:
        return None
    steps = np.arange(lowest, highest, dtype=np.float64) + 0.5
    after = _firsts(s, steps)
    if after is None:
        return None
    before = np.nextafter(after, np.float32(-np.inf))
    doubt = _DOUBT * np.abs(steps)
    alike = _beyond(after, high, low, steps) > doubt, _beyond(before, high, low, steps) < -doubt
    return Quotient(float(high), float(low), float(least), float(most)) if np.all(alike) else None


def _firsts(s: np.float32, steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float32] | None:
    """The first float32 behind each step of round(x / s); None if one is not found."""
    near = (np.float64(s) * steps).astype(np.float32)
    candidates = [near]
    for _ in range(_NEAR):
        candidates = [
            np.nextafter(candidates[0], np.float32(-np.inf)),
            *candidates,
            np.nextafter(candidates[-1], np.float32(np.inf)),
        ]
    around = np.stack(candidates)
    behind = np.rint(around / s) > steps
    if behind[0].any() or not behind[-1].all():
        return None
    found: npt.NDArray[np.float32] = around[behind.argmax(axis=0), np.arange(len(steps))]
    return found


def _sums(x: npt.NDArray[np.float32], high: np.float32, low: np.float32) -> npt.NDArray[np.float64]:
    """What is rounded once to float32."""
    return np.asarray(x.astype(np.float64) * np.float64(high) + (x * low).astype(np.float64))


def _edges(steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """From where on sums round to float32 that round to the integer behind a step."""
    halves = steps.astype(np.float32)
    up = np.rint(steps) > steps
    other = np.nextafter(halves, np.where(up, np.float32(-np.inf), np.float32(np.inf)))
    return np.asarray((halves.astype(np.float64) + other.astype(np.float64)) / 2)


def _beyond(
    x: npt.NDArray[np.float32], high: np.float32, low: np.float32, steps: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """How far behind a step the sum of x lies, in float64, which rounds a little."""
    return _sums(x, high, low) - _edges(steps)
