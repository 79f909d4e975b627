"""Mismatching bits by rows, all instructions of a kind one after the other, for cores that run them in order.

A result of Cortex-A53 or A55 is there some cycles later, and an instruction that would be done before one that was
begun before it waits (in llvm-mca's models). So a few pixels and all channels of a pass are compared, then counted,
then added up, and the operands of what comes next are loaded between the additions, which are done soonest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.pinned import Register, fourfold_loads, load_four, pinned, pinned_address, pinned_order
from qcompiler.targets.arm.row_mismatches import RowMismatches
from qcompiler.targets.vector.direct import ReductionLoop
from qcompiler.targets.vector.emit import Expr, lanes, write
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_runs_of_taps

# of a register of 128 bits, and its bytes
_WORDS, _BYTES = 4, 16
# pixels of a batch, so that what is compared stays in registers beside the sums; steps per jump of the inner loop
_PIXELS, _UNROLLED = 2, 3

Order = Callable[[], None]
"""Emits an instruction."""


@dataclass(frozen=True)
class _Batch:
    """A few pixels of a step: offsets of the step in the input and the weights."""

    at: Expr
    weight: Expr
    pixels: range


@dataclass(frozen=True)
class RowBatches(RowMismatches):
    """`RowMismatches` of several pixels, counted in bytes. fourfold: whether weights are loaded four at a time."""

    fourfold: bool = False

    family: ClassVar[str] = "row_conv2d"

    def count(
        self, tile: Tile, sums: list[list[Expr]], dtype: str, loops: list[ReductionLoop], at: Expr, weight: Expr
    ) -> None:
        """See `RowMismatches.count`."""
        channels, pixels = len(sums[0]), len(sums)
        groups = [range(first, min(first + _PIXELS, pixels)) for first in range(0, pixels, _PIXELS)]

        def several(steps: list[tuple[Expr, Expr]]) -> None:
            batches = [_Batch(T.bind(x), T.bind(w), group) for x, w in steps for group in groups]
            operands = _Operands(self, tile)
            for load in operands.loads(batches[0], channels):
                load()
            for batch, following in zip(batches, [*batches[1:], None], strict=True):
                here = [
                    (sums[p][c], operands.pixels[p] ^ operands.weights[c])
                    for p in batch.pixels
                    for c in range(channels)
                ]
                apart = [Register(pinned("uint32x4", each)) for _, each in here]
                counted = [
                    Register(pinned("uint32x4", T.reinterpret("uint32x4", T.popcount(each.bytes)))) for each in apart
                ]
                additions = [_addition(total, each) for (total, _), each in zip(here, counted, strict=True)]
                _mixed(additions, operands.loads(following, channels) if following else [])

        with pinned_order(), fourfold_loads():
            for_runs_of_taps(loops, tile.rows, at, weight, channels * _WORDS, several, _UNROLLED)


def _addition(total: Expr, counted: Register) -> Order:
    every = lanes(0, _BYTES)
    return lambda: write(total, pinned("uint8x16", total[every] + counted.bytes), every)


class _Operands:
    """Words of pixels and of weights that are in registers."""

    def __init__(self, rows: RowBatches, tile: Tile) -> None:
        self._rows, self._tile = rows, tile
        self.pixels: dict[int, Expr] = {}
        self.weights: list[Expr] = []

    def loads(self, batch: _Batch, channels: int) -> list[Order]:
        """Those that a batch needs: weights with the first pixels of a step."""
        found: list[Order] = []
        if batch.pixels.start == 0:
            found += self._all_weights(batch.weight, channels)
        return found + [self._pixel(batch.at, pixel) for pixel in batch.pixels]

    def _all_weights(self, at: Expr, channels: int) -> list[Order]:
        words = self._tile.weights[0]
        self.weights = []
        if not self._rows.fourfold:
            places = [lanes(at + channel * _WORDS, _WORDS) for channel in range(channels)]
            return [lambda place=place: self.weights.append(T.bind(words[place])) for place in places]
        return [
            lambda first=first: self.weights.extend(
                each.words for each in load_four(pinned_address(words, at + first * _WORDS))
            )
            for first in range(0, channels, 4)
        ]

    def _pixel(self, at: Expr, pixel: int) -> Order:
        source = self._tile.source

        def load() -> None:
            self.pixels[pixel] = T.bind(source.data[lanes(at + pixel * source.pixel_step(), _WORDS)])

        return load


def _mixed(orders: Sequence[Order], others: Sequence[Order]) -> None:
    """Emit all, the others evenly among them."""
    done = 0
    for number, order in enumerate(orders, 1):
        order()
        due = number * len(others) // len(orders)
        for other in others[done:due]:
            other()
        done = due
