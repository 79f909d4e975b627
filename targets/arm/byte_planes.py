"""Bits of pairs of planes counted in bytes, as those of binary layers are: three instructions for 128 products.

A byte holds the counts of 31 words; then the four bytes of every channel are added up, times what the planes are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.pinned import pinned, pinned_order
from qcompiler.targets.vector.direct import ReductionLoop
from qcompiler.targets.vector.emit import LANES, Expr, four_added, lanes, splat, temporary, write
from qcompiler.targets.vector.plane_sums import Counts, Pair, PlaneSums, places, worth_of
from qcompiler.targets.vector.ternary_sums import TernarySums
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_hidden_taps, for_parts

_BYTES = 4 * LANES
_QUAD = 4


@dataclass(frozen=True)
class BytePlanes(PlaneSums):
    """Weights as in `PlaneSums`; needs one input word for all lanes of a run."""

    family: ClassVar[str] = "byte_planes_conv2d"

    def count(self, tile: Tile, sums: list[list[Expr]], pairs: list[Pair], at: Expr, weight: Expr) -> None:
        """Add what `pairs` of planes are worth to the sums of every pixel and block."""
        geometry = tile.frame.geometry

        def part(loops: list[ReductionLoop], at: Expr, weight: Expr) -> None:
            counts = {place: temporary("uint8", _BYTES) for place in places(tile.frame.tiling, pairs)}
            for count in counts.values():
                write(count, splat(T.uint8(0), _BYTES), lanes(0, _BYTES))
            with pinned_order():
                self.count_words(tile, counts, loops, at, weight)
            self._widen(tile, sums, counts)

        for_parts(geometry.loops(), tile.every_row, at, weight, geometry.step_weights, part)

    def count_words(self, tile: Tile, counts: Counts, loops: list[ReductionLoop], at: Expr, weight: Expr) -> None:
        """Add the bits of every word of a part of the reduction, within `pinned_order`."""
        step = partial(self.step, tile, counts)
        for_hidden_taps(loops, tile.every_row, at, weight, tile.frame.geometry.step_weights, step)

    def add(self, count: Expr, both: Expr) -> None:
        """Add the number of bits of each byte to its lane."""
        words = T.bind(both)
        for first in range(0, LANES, _QUAD):
            here = lanes(4 * first, 4 * _QUAD)
            few = T.reinterpret("uint8x16", T.Shuffle([words], list(range(first, first + _QUAD))))
            write(count, pinned("uint8x16", count[here] + T.popcount(few)), here)

    def _widen(self, tile: Tile, sums: list[list[Expr]], counts: Counts) -> None:
        """Add up the four bytes of every channel."""
        for (p, b, pair), count in counts.items():
            worth = splat(T.int32(worth_of(tile.frame.problem, pair)), _QUAD)
            for quad in range(0, LANES, _QUAD):
                added, here = four_added(count[lanes(4 * quad, 4 * _QUAD)], self.widen), lanes(quad, _QUAD)
                write(sums[p][b], sums[p][b][here] + added * worth, here)


@dataclass(frozen=True)
class ByteTernary(TernarySums, BytePlanes):
    """Weights as in `TernarySums`, counted in bytes."""

    family: ClassVar[str] = "byte_ternary_conv2d"
