"""Codes as counts of thresholds: many comparisons at a time, and bit planes out of their masks.

Every threshold of a channel is a limit that values reach from below. Where a channel falls, v <= t is the opposite of
reaching the next number, so its masks are turned. Where the counts are all numbers of some bits, a value is compared
with the limit in the middle, which tells the highest bit and where the limit of the next bit lies. Else it is compared
with every limit: the masks of rising thresholds are nested; bit p of the count of nested masks is the parity of every
2^p-th of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import least_integer
from qcompiler.targets.problem import Operation
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, mask_bits, splat, temporary, write


def threshold_count(operation: Operation) -> int:
    """Thresholds per channel of a "threshold" operation."""
    assert operation.into is not None and operation.into.codes is not None
    return operation.into.codes.levels - 1


def threshold_parameters(
    operation: Operation, blocks: Blocks, classes: int, dtype: str, choices: int = 1
) -> list[Parameter]:
    """`limits` [choices, levels, classes, blocks * 16], and `turned` uint16 [blocks]: a bit per channel that falls."""
    size = choices * threshold_count(operation) * classes * blocks.count * LANES
    return [Parameter("limits", dtype, size, 64), Parameter("turned", "uint16", blocks.count, 64)]


def pack_thresholds(
    constants: Constants, blocks: Blocks, base: Array, dtype: type[np.number], step: int = 1
) -> list[Array]:
    """The arrays for `threshold_parameters`, limits of `dtype`; see `pack_limits`."""
    assert constants.threshold is not None and constants.direction is not None
    rising = constants.direction > 0
    first = np.where(rising, least_integer(constants.threshold), least_integer(constants.threshold, beyond=True))
    return pack_limits(first, rising, blocks, base, dtype, step)


def pack_limits(
    first: Array, rising: Array, blocks: Blocks, base: Array, dtype: type[np.number], step: int = 1
) -> list[Array]:
    """The arrays for `threshold_parameters`, limits of `dtype`.

    first: [..., levels, channels], the least integers that reach thresholds, or in channels that are not `rising` lie
    beyond. base: int64 [classes, channels], what a value times `step` still lacks where it is compared. Values lie
    below the largest integer of `dtype`, which is the limit that none reaches.
    """
    ends = np.iinfo(dtype if issubclass(dtype, np.integer) else np.int32)
    limits: Array = np.clip(np.ceil((first[..., None, :] - base) / step), ends.min, ends.max).astype(dtype)
    if whole_bits(limits.shape[-3] + 1):
        # those of channels that fall come from the highest on
        limits = np.sort(limits, axis=-3)
    turned = blocks.spread((~rising).astype(np.int64)).reshape(-1, LANES)
    beyond = ends.max if issubclass(dtype, np.integer) else np.inf
    return [blocks.spread(limits, beyond), (turned << np.arange(LANES)).sum(axis=1).astype(np.uint16)]


def read_limits(limits: Expr, at: Expr, size: int, count: int, channels: int = LANES) -> list[Expr]:
    """Those of `count` thresholds, the lowest of which lie at `at`, from the lowest on; size: how far the next are."""
    return [limits[lanes(at + level * size, channels)] for level in range(count)]


@dataclass(frozen=True)
class Compared:
    """The values of one block of channels, or of several, beside the limits of their thresholds.

    value: a bound vector; limits: from the lowest on, of the same type; turned: the bits of the channels that fall, of
    as many bits as there are channels.
    """

    value: Expr
    limits: list[Expr]
    turned: Expr
    channels: int = LANES

    @property
    def levels(self) -> int:
        """How many numbers the counts may be."""
        return len(self.limits) + 1

    def planes(self) -> list[Expr]:
        """Each bit plane of the counts, of the type of `turned`."""
        return _planes([self._turned(reached) for reached in _compared(self.value, self.limits)], self.levels)

    def counts(self) -> Expr:
        """The counts of one block, int32x16."""
        levels = self.levels
        one, none = splat(T.int32(1)), splat(T.int32(0))
        count = temporary("int32")
        write(count, none, lanes(0))
        for place, reached in enumerate(_compared(self.value, self.limits), 1):
            worth = levels >> place if whole_bits(levels) else 1
            write(count, count[lanes(0)] + T.Select(reached, splat(T.int32(worth)), none), lanes(0))
        falls = T.shift_right(splat(T.Cast("int32", self.turned)), T.ramp(T.int32(0), T.int32(1), LANES)) & one
        return T.Select(falls == one, splat(T.int32(levels - 1)) - count[lanes(0)], count[lanes(0)])

    def _turned(self, reached: Expr) -> Expr:
        """Whether lanes hold a condition, or do not where the channel falls, of the type of `turned`."""
        mask = temporary(f"uint{self.channels}", 1)
        write(mask, mask_bits(reached, self.channels) ^ self.turned, i64(0))
        return mask[i64(0)]


def planes_of_pixels(values: list[Expr], limits: Expr, turned: Expr, at: list[Expr]) -> list[Expr]:
    """Each bit plane of the counts of a block of channels, int32x16: bit c of a lane is that of channel c of a pixel.

    values: a register of pixels for each channel; limits: those of the channels lie from each of `at` on, which are for
    one threshold each; turned: the bits of the channels that fall.
    """
    levels = len(at) + 1
    masks = [temporary("int32") for _ in range(_comparisons(levels))]
    for mask in masks:
        write(mask, splat(T.Cast("int32", turned)), lanes(0))
    for channel, value in enumerate(values):
        mine = [splat(limits[first + channel]) for first in at]
        for mask, reached in zip(masks, _compared(value[lanes(0)], mine), strict=True):
            bit = T.Select(reached, splat(T.int32(1 << channel)), splat(T.int32(0)))
            write(mask, mask[lanes(0)] ^ bit, lanes(0))
    return _planes([mask[lanes(0)] for mask in masks], levels)


def whole_bits(levels: int) -> bool:
    """Whether the counts of limits are all numbers of some bits."""
    return levels & (levels - 1) == 0


def _comparisons(levels: int) -> int:
    """How often a value is compared."""
    return levels.bit_length() - 1 if whole_bits(levels) else levels - 1


def _compared(value: Expr, limits: list[Expr]) -> list[Expr]:
    """What a value is compared with: the bits of the number of limits that it reaches, from the highest on, or each."""
    if not whole_bits(len(limits) + 1):
        return [value >= limit for limit in limits]
    bits = []
    while limits:
        middle = len(limits) // 2
        reached = value >= limits[middle]
        halves = zip(limits[middle + 1 :], limits[:middle], strict=True)
        limits = [T.bind(T.Select(reached, above, below)) for above, below in halves]
        bits.append(reached)
    return bits


def _planes(masks: list[Expr], levels: int) -> list[Expr]:
    """Each bit plane of counts below `levels`, of the masks of what a value is compared with."""
    if whole_bits(levels):
        return masks[::-1]
    planes = []
    for plane in range(len(masks).bit_length()):
        first, *others = masks[2**plane - 1 :: 2**plane]
        for other in others:
            first = first ^ other
        planes.append(first)
    return planes
