"""Bits of pairs of planes in batches (`count_batches.py`): all pixels and activation planes, and a plane of weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.byte_planes import BytePlanes
from qcompiler.targets.arm.count_batches import BYTES, WORDS, Batch, Count, emit, loads_into
from qcompiler.targets.arm.pinned import Register, fourfold_loads
from qcompiler.targets.vector.direct import ReductionLoop
from qcompiler.targets.vector.emit import LANES, Expr
from qcompiler.targets.vector.plane_sums import Counts
from qcompiler.targets.vector.planes import weight_planes
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_runs_of_taps

_QUADS = range(LANES // WORDS)
# words per jump of the inner loop
_UNROLLED = 2


@dataclass(frozen=True)
class PlaneBatches(BytePlanes):
    """Weights as in `PlaneSums`; tiles of one block. fourfold: whether weights are loaded four at a time."""

    fourfold: bool = False

    family: ClassVar[str] = "byte_planes_conv2d"

    def count_words(self, tile: Tile, counts: Counts, loops: list[ReductionLoop], at: Expr, weight: Expr) -> None:
        """See `BytePlanes.count_words`."""

        def several(steps: list[tuple[Expr, Expr]]) -> None:
            emit([batch for x, w in steps for batch in self._batches(tile, counts, T.bind(x), T.bind(w))])

        with fourfold_loads():
            size = tile.frame.geometry.step_weights
            for_runs_of_taps(loops, tile.every_row, at, weight, size, several, _UNROLLED)

    def _batches(self, tile: Tile, counts: Counts, at: Expr, weight: Expr) -> list[Batch]:
        """Those of a word: the words of all pixels are loaded with the first plane of weights."""
        source, planes = tile.source, weight_planes(tile.frame.problem.weights)
        words = dict[tuple[int, int], Expr]()

        def load(place: tuple[int, int]) -> None:
            p, j = place
            words[place] = Register(source.lanes_at(at + (p * source.pixel_step() + j), 0, WORDS)).words

        def found(plane: int, weights: list[Expr]) -> list[Count]:
            return [
                Count(count, quad * BYTES, words[p, j] ^ weights[quad] if planes.signs else words[p, j] & weights[quad])
                for (p, _, (j, k)), count in counts.items()
                if k == plane
                for quad in _QUADS
            ]

        batches = []
        inputs = dict.fromkeys((p, j) for p, _, (j, _) in counts)
        for plane in dict.fromkeys(k for _, _, (_, k) in counts):
            weights = list[Expr]()
            first = weight * len(planes.factors) + plane * LANES
            loads = loads_into(weights, tile.weights[0], first, len(_QUADS), self.fourfold)
            shared = [] if batches else [partial(load, place) for place in inputs]
            batches.append(Batch([*loads, *shared], partial(found, plane, weights)))
        return batches
