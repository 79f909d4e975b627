"""Sums of products of codes in bytes without dot instructions: sixteen inputs of a pixel times those of a channel.

Inputs are loaded as they lie, with no broadcast; weights change places once for all pixels. Products have 16 bits, and
are added up there as long as they fit, which is for whole layers of few bits. Then, or at once where not even several
products fit, neighbours are added up in 32 bits. An accumulator belongs to one pixel and one output channel; in the end
four of them are added up across lanes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.byte_dots import largest_input
from qcompiler.targets.arm.element_dots import ElementDots
from qcompiler.targets.arm.row_mismatches import side_by_side
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.byte_sums import codes_of
from qcompiler.targets.vector.direct import ReductionLoop
from qcompiler.targets.vector.emit import LANES, Expr, i64, lanes, register, splat, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_hidden_taps, for_parts

# words of a register, its lanes of products, and channels whose sums fill it
_WORDS, _PRODUCTS = 4, 8
_QUAD = 4
# steps of sixteen products that pay for sums of 16 bits; chosen
_WORTHWHILE = 4
# words of two registers in turn: of their lower halves, of their upper halves
_ZIPPED = [0, 4, 1, 5], [2, 6, 3, 7]


@dataclass(frozen=True)
class ByteRows(ElementDots):
    """Weights as in `ElementDots`, which variants with sdot share; tiles of one block. See `reads_registers`."""

    family: ClassVar[str] = "bytes_row_conv2d"

    def fill(self, tile: Tile) -> Registers:
        """Sum all pixels, a few channels after the other."""
        frame, step = tile.frame, codes_of(tile.frame.problem).step
        sums = [register(0) for _ in range(frame.tiling.pixels)]
        at, (first, size) = tile.source.start(tile.pixel), self.weight_steps(frame, tile.block)
        channels = _channels(frame)
        with T.serial(i64(0), i64(LANES // channels)) as each:

            def part(loops: list[ReductionLoop], x: Expr, w: Expr) -> None:
                self._add(tile, sums, each * channels, loops, x, w)

            start = T.bind(first + each * channels)
            if in_halves(frame.problem):
                for_parts(self.loops(frame), tile.every_row, at, start, size, part, _steps_in_halves(frame.problem))
            else:
                part(self.loops(frame), at, start)
        for total in sums:
            write(total, total[lanes(0)] if step == 1 else total[lanes(0)] * splat(T.int32(step)), lanes(0))
        return [[total] for total in sums]

    def _add(
        self, tile: Tile, sums: list[Expr], channel: Expr, loops: list[ReductionLoop], at: Expr, weight: Expr
    ) -> None:
        """Add up products, then the lanes of every accumulator."""
        problem, channels = tile.frame.problem, _channels(tile.frame)
        dtype, count = ("int16", _PRODUCTS) if in_halves(problem) else ("int32", _QUAD)
        totals = [[temporary(dtype, count) for _ in range(channels)] for _ in sums]
        every, together = lanes(0, count), _products_in_halves(problem) > 1
        for total in (total for row in totals for total in row):
            write(total, splat(T.Cast(dtype, T.int32(0)), count), every)

        def step(x: Expr, w: Expr) -> None:
            inputs = [T.reinterpret("int8x16", self.inputs(tile, x, p)) for p in range(len(sums))]
            for first in range(0, channels, _QUAD):
                for c, weights in enumerate(self._rows(tile, w + first), first):
                    for row, ours in zip(totals, inputs, strict=True):
                        write(row[c], _added(dtype, row[c][every], _products(ours, weights), together), every)

        _, size = self.weight_steps(tile.frame, tile.block)
        for_hidden_taps(loops, tile.every_row, at, weight, size, step)
        for total, row in zip(sums, totals, strict=True):
            wide = [_widened(each[every]) if dtype == "int16" else each[every] for each in row]
            for first in range(0, channels, _QUAD):
                pairs = [side_by_side("int32x4", *wide[i : i + 2]) for i in (first, first + 2)]
                into = lanes(channel + first, _QUAD)
                write(total, total[into] + side_by_side("int32x4", *pairs), into)

    def _rows(self, tile: Tile, at: Expr) -> list[Expr]:
        """int8x16: sixteen weights of each of four channels, whose words lie side by side for each four inputs."""
        _, size = self.weight_steps(tile.frame, tile.block)
        words = [T.bind(tile.weights[0][lanes(at + word * (size // _WORDS), _QUAD)]) for word in range(_WORDS)]
        low, high = ([T.bind(T.Shuffle(words[i : i + 2], order)) for i in (0, 2)] for order in _ZIPPED)
        halves = [T.Shuffle(pair, order) for pair in (low, high) for order in ([0, 1, 4, 5], [2, 3, 6, 7])]
        return [T.bind(T.reinterpret("int8x16", each)) for each in halves]


def in_halves(problem: Conv2d) -> bool:
    """Whether products are added up in 16 bits."""
    return _steps_in_halves(problem) >= _WORTHWHILE


def _products_in_halves(problem: Conv2d) -> int:
    """Products whose sum 16 bits hold."""
    largest = max(abs(problem.weights.low), abs(problem.weights.high))
    return (2**15 - 1) // max(1, largest_input(problem) * largest)


def _steps_in_halves(problem: Conv2d) -> int:
    """Steps whose sums 16 bits hold: two products each."""
    return _products_in_halves(problem) // 2


def _channels(frame: Frame) -> int:
    """Output channels at once: as many as there are accumulators and registers of products for."""
    few = 2 if in_halves(frame.problem) else 1
    return 2 * _QUAD if frame.tiling.pixels <= few else _QUAD


def _products(left: Expr, right: Expr) -> list[Expr]:
    """int16x8: products of the first eight bytes, and of the others."""
    halves = [list(range(first, first + _PRODUCTS)) for first in (0, _PRODUCTS)]
    wide = [[T.Cast("int16x8", T.Shuffle([each], half)) for each in (left, right)] for half in halves]
    return [ours * theirs for ours, theirs in wide]


def _added(dtype: str, total: Expr, products: list[Expr], together: bool) -> Expr:
    """A sum and products: in 16 bits, or neighbours in 32; together: 16 bits hold the sum of two."""
    if dtype == "int16":
        return reduce(add, products, total)
    return reduce(add, map(_widened, [products[0] + products[1]] if together else products), total)


def _widened(halves: Expr) -> Expr:
    """int32x4: neighbours of int16x8 added up."""
    return T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp", halves)
