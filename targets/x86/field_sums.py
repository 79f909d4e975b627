"""Products of a few rows of bytes with weights of 1, 2 and 4 bits, which are multiplied where they lie in their bytes.

A weight is low + step * j. A byte holds the numbers j of 8 / bits channel blocks side by side, and a mask alone makes a
factor of one: at place p it gives sums that are 2**(p * bits) times as large. The second factor of vpdpbusd has a sign,
so the highest bit of the byte is flipped where a number reaches it, which makes the factor 128 less. With S the sum of
the inputs i,

    sum i * w = low * S + step * sum i * j, sum i * j = (register + 128 * S) / 2**(p * bits) at the highest place

and without the 128 at the others. vpmaddubsw adds products up in 16 bits, several steps before they are widened: places
whose factors are too large for that are brought down.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.byte_sums import ONES, ByteDot, IndexSums
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, register, splat, split, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.tilings import Ranked, ranked
from qcompiler.targets.vector.unrolled_parts import for_runs_of_taps
from qcompiler.targets.x86.byte_dots import MultiplyBytes

_WIDTHS = (1, 2, 4)
_SIGN, _MOST = 0x80, 255
# beyond, masks cost little beside products, and `ByteSums` does as well
MOST_ROWS = 8
# rows of a tile; blocks side by side where one row reads all weights once into registers of 512 bits, and elsewhere;
# chosen
_TILE_ROWS = 4
_STREAM, _SHARED = 16, 4
# steps whose products are added up in 16 bits; chosen
HELD = 4

_Operands = list[tuple[Expr, ...]]


@dataclass(frozen=True)
class FieldSums(IndexSums):
    """Weights uint32 [blocks / together, steps, together * bits / 8, 16]."""

    dot: ByteDot
    bits: int
    together: int

    family: ClassVar[str] = "fields_conv2d"

    def label(self, frame: Frame) -> str:
        """Instruction, bits of weights and tiling."""
        return f"{self.family}_{self.dot.name}_w{self.bits}_{frame.tiling.label}"

    @property
    def _in_byte(self) -> int:
        return 8 // self.bits

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Words of weights."""
        return [Parameter("weights", "uint32", frame.blocks.count * frame.geometry.steps * LANES // self._in_byte, 64)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Numbers of weights in the order of the loops."""
        low, step = frame.problem.weights.low, frame.problem.weights.step
        numbers = ((np.rint(weights) - low) / step).astype(np.float32)
        held = frame.geometry.weight_lanes(numbers).view(np.uint8)
        apart = held.reshape(-1, self.together // self._in_byte, self._in_byte, *held.shape[1:])
        places = np.arange(0, 8, self.bits, dtype=np.uint8).reshape(-1, 1, 1)
        joined = np.bitwise_or.reduce(apart << places, axis=2)
        return [np.ascontiguousarray(joined.swapaxes(1, 2)).view(np.uint32).reshape(-1)]

    def weight_steps(self, frame: Frame, block: Expr) -> tuple[Expr, int]:
        """Offset of the weights of a run that starts at `block`, and from one step to the next."""
        per_step = self.together // self._in_byte * LANES
        run, within = split(block, self.together)
        return run * (frame.geometry.steps * per_step) + split(within, self._in_byte)[0] * LANES, per_step

    def started(self, frame: Frame) -> list[Expr]:
        """A register for each block, and one for the sum of the inputs."""
        return [*super().started(frame), register(0)]

    def add_up(self, tile: Tile, sums: Registers, at: Expr, weight: Expr, per_step: int) -> None:
        """Add the products of all inputs to the registers, of several steps at once where they share 16 bits."""
        if not isinstance(self.dot, MultiplyBytes):
            super().add_up(tile, sums, at, weight, per_step)
            return
        steps = partial(self._steps, tile, sums)
        for_runs_of_taps(self.loops(tile.frame), self.rows(tile), at, weight, per_step, steps, self.dot.held)

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Four products in every lane."""
        self._steps(tile, sums, [(at, weight)])

    def _steps(self, tile: Tile, sums: Registers, steps: Sequence[tuple[Expr, Expr]]) -> None:
        """Four products of each step in every lane."""
        width, apart = self.dot.width, tile.source.pixel_step()
        for first in range(0, LANES, width):
            here, inputs = lanes(first, width), []
            for p in range(len(sums)):
                words = [tile.source.lanes_at(at + p * apart, first, width) for at, _ in steps]
                inputs.append([tuple(T.bind(each) for each in self.dot.inputs(held)) for held in words])
            for b in range(tile.frame.tiling.blocks):
                group, place = divmod(b, self._in_byte)
                words = [tile.weights[0][lanes(weight + (group * LANES + first), width)] for _, weight in steps]
                bytes_of = [self.dot.weights(self._factor(held, place)) for held in words]
                factors = [tuple(T.bind(each) for each in parts) for parts in bytes_of]
                for p, row in enumerate(sums):
                    write(row[b], self._added(row[b][here], inputs[p], factors), here)

    def _added(self, total: Expr, inputs: _Operands, factors: _Operands) -> Expr:
        """int32 lanes of `total` plus the products of some steps."""
        if isinstance(self.dot, MultiplyBytes):
            return total + self.dot.widened(reduce(operator.add, map(self.dot.pairs, inputs, factors)))
        for each, factor in zip(inputs, factors, strict=True):
            total = self.dot.add(total, each, factor)
        return total

    def _factor(self, words: Expr, place: int) -> Expr:
        """Words with the numbers at a place of each byte alone, the highest bit of a byte flipped if it has a sign."""
        mask, shift = 2**self.bits - 1, place * self.bits
        if self._is_lowered(place):
            return T.shift_right(words, splat(T.uint32(shift), self.dot.width)) & self._bytes(mask)
        found = words & self._bytes(mask << shift)
        return found ^ self._bytes(_SIGN) if self._is_highest(place) else found

    def _is_lowered(self, place: int) -> bool:
        """Whether factors at a place are brought down, without which 16 bits would not hold their products."""
        most = (2**self.bits - 1) << place * self.bits
        return isinstance(self.dot, MultiplyBytes) and 2 * _MOST * most * self.dot.held >= 2**15

    def _is_highest(self, place: int) -> bool:
        return place == self._in_byte - 1

    def _bytes(self, value: int) -> Expr:
        return splat(T.uint32(value * ONES), self.dot.width)

    def settle(self, tile: Tile, sums: Registers) -> None:
        """Add up the inputs of every row."""
        start = tile.source.start(tile.pixel)
        for p, row in enumerate(sums):
            total = self._inputs(tile, T.bind(start + p * tile.source.pixel_step()))
            write(row[-1], splat(total), lanes(0))

    def _inputs(self, tile: Tile, start: Expr) -> Expr:
        """The sum of the bytes of a row: vectors of words as far as they go, then single ones."""
        width, data = self.dot.width, tile.source.data
        whole, rest = divmod(tile.frame.geometry.steps, width)
        sums, total, ones = temporary("int32", width), temporary("int32", 1), self.dot.weights(self._bytes(1))
        every = lanes(0, width)
        write(sums, splat(T.int32(0), width), every)
        if whole:
            with T.serial(i64(0), i64(whole)) as at:
                words = data[lanes(start + at * width, width)]
                write(sums, self.dot.add(sums[every], self.dot.inputs(words), ones), every)
        write(total, sum((sums[i64(i)] for i in range(1, width)), sums[i64(0)]), i64(0))
        for i in range(rest):
            word = data[start + (whole * width + i)]
            for byte in range(WORD_BYTES):
                held = T.shift_right(word, T.uint32(8 * byte)) & T.uint32(0xFF)
                write(total, total[i64(0)] + T.Cast("int32", held), i64(0))
        return total[i64(0)]

    def finished(self, tile: Tile, row: list[Expr], b: int) -> Expr:
        """Sums of products of a row with the weights as they are."""
        weights, place, inputs = tile.frame.problem.weights, b % self._in_byte, row[-1][lanes(0)]
        total, shift = super().finished(tile, row, b), 0 if self._is_lowered(place) else place * self.bits
        if self._is_highest(place) and shift:
            total = total + inputs * splat(T.int32(_SIGN))
        total = T.shift_right(total, splat(T.int32(shift))) if shift else total
        return total * splat(T.int32(weights.step)) + inputs * splat(T.int32(weights.low))


def field_sums(problem: Conv2d, blocks: Blocks, dot: ByteDot) -> FieldSums | None:
    """The reduction that suits a product of a few rows; None for other problems, and where blocks fill no bytes."""
    rows = problem.out_hw[1]
    matrix = problem.kernel == problem.strides == (1, 1) and problem.groups == 1 and not any(problem.pads)
    if not matrix or problem.x.n * problem.out_hw[0] != 1 or rows > MOST_ROWS or problem.second is not None:
        return None
    bits = next((width for width in _WIDTHS if problem.weights.bits <= width), None)
    if bits is None or problem.centred or not problem.x.in_bytes or not _fits(problem):
        return None
    together = _STREAM if rows == 1 and dot.width == LANES else max(_SHARED, 8 // bits)
    while blocks.count % together:
        together //= 2
    return FieldSums(dot, bits, together) if together * bits >= 8 else None


def _fits(problem: Conv2d) -> bool:
    """Whether 32 bits hold the sums at any place, and what the steps of codes and weights make of them."""
    codes = problem.x.codes
    assert codes is not None
    largest = max(256, problem.weights.step * 2**problem.weights.bits + abs(problem.weights.low))
    return bool((problem.x.c + WORD_BYTES) * 255 * largest * codes.step < 2**31)


def field_tilings(problem: Conv2d, blocks: Blocks, sums: FieldSums, vector_bytes: int, registers: int) -> list[Ranked]:
    """Tiles of a few rows: sums, the inputs of a step, words and a factor in registers.

    Where registers are too few for any tile, the smallest one is left.
    """
    per_block = 64 // vector_bytes
    usable = [b for b in range(8 // sums.bits, sums.together + 1) if sums.together % b == 0 and b * sums.bits % 8 == 0]
    tiles = [(p, b) for p in range(1, min(problem.out_hw[1], _TILE_ROWS) + 1) for b in usable]
    fitting = [(p, b) for p, b in tiles if p * (per_block * b + sums.dot.parts) + 3 <= registers]
    return ranked(problem, blocks, [(p, b, _slowdown(p, b)) for p, b in fitting or [(1, usable[0])]])


def _slowdown(rows: int, blocks: int) -> float:
    """Latency, which four registers hide; masks, which rows share; inputs, which blocks share. From measurements."""
    return max(1.0, 4 / (rows * blocks)) * (1 + 0.3 / rows + 0.3 / blocks)
