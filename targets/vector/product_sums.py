"""Batches of products of two run-time matrices of codes in bytes, by the instructions of `byte_sums.py`.

The left operand is a = low_a + i, the right one b = low_b + j, where a weight w of 8 bits with a sign is j, or j - 128
if j needs all 8 bits (`problem.neutral`). With a = i' + s and b = w + t,

    sum a * b = sum i' * w + s * sum w + t * sum i' + K * s * t,

where the sums of w and i' are products with ones, made along the way only where s and t are not 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.targets.problem import Conv2d, neutral
from qcompiler.targets.vector.byte_sums import ONES, ByteSums, codes_of
from qcompiler.targets.vector.direct import for_taps
from qcompiler.targets.vector.emit import LANES, Expr, i64, lanes, register, splat, split, write
from qcompiler.targets.vector.finish import Finish
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile


@dataclass(frozen=True)
class ProductSums(ByteSums):
    """Registers hold whole sums, int32; codes have a step of 1."""

    family: ClassVar[str] = "bytes_matmul"

    def fill(self, tile: Tile) -> Registers:
        """Sum all rows and blocks of columns of one product."""
        frame, tiling = tile.frame, tile.frame.tiling
        made = _Sums(self, tile, *self._offsets(frame.problem))
        second = frame.problem.second
        assert second is not None
        product = split(tile.pixel[2], frame.problem.out_hw[1] // second.n)[0]
        first = frame.geometry.first_weight(tile.block) + product * (second.nbytes // second.n // WORD_BYTES)
        start = tile.source.start(tile.pixel)
        for_taps(frame.geometry.loops(), (i64(0), i64(1)), start, T.bind(first), frame.geometry.step_weights, made.step)
        return [[made.finished(p, b) for b in range(tiling.blocks)] for p in range(tiling.pixels)]

    def _offsets(self, problem: Conv2d) -> tuple[int, int]:
        """S and t: what is taken from the codes of either side."""
        assert problem.second is not None and problem.second.codes is not None
        left, right = codes_of(problem), problem.second.codes
        return left.low + self.shift(left), right.low + neutral(right)


@dataclass(frozen=True)
class ProductFinish(Finish):
    """Registers of int32, rounded to float32 once."""

    def emit(self, tile: Tile, registers: Registers) -> None:
        """Run the epilogue on each register."""
        n, y, x0 = tile.pixel
        for p, row in enumerate(registers):
            for b, total in enumerate(row):
                tile.epilogue.emit((n, y, x0 + p), tile.block + b, T.Cast("float32x16", total[lanes(0)]))


class _Sums:
    """The accumulators of a tile: of products, of each block's weights and of each row's inputs."""

    def __init__(self, sums: ProductSums, tile: Tile, left: int, right: int) -> None:
        self.dot, self.tile, self.left, self.right = sums.dot, tile, left, right
        self.shift = sums.shift(codes_of(tile.frame.problem))
        tiling = tile.frame.tiling
        self.products = [[register(0) for _ in range(tiling.blocks)] for _ in range(tiling.pixels)]
        self.weights = [register(0) for _ in range(tiling.blocks)] if left else []
        self.inputs = [register(0) for _ in range(tiling.pixels)] if right else []

    def step(self, at: Expr, weight: Expr) -> None:
        """Four inputs of every row and block."""
        for first in range(0, LANES, self.dot.width):
            self._part(first, at, weight)

    def _part(self, first: int, at: Expr, weight: Expr) -> None:
        dot, source, here = self.dot, self.tile.source, lanes(first, self.dot.width)
        ones = splat(T.uint32(ONES), dot.width)
        inputs = []
        for p in range(len(self.products)):
            words = source.lanes_at(at + p * source.pixel_step(), first, dot.width)
            inputs.append(tuple(T.bind(each) for each in dot.inputs(self._flipped(words, self.shift))))
        for p, total in enumerate(self.inputs):
            write(total, dot.add(total[here], inputs[p], dot.weights(ones)), here)
        for b in range(self.tile.frame.tiling.blocks):
            place = weight + first + self.tile.frame.geometry.block_offset(b)
            words = self._flipped(self.tile.weights[0][lanes(place, dot.width)], self._neutral)
            weights = tuple(T.bind(each) for each in dot.weights(words))
            for p, row in enumerate(self.products):
                write(row[b], dot.add(row[b][here], inputs[p], weights), here)
            if self.weights:
                write(self.weights[b], dot.add(self.weights[b][here], dot.inputs(ones), weights), here)

    @property
    def _neutral(self) -> int:
        second = self.tile.frame.problem.second
        assert second is not None and second.codes is not None
        return neutral(second.codes)

    def _flipped(self, words: Expr, highest: int) -> Expr:
        return words ^ splat(T.uint32(ONES * highest), self.dot.width) if highest else words

    def finished(self, p: int, b: int) -> Expr:
        """The register of a row and a block, whole."""
        problem, total = self.tile.frame.problem, self.products[p][b]
        inputs = problem.x.c
        # what fills the last word is 0 before it is flipped
        filling = -inputs % WORD_BYTES
        constant = inputs * self.left * self.right + self.right * filling * self.shift
        value = total[lanes(0)]
        if self.weights:
            value = value + self.weights[b][lanes(0)] * splat(T.int32(self.left))
        if self.inputs:
            value = value + self.inputs[p][lanes(0)] * splat(T.int32(self.right))
        if constant:
            value = value + splat(T.int32(constant))
        write(total, value, lanes(0))
        return total
