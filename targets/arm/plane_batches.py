"""Bits of pairs of planes in batches (`count_batches.py`): all pixels and activation planes, and a plane of weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.byte_planes import BytePlanes
from qcompiler.targets.arm.count_batches import BYTES, WORDS, Batch, Count, emit, loads_into
from qcompiler.targets.arm.pinned import Register, pinned
from qcompiler.targets.vector.direct import ReductionLoop
from qcompiler.targets.vector.emit import LANES, Expr, lanes
from qcompiler.targets.vector.plane_sums import Counts
from qcompiler.targets.vector.planes import weight_planes
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_runs_of_taps

_QUADS = range(LANES // WORDS)
# words of input per jump of the inner loop; counts of a batch, so that what is compared stays in registers
_UNROLLED, _COUNTS = 4, 8


@dataclass(frozen=True)
class PlaneBatches(BytePlanes):
    """Weights as in `PlaneSums`; tiles of one block."""

    family: ClassVar[str] = "byte_planes_conv2d"

    def count_words(self, tile: Tile, counts: Counts, loops: list[ReductionLoop], at: Expr, weight: Expr) -> None:
        """See `BytePlanes.count_words`."""
        adjacent = loops[-1].stride == tile.frame.problem.x.planes

        def several(steps: list[tuple[Expr, Expr]]) -> None:
            words = _Words(tile, [T.bind(x) for x, _ in steps], adjacent)
            batches = [batch for i, (_, w) in enumerate(steps) for batch in self._batches(tile, counts, words, i, w)]
            words.load(dict.fromkeys((p, j) for p, _, (j, _) in counts))
            emit(batches)

        size = tile.frame.geometry.step_weights
        for_runs_of_taps(loops, tile.every_row, at, weight, size, several, _UNROLLED)

    def _batches(self, tile: Tile, counts: Counts, words: _Words, step: int, weight: Expr) -> list[Batch]:
        """Those of a step: a plane of weights, and as many words of pixels as a batch holds."""
        planes = weight_planes(tile.frame.problem.weights)
        batches, repeated = list[Batch](), set[tuple[int, int]]()
        for plane in dict.fromkeys(k for _, _, (_, k) in counts):
            weights = list[Expr]()
            first = weight * len(planes.factors) + plane * LANES
            loads = loads_into(weights, tile.weights[0], first, len(_QUADS), fourfold=False)
            places = [(p, j) for p, _, (j, k) in counts if k == plane]
            for start in range(0, len(places), _COUNTS // len(_QUADS)):
                here = places[start : start + _COUNTS // len(_QUADS)]
                repeat = [partial(words.repeat, step, place) for place in here if place not in repeated]
                repeated |= set(here)
                found = partial(_counts, planes.signs, counts, words, plane, weights, here)
                batches.append(Batch([*([] if start else loads), *repeat], found))
        return batches


def _counts(
    signs: bool, counts: Counts, words: _Words, plane: int, weights: list[Expr], places: list[tuple[int, int]]
) -> list[Count]:
    """What a batch counts."""
    found = []
    for (p, j), quad in product(places, _QUADS):
        both = words[p, j] ^ weights[quad] if signs else words[p, j] & weights[quad]
        found.append(Count(counts[p, 0, (j, plane)], quad * BYTES, both))
    return found


class _Words:
    """Words of input in all lanes, of the steps of a jump; adjacent: whether those of all steps and planes are."""

    def __init__(self, tile: Tile, steps: list[Expr], adjacent: bool) -> None:
        self._tile, self._steps, self._planes = tile, steps, tile.frame.problem.x.planes
        self._registers = len(steps) * self._planes // WORDS if adjacent else 0
        self._together = self._registers * WORDS == len(steps) * self._planes
        self._held = dict[tuple[int, int], Register]()
        self._repeated = dict[tuple[int, int], Register]()

    def load(self, places: Iterable[tuple[int, int]]) -> None:
        """Whole registers of adjacent words, at the start of a jump."""
        source = self._tile.source
        for p, i in product(dict.fromkeys(p for p, _ in places), range(self._registers if self._together else 0)):
            here = lanes(self._steps[0] + (p * source.pixel_step() + i * WORDS), WORDS)
            self._held[p, i] = Register(source.data[here])

    def repeat(self, step: int, place: tuple[int, int]) -> None:
        """A word of a pixel and plane, four times."""
        (p, j), source = place, self._tile.source
        if self._together:
            register, lane = divmod(step * self._planes + j, WORDS)
            word = T.Shuffle([self._held[p, register].words], [lane] * WORDS)
            self._repeated[place] = Register(pinned("uint32x4", word))
        else:
            self._repeated[place] = Register(
                source.lanes_at(self._steps[step] + (p * source.pixel_step() + j), 0, WORDS)
            )

    def __getitem__(self, place: tuple[int, int]) -> Expr:
        return self._repeated[place].words
