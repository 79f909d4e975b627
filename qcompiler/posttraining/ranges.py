"""Which range of numbers codes of few bits should cover: the one with the least squared error.

The estimator is the usual one (for instance Nagel et al., "A White Paper on Neural Network Quantization", 2021,
section 3.1): ranges that cut off outliers are tried on a histogram of what calibration data give.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

DoubleArray = npt.NDArray[np.float64]

_BINS = 2048
# parts of the range that are tried on either side; chosen
_SHARES = np.concatenate([np.geomspace(0.01, 0.3, 12, endpoint=False), np.linspace(0.3, 1, 29)])


@dataclass(frozen=True)
class Grid:
    """Codes 0 to 2**bits - 1 that stand for (code - zero) * scale."""

    scale: float
    zero: int
    bits: int

    def rounded(self, x: DoubleArray) -> DoubleArray:
        """The numbers that codes of x stand for."""
        codes = np.clip(np.rint(x / self.scale) + self.zero, 0, 2**self.bits - 1)
        return np.asarray((codes - self.zero) * self.scale)


@dataclass
class Histogram:
    """How often which numbers occur, between bounds that are known beforehand; counts: float64 [bins]."""

    low: float
    high: float
    counts: DoubleArray = field(default_factory=lambda: np.zeros(_BINS))

    def add(self, values: npt.NDArray[np.floating]) -> None:
        """Count more numbers."""
        self.counts += np.histogram(values, _BINS, (self.low, self.high))[0]

    @property
    def centres(self) -> DoubleArray:
        """The middle of every bin, [bins]."""
        width = (self.high - self.low) / _BINS
        return np.asarray(self.low + width * (np.arange(_BINS, dtype=np.float64) + 0.5), np.float64)


def best_grid(histogram: Histogram, bits: int) -> Grid:
    """The grid with the least squared error; 0 is one of its numbers, exactly."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if low == high:
        return Grid(1.0, 0, bits)
    lows, highs = (_SHARES * end if end else np.zeros(1) for end in (low, high))
    grids = [grid_between(float(a), float(b), bits) for a in lows for b in highs]
    seen, weights = histogram.centres, histogram.counts
    errors = [float((weights * (grid.rounded(seen) - seen) ** 2).sum()) for grid in grids]
    return grids[int(np.argmin(errors))]


def grid_between(low: float, high: float, bits: int) -> Grid:
    """The grid from low <= 0 to high >= 0, moved so that 0 is one of its numbers."""
    steps = 2**bits - 1
    scale = float(np.float32((high - low) / steps))
    return Grid(scale, int(np.clip(np.rint(-low / scale), 0, steps)), bits)
