"""Which numbers a value can hold: multiples of a power of two, few enough that float32 sums of them are exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# float32 holds integers of magnitude up to 2^24; a factor of two is left for terms that are added later
_MOST_STEPS = 2**23


@dataclass(frozen=True)
class Grid:
    """Multiples of `step`, a power of two, of magnitude at most `peak`."""

    step: float
    peak: float

    @property
    def steps(self) -> float:
        """How many steps lie between zero and the peak."""
        return self.peak / self.step


SIGNS = Grid(1.0, 1.0)


def checked(step: float, peak: float) -> Grid | None:
    """The grid, or None where sums of its numbers would have to be rounded."""
    peak = max(peak, step)
    return Grid(step, peak) if peak <= step * _MOST_STEPS else None


def of_array(array: npt.NDArray[np.generic]) -> Grid | None:
    """The grid of a constant's elements; None where they are no dyadic numbers of few bits."""
    numbers = np.abs(np.asarray(array, np.float64).ravel())
    numbers = numbers[numbers > 0]
    if not numbers.size:
        return Grid(1.0, 1.0)
    step = next((2.0**-k for k in range(-4, 16) if np.all(numbers * 2.0**k == np.round(numbers * 2.0**k))), None)
    return None if step is None else checked(step, float(numbers.max()))


def total(*grids: Grid | None) -> Grid | None:
    """Of a sum of values."""
    known = [grid for grid in grids if grid is not None]
    if len(known) < len(grids):
        return None
    return checked(min(grid.step for grid in known), sum(grid.peak for grid in known))


def product(left: Grid | None, right: Grid | None) -> Grid | None:
    """Of a product of two values."""
    if left is None or right is None:
        return None
    return checked(left.step * right.step, left.peak * right.peak)


def joined(*grids: Grid | None) -> Grid | None:
    """Of a value whose elements come from several."""
    known = [grid for grid in grids if grid is not None]
    if len(known) < len(grids):
        return None
    return checked(min(grid.step for grid in known), max(grid.peak for grid in known))


def mean(grid: Grid | None, count: int) -> Grid | None:
    """Of a mean of `count` elements; exact where that is a power of two."""
    if grid is None or count & (count - 1):
        return None
    return checked(grid.step / count, grid.peak)
