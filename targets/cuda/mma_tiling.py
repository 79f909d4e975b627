"""How tensor cores cut a convolution of codes into blocks, warps, steps and instructions.

A convolution is a matrix product for every group: its rows are output pixels, its columns channels, and what is summed
over are words of inputs, tap by tap. A block of threads computes some pixels of some blocks of channels of one group.
Its warps have 16 pixels each, or, where there are few pixels, share them: then each takes a part of every step, and
their sums are added up when all are done. Where there are few blocks, too, several can share a tile: each takes a slice
of the steps and leaves its sums in memory, and a second phase adds them up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from qcompiler.ir.program import LaunchGrid, Rows
from qcompiler.targets.cuda.code_sums import CodeSums
from qcompiler.targets.cuda.emit import WARP
from qcompiler.targets.cuda.warp_kernel import LaneKernel
from qcompiler.targets.problem import Conv2d

Multiplied = Literal["and", "wide and", "xor", "nibbles", "bytes"]
"""By what is multiplied: AND of bits, by a warp or by four, XOR of bits, codes of four bits, or bytes."""

INSTRUCTIONS: dict[Multiplied, str] = {
    "and": "qc_and_16x8x256",
    "wide and": "qc_and_64x64x256",
    "xor": "qc_xor_16x8x256",
    "nibbles": "qc_nibbles_16x8x64",
    "bytes": "qc_bytes_16x8x32",
}

WARPS, TILE, COLUMNS, STEP = 4, 16, 8, 8
"""Warps of a block; rows of a warp, columns and words of one instruction."""

THREADS = WARPS * WARP
STAGES = 2
WIDE = 64
"""Columns of one instruction of four warps, which reads weights from the memory of the block."""

# words between rows, so that the threads of a warp read from different banks of memory
GAP = 4


@dataclass(frozen=True)
class MmaTiling(LaneKernel):
    """blocks: of 32 channels, that a block of threads computes. splits: warps that share the pixels, 1, 2 or 4.

    slices: blocks of threads that share a tile; they divide its rows.
    """

    problem: Conv2d
    blocks: int
    splits: int
    by: Multiplied
    slices: int = 1

    @property
    def fits(self) -> bool:
        """Whether every block of threads computes channels of one group, and as many as its instruction does."""
        if self.wide and (self.blocks * WARP != WIDE or self.splits > 1):
            return False
        if self.problem.groups == 1:
            return True
        blocks = self.lanes.blocks_of(self.problem.groups)
        return blocks is not None and blocks % self.blocks == 0

    @property
    def wide(self) -> bool:
        """Whether four warps multiply together, by weights in the memory of the block."""
        return self.by == "wide and"

    @property
    def needs_totals(self) -> bool:
        """Whether sums of the inputs' numbers are needed."""
        return self.by == "xor" or self.sums.needs_totals

    @property
    def sums(self) -> CodeSums:
        """The arithmetic of codes."""
        return CodeSums(self.problem, self.lanes)

    @property
    def planes(self) -> int:
        """Words of weights for the same inputs."""
        return self.problem.weights.bits if self.problem.x.in_planes else 1

    @property
    def rows(self) -> int:
        """Pixels of a block of threads."""
        return WARPS * TILE // self.splits

    @property
    def column_tiles(self) -> int:
        """Blocks of threads for all channels."""
        return -(-self.lanes.blocks // self.blocks)

    @property
    def tiles(self) -> int:
        """Instructions that cover the channels of a block of threads."""
        return self.blocks * WARP // COLUMNS

    @property
    def tap_words(self) -> int:
        """Words of the inputs of a group under one tap, of all planes."""
        return self.problem.x.group_words * self.problem.x.planes

    @property
    def joined(self) -> int:
        """Words of a plane in memory that are one word of an instruction."""
        return 2 if self.by == "nibbles" else 1

    @property
    def steps(self) -> int:
        """Steps of a block through its slice of all taps, in each of which a warp multiplies 8 words of each plane."""
        return -(-self.sums.taps * self.problem.x.group_words // (STEP * self.joined * self.splits * self.slices))

    @property
    def warps(self) -> int:
        """Of a block of threads."""
        return WARPS

    @property
    def left_words(self) -> int:
        """Words that a slice leaves of a row."""
        return self.lanes.size + (self.lanes.blocks if self.needs_totals else 0)

    @property
    def part_words(self) -> int:
        """Words of a row that a warp multiplies in a step, of all planes."""
        return STEP * self.joined * self.problem.x.planes

    @property
    def step_words(self) -> int:
        """Words of a row that come to the memory of the block in a step, of all planes."""
        return self.part_words * self.splits

    @property
    def copied(self) -> int:
        """Words that are copied at once: those of one tap, of one pixel."""
        return next(words for words in (4, 2, 1) if self.tap_words % words == 0)

    @property
    def row_words(self) -> int:
        """Words from row to row in the memory of the block."""
        return self.step_words + GAP

    @property
    def step_weights(self) -> int:
        """Words of weights that come to the memory of the block in a step, behind the inputs."""
        return self.planes * WIDE * STEP if self.wide else 0

    @property
    def weights_at(self) -> int:
        """Where they lie there."""
        return self.rows * self.row_words

    @property
    def stage(self) -> int:
        """Words of the memory of the block for a step."""
        return self.weights_at + self.step_weights

    @property
    def result_words(self) -> int:
        """Words from row to row of sums."""
        return self.blocks * WARP + COLUMNS

    @property
    def totals_at(self) -> int:
        """Where sums of inputs lie in the memory of the block: behind those of products, of all warps."""
        return WARPS * TILE * self.result_words

    @property
    def launch(self) -> LaunchGrid:
        """A row of blocks of threads: all channels of some pixels, then of the next."""
        shared = 4 * max(STAGES * self.stage, self.totals_at + WARPS * TILE)
        rows = Rows(self.pixels, self.rows, self.column_tiles * self.slices)
        grid = LaunchGrid((rows.blocks, 1, 1), (THREADS, 1, 1), shared, rows=rows)
        left = 4 * self.pixels * self.slices * self.left_words
        return grid if self.slices == 1 else replace(grid, phases=2, scratch_bytes=left)

    @property
    def weight_shape(self) -> tuple[int, int, int, int, int]:
        """Steps of warps, planes, tiles of columns, threads, registers; or as many, as four warps read them.

        These read them from blocks of 8 columns of 4 words, two of which, one behind the other in words, are 8 words.
        """
        return (self.steps * self.slices * self.splits, self.planes, self.column_tiles * self.tiles, WARP, 2)
