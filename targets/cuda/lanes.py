"""Channels on the threads of warps: a block of channels is what a warp handles, a thread of it one channel.

A block is a word of the bit planes that a kernel writes: groups of channels start at a block, so the last one of a
group may have fewer channels than threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.cuda.emit import WARP
from qcompiler.targets.problem import Conv2d, Problem, outputs_of
from qcompiler.targets.standard_op import Expr


@dataclass(frozen=True)
class Lanes:
    """The blocks of `channels` channels in `groups` equal groups."""

    channels: int
    groups: int = 1

    @property
    def per_group(self) -> int:
        """Channels of a group."""
        return self.channels // self.groups

    @property
    def group_blocks(self) -> int:
        """Blocks of a group."""
        return -(-self.per_group // WARP)

    @property
    def blocks(self) -> int:
        """Blocks of all channels."""
        return self.groups * self.group_blocks

    @property
    def size(self) -> int:
        """Threads for all channels, those without one included."""
        return self.blocks * WARP

    def blocks_of(self, groups: int) -> int | None:
        """Blocks of each of so many equal groups of channels; None where a block has channels of two of them."""
        whole = groups % self.groups == 0 and self.channels // groups % WARP == 0
        return self.blocks // groups if whole or self.groups % groups == 0 else None

    def within(self, block: Expr, lane: Expr) -> Expr:
        """int32: the number of a thread's channel in its group; it has none where that is `per_group` or more."""
        return lane if self.group_blocks == 1 else T.truncmod(block, self.group_blocks) * WARP + lane

    def valid(self, block: Expr, lane: Expr) -> Expr:
        """Whether a thread has a channel."""
        return T.bool(True) if self.per_group % WARP == 0 else self.within(block, lane) < self.per_group

    def channel(self, block: Expr, lane: Expr) -> Expr:
        """int32: a thread's channel; some channel where it has none."""
        within = self.within(block, lane)
        if self.per_group % WARP:
            within = T.min(within, self.per_group - 1)
        return within if self.groups == 1 else T.truncdiv(block, self.group_blocks) * self.per_group + within

    def spread(self, array: npt.NDArray[Any], axis: int = -1) -> npt.NDArray[Any]:
        """Values of channels along an axis as threads read them, 0 where a thread has no channel."""
        channels = np.moveaxis(array, axis, -1)
        grouped = channels.reshape(*channels.shape[:-1], self.groups, self.per_group)
        padding = self.group_blocks * WARP - self.per_group
        padded = np.pad(grouped, [*[(0, 0)] * (grouped.ndim - 1), (0, padding)])
        flat = padded.reshape(*channels.shape[:-1], self.size)
        return np.ascontiguousarray(np.moveaxis(flat, -1, axis))


def lanes_of(problem: Problem) -> Lanes:
    """The blocks in which a kernel writes: packed outputs have one grouping."""
    channels = problem.out_channels if isinstance(problem, Conv2d) else problem.x.c
    groups = [buffer.groups for buffer in outputs_of(problem) if buffer.packed]
    return Lanes(channels, groups[0] if groups else 1)
