"""Products of rounded floats by vpmaddubsw, whose sums of two products are added up in 16 bits for some steps."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import Expr, i64
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.rounded_blocks import RoundedBlocks
from qcompiler.targets.vector.rounded_sums import GridPart, RoundedSums
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.x86.byte_dots import MultiplyBytes, no_pairs

HELD = 8
"""Steps whose products are added up in 16 bits: those of a block of 32 inputs. Chosen."""
MOST = (2**15 - 1) // (2 * 127 * HELD)
"""The largest factor of which 16 bits hold so many."""


@dataclass(frozen=True)
class RoundedPairs(RoundedSums):
    """Codes and grids as in `RoundedSums`."""

    dot: MultiplyBytes

    def _products(self, tile: Tile, rows: list[RoundedBlocks], sums: Registers, part: GridPart) -> None:
        """Add up as many steps in 16 bits as those hold, then in 32."""
        steps = self._group_steps()
        together = next(count for count in range(min(HELD, steps), 0, -1) if steps % count == 0)
        with T.serial(i64(0), i64(steps // together)) as several:
            pairs = [[no_pairs() for _ in row] for row in sums]
            with T.serial(i64(0), i64(together)) as step:
                self._step(tile, rows, pairs, part, several * together + step)
            for totals, narrow in zip(sums, pairs, strict=True):
                for total, each in zip(totals, narrow, strict=True):
                    self.dot.settle(total, each)

    def _multiply(self, total: Expr, first: int, factors: tuple[Expr, ...], inputs: tuple[Expr, ...]) -> None:
        """Add sums of two products in 16 bits."""
        self.dot.multiply(total, first, factors, inputs)
