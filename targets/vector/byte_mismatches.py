"""Mismatching bits by words where vectors count bits by bytes: a word of one pixel against one of every channel.

A vector holds four output channels: population counts of four bytes each. With ARM's udot a count is added to its
32-bit lane in one instruction. Elsewhere bytes are counted, and added up after at most 31 steps. Either way three
instructions make 128 products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.direct import ReductionLoop
from qcompiler.targets.vector.emit import LANES, Expr, four_added, lanes, splat, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_parts, for_unrolled_taps
from qcompiler.targets.vector.word_mismatches import TapBody, WordMismatches

_BYTES = 4 * LANES
# accumulators of sixteen lanes up to which unrolling leaves registers for the operands of several steps
_SMALL = 2


@dataclass(frozen=True)
class UnrolledMismatches(WordMismatches):
    """Weights as in `WordMismatches`. unroll: words per jump of the innermost loop where the tile is small."""

    unroll: int

    family: ClassVar[str] = "word_conv2d"

    def skips_columns(self, frame: Frame) -> bool:
        """Never: a loop per kernel column would be too short."""
        return False

    def for_steps(self, loops: list[ReductionLoop], tile: Tile, at: Expr, weight: Expr, body: TapBody) -> None:
        """Run the reduction `loops`, unrolled where the tile is small."""
        small = tile.frame.tiling.pixels * tile.frame.tiling.blocks <= _SMALL
        unrolled = self.unroll if small else 1
        for_unrolled_taps(loops, tile.rows, at, weight, tile.frame.geometry.step_weights, body, unrolled)


@dataclass(frozen=True)
class ByteMismatches(UnrolledMismatches):
    """Weights as in `WordMismatches`; needs one input word for all lanes of a run.

    widen: the LLVM intrinsic that adds up neighbouring lanes into lanes of twice the size.
    """

    widen: str

    family: ClassVar[str] = "byte_conv2d"

    def accumulate(self, tile: Tile, counts: list[list[Expr]]) -> None:
        """counts[p][b] += mismatches of pixel p with the channels of block b."""
        geometry = tile.frame.geometry
        first, per_step = T.bind(geometry.first_weight(tile.block)), geometry.step_weights

        def part(loops: list[ReductionLoop], at: Expr, weight: Expr) -> None:
            self._part(tile, counts, loops, at, weight)

        for_parts(geometry.loops(), tile.rows, tile.source.start(tile.pixel), first, per_step, part)

    def _part(self, tile: Tile, counts: list[list[Expr]], loops: list[ReductionLoop], at: Expr, weight: Expr) -> None:
        """Count in bytes, then add up the four bytes of every channel."""
        sums = [[temporary("uint8", _BYTES) for _ in row] for row in counts]
        every = lanes(0, _BYTES)
        for total in (total for row in sums for total in row):
            write(total, splat(T.uint8(0), _BYTES), every)
        source, w, geometry = tile.source, tile.weights[0], tile.frame.geometry

        def step(x: Expr, first: Expr) -> None:
            for p, row in enumerate(sums):
                word = source.lanes_at(x + p * source.pixel_step())
                for b, total in enumerate(row):
                    mismatch = T.reinterpret(f"uint8x{_BYTES}", word ^ w[lanes(first + geometry.block_offset(b))])
                    write(total, total[every] + T.popcount(mismatch), every)

        self.for_steps(loops, tile, at, weight, step)
        for row, narrow in zip(counts, sums, strict=True):
            for count, total in zip(row, narrow, strict=True):
                for quad in range(0, LANES, 4):
                    write(
                        count,
                        count[lanes(quad, 4)] + four_added(total[lanes(4 * quad, 16)], self.widen),
                        lanes(quad, 4),
                    )
