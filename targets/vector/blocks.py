"""Output channels in blocks of sixteen lanes.

A block never straddles two groups of a packed output, so its sign bits are exactly one half of a word. Lanes beyond the
last channel of a group are padding: their weights are 0 and nothing is stored for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.storage import Buffer
from qcompiler.targets.problem import Operation
from qcompiler.targets.vector.emit import LANES, Expr, lanes, splat, split


@dataclass(frozen=True)
class Blocks:
    """`channels` in `groups` equal groups, each starting at a block."""

    channels: int
    groups: int = 1

    @property
    def group_channels(self) -> int:
        """Channels of one group."""
        return self.channels // self.groups

    @property
    def per_group(self) -> int:
        """Blocks of one group."""
        return -(-self.group_channels // LANES)

    @property
    def count(self) -> int:
        """All blocks."""
        return self.groups * self.per_group

    @property
    def rest(self) -> int:
        """Channels of the last block of a group, if it has padding; 0 if no block has."""
        return self.group_channels % LANES

    @property
    def ragged(self) -> bool:
        """Whether some lanes are padding."""
        return self.rest != 0

    def first(self, block: Expr) -> Expr:
        """First channel of a block."""
        if self.groups == 1:
            return block * LANES
        group, within = split(block, self.per_group)
        return group * self.group_channels + within * LANES

    def last(self, block: Expr) -> Expr:
        """Whether a block is the last of its group."""
        return split(block, self.per_group)[1] == self.per_group - 1

    def valid(self, block: Expr) -> Expr:
        """Number of channels in a block."""
        within = split(block, self.per_group)[1]
        return T.min(T.int64(LANES), self.group_channels - within * LANES)

    def lane_mask(self, block: Expr, first: int = 0, count: int = LANES) -> Expr:
        """uint1 [count]: which lanes of a block, from `first` on, are channels."""
        within = split(block, self.per_group)[1]
        return lanes(within * LANES + first, count) < splat(T.int64(self.group_channels), count)

    def half(self, block: Expr, into: Buffer) -> tuple[Expr, Expr | None]:
        """Which uint16 of a pixel holds the bits of a block, and whether the next one is padding to be cleared."""
        blocks = -(-(self.channels // into.groups) // LANES)
        group, within = split(block, blocks)
        half = block if into.groups == 1 else group * (2 * into.group_words) + within
        return half, (within == blocks - 1 if blocks % 2 else None)

    def channel_of_lane(self) -> npt.NDArray[np.int64]:
        """int64 [count * 16]: the channel of every lane, -1 for padding."""
        lane = np.arange(self.count * LANES)
        group, within = np.divmod(lane, self.per_group * LANES)
        return np.where(within < self.group_channels, group * self.group_channels + within, -1)

    def spread(self, values: npt.NDArray[Any], fill: float = 0) -> npt.NDArray[Any]:
        """Values [..., channels] per lane, [..., count * 16], with `fill` in padding."""
        channel = self.channel_of_lane()
        return np.where(channel >= 0, values[..., channel], np.asarray(fill, values.dtype)).astype(values.dtype)


def blocks_for(channels: int, operations: Sequence[Operation]) -> Blocks | None:
    """Blocks that suit every packed output; None if two of them group channels in irreconcilable ways."""
    packed = [s.into for s in operations if s.into is not None and s.into.packed]
    awkward = {b.groups for b in packed if b.groups > 1 and (channels // b.groups) % LANES}
    if not awkward:
        return Blocks(channels)
    groups = awkward.pop()
    same = all(b.groups == groups for b in packed)
    return Blocks(channels, groups) if same and not awkward else None
