"""Sums of products of few bits by vpmaddubsw, whose sums of two products are added up in 16 bits while those hold them.

So two instructions do as many products as three or four where every pair is added up in 32 bits: 64 products of 4 by 4
bits in a cycle of a processor that multiplies two vectors of 32 bytes, where sums of pairs are widened after 136 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.byte_sums import ByteSums
from qcompiler.targets.vector.direct import ReductionLoop
from qcompiler.targets.vector.emit import LANES, Expr, lanes, splat, temporary, write
from qcompiler.targets.vector.patch_sums import PatchSums
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_parts, for_unrolled_taps
from qcompiler.targets.x86.byte_dots import MultiplyBytes

# steps between two jumps; chosen
_UNROLLED = 2
_PAIRS = 2 * LANES
"""Of a register: two for each lane of 32 bits."""


@dataclass(frozen=True)
class PairSums(ByteSums):
    """Weights as in `ByteSums`."""

    dot: MultiplyBytes

    family: ClassVar[str] = "pairs_conv2d"

    def add_up(self, tile: Tile, sums: Registers, at: Expr, weight: Expr, per_step: int) -> None:
        """Add up as many steps in 16 bits as those hold, then in 32."""
        rows = self.rows(tile)

        def part(loops: list[ReductionLoop], x: Expr, w: Expr) -> None:
            pairs = [[temporary("int16", _PAIRS) for _ in row] for row in sums]
            for each in (each for row in pairs for each in row):
                write(each, splat(T.int16(0), _PAIRS), lanes(0, _PAIRS))

            def step(x: Expr, w: Expr) -> None:
                self.step(tile, pairs, x, w)

            for_unrolled_taps(loops, rows, x, w, per_step, step, _UNROLLED)
            for totals, narrow in zip(sums, pairs, strict=True):
                for total, each in zip(totals, narrow, strict=True):
                    self._widen(total, each)

        for_parts(self.loops(tile.frame), rows, at, weight, per_step, part, self.dot.held)

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Four products in every lane."""
        if tile.frame.problem.centred or tile.frame.gathers:
            super().step(tile, sums, at, weight)
        else:
            self.by_pixels(tile, sums, at, weight)

    def multiply(self, total: Expr, first: int, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> None:
        """Add sums of two products in 16 bits."""
        here = lanes(2 * first, 2 * self.dot.width)
        write(total, total[here] + self.dot.pairs(inputs, weights), here)

    def _widen(self, total: Expr, pairs: Expr) -> None:
        """Add sums in 16 bits to those in 32."""
        width = self.dot.width
        for first in range(0, LANES, width):
            here = lanes(first, width)
            write(total, total[here] + self.dot.widened(pairs[lanes(2 * first, 2 * width)]), here)


@dataclass(frozen=True)
class PatchPairs(PatchSums, PairSums):
    """Of windows whose bytes lie side by side."""

    family: ClassVar[str] = "patches_pairs_conv2d"
