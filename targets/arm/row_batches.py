"""Mismatching bits by rows in batches (`count_batches.py`): a few pixels, and all channels of a pass."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.count_batches import WORDS, Batch, Count, emit, loads_into
from qcompiler.targets.arm.pinned import fourfold_loads, pinned_order
from qcompiler.targets.arm.row_mismatches import RowMismatches
from qcompiler.targets.vector.direct import ReductionLoop
from qcompiler.targets.vector.emit import Expr, lanes
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_runs_of_taps

# pixels of a batch, so that what is compared stays in registers beside the sums; steps per jump of the inner loop
_PIXELS, _UNROLLED = 2, 3


@dataclass(frozen=True)
class RowBatches(RowMismatches):
    """`RowMismatches` of several pixels, counted in bytes. fourfold: whether weights are loaded four at a time."""

    fourfold: bool = False

    family: ClassVar[str] = "row_conv2d"

    def count(
        self, tile: Tile, sums: list[list[Expr]], dtype: str, loops: list[ReductionLoop], at: Expr, weight: Expr
    ) -> None:
        """See `RowMismatches.count`."""

        def several(steps: list[tuple[Expr, Expr]]) -> None:
            emit([batch for x, w in steps for batch in self._batches(tile, sums, T.bind(x), T.bind(w))])

        with pinned_order(), fourfold_loads():
            for_runs_of_taps(loops, tile.rows, at, weight, len(sums[0]) * WORDS, several, _UNROLLED)

    def _batches(self, tile: Tile, sums: list[list[Expr]], at: Expr, weight: Expr) -> list[Batch]:
        """Those of a step: weights are loaded with the first pixels."""
        source, weights, words = tile.source, list[Expr](), dict[int, Expr]()

        def load(pixel: int) -> None:
            words[pixel] = T.bind(source.data[lanes(at + pixel * source.pixel_step(), WORDS)])

        def counts(pixels: range) -> list[Count]:
            return [Count(sums[p][c], 0, words[p] ^ w) for p in pixels for c, w in enumerate(weights)]

        batches = []
        for first in range(0, len(sums), _PIXELS):
            pixels = range(first, min(first + _PIXELS, len(sums)))
            shared = [] if first else loads_into(weights, tile.weights[0], weight, len(sums[0]), self.fourfold)
            batches.append(Batch([*shared, *(partial(load, p) for p in pixels)], partial(counts, pixels)))
        return batches
