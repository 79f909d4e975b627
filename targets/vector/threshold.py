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
    if _whole_bits(limits.shape[-3] + 1):
        # those of channels that fall come from the highest on
        limits = np.sort(limits, axis=-3)
    turned = blocks.spread((~rising).astype(np.int64)).reshape(-1, LANES)
    beyond = ends.max if issubclass(dtype, np.integer) else np.inf
    return [blocks.spread(limits, beyond), (turned << np.arange(LANES)).sum(axis=1).astype(np.uint16)]


def read_limits(limits: Expr, at: Expr, size: int, levels: int, channels: int = LANES) -> list[Expr]:
    """Of the channels whose lowest threshold lies at `at`, from the lowest on; size: how far those of the next are."""
    return [limits[lanes(at + level * size, channels)] for level in range(levels - 1)]


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
        whole = _whole_bits(self.levels)
        masks = [self._turned(reached) for reached in (self._bits() if whole else self._every())]
        return masks[::-1] if whole else counted(masks)

    def counts(self) -> Expr:
        """The counts of one block, int32x16."""
        levels = self.levels
        one, none = splat(T.int32(1)), splat(T.int32(0))
        if _whole_bits(levels):
            worths = [(bit, levels >> place) for place, bit in enumerate(self._bits(), 1)]
        else:
            worths = [(reached, 1) for reached in self._every()]
        count = temporary("int32")
        write(count, none, lanes(0))
        for reached, worth in worths:
            write(count, count[lanes(0)] + T.Select(reached, splat(T.int32(worth)), none), lanes(0))
        falls = T.shift_right(splat(T.Cast("int32", self.turned)), T.ramp(T.int32(0), T.int32(1), LANES)) & one
        return T.Select(falls == one, splat(T.int32(levels - 1)) - count[lanes(0)], count[lanes(0)])

    def _every(self) -> list[Expr]:
        """Whether each limit is reached."""
        return [self.value >= limit for limit in self.limits]

    def _bits(self) -> list[Expr]:
        """The bits of the number of limits that are reached, from the highest on."""
        limits, bits = self.limits, []
        while limits:
            middle = len(limits) // 2
            reached = self.value >= limits[middle]
            halves = zip(limits[middle + 1 :], limits[:middle], strict=True)
            limits = [T.bind(T.Select(reached, above, below)) for above, below in halves]
            bits.append(reached)
        return bits

    def _turned(self, reached: Expr) -> Expr:
        """Whether lanes hold a condition, or do not where the channel falls, of the type of `turned`."""
        mask = temporary(f"uint{self.channels}", 1)
        write(mask, mask_bits(reached, self.channels) ^ self.turned, i64(0))
        return mask[i64(0)]


def _whole_bits(levels: int) -> bool:
    """Whether the counts of limits are all numbers of some bits."""
    return levels & (levels - 1) == 0


def counted(masks: list[Expr]) -> list[Expr]:
    """Each bit plane of the counts of nested masks."""
    planes = []
    for plane in range(len(masks).bit_length()):
        first, *others = masks[2**plane - 1 :: 2**plane]
        for other in others:
            first = first ^ other
        planes.append(first)
    return planes


def reached_by_pixels(values: list[Expr], limits: Expr, turned: Expr, at: Expr) -> Expr:
    """Bit c of int32x16, a lane for each pixel: whether channel c of a block reaches its limit, turned where it falls.

    values: a register of pixels for each channel; limits: those of the channels lie from `at` on.
    """
    bits = temporary("int32")
    write(bits, splat(T.Cast("int32", turned)), lanes(0))
    for channel, value in enumerate(values):
        reached = value[lanes(0)] >= splat(limits[at + channel])
        bit = T.Select(reached, splat(T.int32(1 << channel)), splat(T.int32(0)))
        write(bits, bits[lanes(0)] ^ bit, lanes(0))
    return bits[lanes(0)]
