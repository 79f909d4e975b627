"""Sums of products of few bits by vpmaddubsw, whose sums of two products are added up in 16 bits while those hold them.

So two instructions do as many products as three or four where every pair is added up in 32 bits: 64 products of 4 by 4
bits in a cycle of a processor that multiplies two vectors of 32 bytes, where sums of pairs are widened after 136 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler.targets.vector.byte_sums import ByteSums
from qcompiler.targets.vector.direct import ReductionLoop
from qcompiler.targets.vector.emit import Expr
from qcompiler.targets.vector.patch_sums import PatchSums
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_parts, for_unrolled_taps
from qcompiler.targets.x86.byte_dots import MultiplyBytes, no_pairs

# steps between two jumps; chosen
_UNROLLED = 2


@dataclass(frozen=True)
class PairSums(ByteSums):
    """Weights as in `ByteSums`."""

    dot: MultiplyBytes

    family: ClassVar[str] = "pairs_conv2d"

    def add_up(self, tile: Tile, sums: Registers, at: Expr, weight: Expr, per_step: int) -> None:
        """Add up as many steps in 16 bits as those hold, then in 32."""
        rows = self.rows(tile)

        def part(loops: list[ReductionLoop], x: Expr, w: Expr) -> None:
            pairs = [[no_pairs() for _ in row] for row in sums]

            def step(x: Expr, w: Expr) -> None:
                self.step(tile, pairs, x, w)

            for_unrolled_taps(loops, rows, x, w, per_step, step, _UNROLLED)
            for totals, narrow in zip(sums, pairs, strict=True):
                for total, each in zip(totals, narrow, strict=True):
                    self.dot.settle(total, each)

        for_parts(self.loops(tile.frame), rows, at, weight, per_step, part, self.dot.held)

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Four products in every lane."""
        if tile.frame.problem.centred or tile.frame.gathers:
            super().step(tile, sums, at, weight)
        else:
            self.by_pixels(tile, sums, at, weight)

    def multiply(self, total: Expr, first: int, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> None:
        """Add sums of two products in 16 bits."""
        self.dot.multiply(total, first, inputs, weights)


@dataclass(frozen=True)
class PatchPairs(PatchSums, PairSums):
    """Of windows whose bytes lie side by side."""

    family: ClassVar[str] = "patches_pairs_conv2d"
