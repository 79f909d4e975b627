"""Float weights of few levels: w[o, k] = low[o, g] + index[o, k] * step[o, g], the block g = k // size of a row.

Quantized weights come as numbers, whatever the file made them of (blocks of MatMulNBits, DequantizeLinear per channel
or per block), so their grids are looked for in the numbers themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

WIDTHS = (1, 2, 4, 8)
"""Bits in which an index is stored."""

# weights for which it is worth the search, a difference that rounding explains, and steps to the nearest level; chosen
_FEWEST = 2**12
_ROUNDING = 2.0**-21
_MOST_STEPS = 255
_BETWEEN = 2.0**-10
# weights whose float64 a second-level cache holds; chosen
_CACHED = 2**16
_SMALLEST_BLOCK, _LARGEST_BLOCK = 16, 1024
# rows that are tried first
_SAMPLE = 8


@dataclass(frozen=True)
class WeightGrid:
    """Bits of an index, one of WIDTHS, and the inputs of a block.

    zero: the index that stands for 0 in all blocks, so that low = -zero * step; None where there is none, or unknown.
    """

    bits: int
    size: int
    zero: int | None = None


@dataclass(frozen=True)
class GridWeights:
    """index: uint8 [O, K]; low, step: float32 [O, blocks]."""

    grid: WeightGrid
    index: npt.NDArray[np.uint8]
    low: FloatArray
    step: FloatArray


def on_grid(weights: FloatArray) -> GridWeights | None:
    """Weights [O, K] on grids of at most 8 bits, in the blocks that take the fewest bytes; None if there are none.

    The order in which sizes of blocks are tried is that of a sample of rows.
    """
    if weights.size < _FEWEST or not np.isfinite(weights).all():
        return None
    samples = [_fitted(weights[:_SAMPLE], size) for size in _sizes(weights.shape[1])]
    for sample in sorted((each for each in samples if each is not None), key=_bytes):
        found = _fitted(weights, sample.grid.size)
        if found is not None:
            return found if _bytes(found) <= 2 * weights.size else None
    return None


def in_blocks(weights: FloatArray, size: int) -> GridWeights | None:
    """Weights [O, K] on a grid per block of `size`, with one index for 0 if there is one; None if some has no grid."""
    found = _fitted(weights, size) if np.isfinite(weights).all() else None
    return None if found is None else _around_zero(found) or found


def _around_zero(found: GridWeights) -> GridWeights | None:
    """The same with one index for 0; None where that takes more bits, or 0 is between two indices.

    A block of few of the levels may have a step that is several of those that lead to 0.
    """
    levels = 2**found.grid.bits
    step = np.where(found.step > 0, found.step, np.abs(found.low))
    lowest = found.low / np.where(step > 0, step, 1)
    parts = np.ones(step.shape, np.int64)
    for finer in range(2, levels):
        between = np.abs(lowest * parts - np.rint(lowest * parts)) > _BETWEEN
        if not between.any():
            break
        parts[between] = finer
    if (np.abs(lowest * parts - np.rint(lowest * parts)) > _BETWEEN).any():
        return None
    block = np.arange(found.index.shape[1]) // found.grid.size
    step = (step / parts).astype(np.float32)
    whole = found.index * parts[:, block] + np.rint(lowest * parts).astype(np.int64)[:, block]
    zero = min(max(levels // 2, -int(whole.min())), levels - 1 - int(whole.max()))
    if zero < -int(whole.min()) or zero < 0:
        return None
    grid = WeightGrid(found.grid.bits, found.grid.size, zero)
    return GridWeights(grid, (whole + zero).astype(np.uint8), -zero * step, step)


def _bytes(found: GridWeights) -> int:
    return found.index.size * found.grid.bits // 8 + 8 * found.low.size


def _sizes(inputs: int) -> Iterator[int]:
    yield inputs
    size = _LARGEST_BLOCK
    while size >= _SMALLEST_BLOCK:
        if size < inputs:
            yield size
        size //= 2


def _fitted(weights: FloatArray, size: int) -> GridWeights | None:
    """The weights on a grid per block of `size`; None if some block has none.

    Some rows at a time, whose numbers stay in the cache.
    """
    together = max(1, _CACHED // weights.shape[1])
    parts = []
    for first in range(0, len(weights), together):
        found = _fitted_rows(weights[first : first + together], size)
        if found is None:
            return None
        parts.append(found)
    grid = WeightGrid(max(part.grid.bits for part in parts), size)
    low, step = np.concatenate([part.low for part in parts]), np.concatenate([part.step for part in parts])
    return GridWeights(grid, np.concatenate([part.index for part in parts]), low, step)


def _fitted_rows(weights: FloatArray, size: int) -> GridWeights | None:
    rows, inputs = weights.shape
    padded = np.pad(weights, [(0, 0), (0, -inputs % size)], mode="edge").astype(np.float64)
    blocks = padded.reshape(-1, size)
    low, step = blocks.min(axis=-1), np.zeros(len(blocks))
    span, index = blocks.max(axis=-1) - low, np.zeros(blocks.shape, np.uint8)
    rounding = _ROUNDING * np.abs(blocks).max(axis=-1)
    gaps = np.diff(np.sort(blocks, axis=-1), axis=-1)
    least = np.where(gaps > 4 * rounding[:, None], gaps, np.inf).min(axis=-1, initial=np.inf)
    left = np.flatnonzero(np.isfinite(least))
    for part in range(1, _MOST_STEPS + 1):
        levels = np.rint(span[left] * part / least[left])
        tried = span[left] / np.maximum(levels, 1)
        places = np.rint((blocks[left] - low[left, None]) / tried[:, None])
        off = np.abs(low[left, None] + places * tried[:, None] - blocks[left]).max(axis=-1)
        right = (off <= rounding[left]) & (levels < 256)
        step[left[right]], index[left[right]] = tried[right], places[right].astype(np.uint8)
        left = left[~right]
        if not len(left):
            bits = next(width for width in WIDTHS if int(index.max()) < 2**width)
            sides = (each.reshape(rows, -1).astype(np.float32) for each in (low, step))
            return GridWeights(WeightGrid(bits, size), index.reshape(rows, -1)[:, :inputs].copy(), *sides)
    return None
