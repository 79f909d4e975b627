"""Products of floats that are rounded to 8 bits in blocks with weights of few bits on a grid in the same blocks.

Within a block an input is s * q, q an integer of at most 127 in magnitude, and a weight low + step * j. With integer
sums of four products at a time,

    sum x * w = s * (step * sum q * j + low * sum q),

which is s * step * (sum q * j - zero * sum q) where 0 has one index in all blocks. A byte holds the indices j of
8 / bits channel blocks side by side, and a mask makes a factor of one: at place p it gives sums that are 2**(p * bits)
times as large. Factors beyond `most` are shifted down instead, as all are where tiles do not hold whole bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.block_rounding import rounded_in_blocks
from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.ir.weight_grids import GridWeights, WeightGrid, in_blocks
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.byte_sums import ONES, ByteDot
from qcompiler.targets.vector.emit import (
    LANES,
    Expr,
    Parameter,
    i64,
    lanes,
    register,
    splat,
    split,
    temporary,
    write,
)
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Reduction, Registers
from qcompiler.targets.vector.rounded_blocks import RoundedBlocks
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.tilings import Ranked, ranked

_SIGN = 0x80
# blocks side by side, and those that are read at a time; measured
_TOGETHER, _TURN = 16, 4
# inputs that are rounded together: what a stack array may hold
_CHUNK = 512
# blocks whose totals are in one array on the stack: TVM takes larger ones from the heap
_ARRAY = 8


@dataclass(frozen=True)
class RoundedSums(Reduction):
    """codes: uint32 [blocks / together, groups, together / turn, steps of a group, turn * bits / 8, 16], as loops go.

    Blocks are rounded up; a step is four inputs, a group a block of the grid.
    grids: float32 [blocks / together, groups, together, 16] of steps, or [..., together, 2, 16] of steps and lows where
    0 has no index.
    most: the largest factor that `dot` takes. held: sums of sixteen lanes that registers have room for.
    """

    grid: WeightGrid
    dot: ByteDot
    together: int
    most: int
    held: int

    family: ClassVar[str] = "rounded_conv2d"
    element: ClassVar[str] = "float32"

    def label(self, frame: Frame) -> str:
        """Instruction, bits of weights and tiling."""
        return f"{self.family}_{self.dot.name}_w{self.grid.bits}_{frame.tiling.label}"

    @property
    def _in_byte(self) -> int:
        return 8 // self.grid.bits

    @property
    def _flips(self) -> bool:
        """Whether indices that fill a byte are stored less 128."""
        return self.grid.bits == 8 and self.dot.signed

    @property
    def _sides(self) -> int:
        return 2 if self.grid.zero is None else 1

    def turn(self, problem: Conv2d) -> int:
        """Blocks whose indices for a block of the grid lie in one piece.

        Of one row of few bits registers of 512 bits hold the sums of all that lie side by side, and take them at once.
        """
        if self.grid.bits < 8 and problem.out_hw[1] == 1 and self.dot.width == LANES:
            return self.together
        return min(self.together, max(_TURN, self._in_byte))

    def _groups(self, frame: Frame) -> int:
        return -(-frame.problem.x.c // self.grid.size)

    def _group_steps(self) -> int:
        return self.grid.size // WORD_BYTES

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Indices and grids."""
        bytes_of_lane = self._groups(frame) * self._group_steps() * self._runs(frame) * self.together // self._in_byte
        grids = self._runs(frame) * self.together * self._groups(frame) * self._sides
        return [
            Parameter("codes", "uint32", bytes_of_lane * LANES, 64),
            Parameter("grids", "float32", grids * LANES, 64),
        ]

    def _runs(self, frame: Frame) -> int:
        return -(-frame.blocks.count // self.together)

    def _in_place(self, frame: Frame) -> bool:
        """Whether it is known beforehand where in a byte the blocks of a tile lie."""
        return frame.tiling.blocks % self._in_byte == 0 and frame.blocks.count % frame.tiling.blocks == 0

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Indices and grids in the order of the loops."""
        found = in_blocks(weights.reshape(len(weights), -1), self.grid.size)
        assert found is not None and found.grid == self.grid
        return [self._codes(frame, found), self._grids(frame, found)]

    def _codes(self, frame: Frame, found: GridWeights) -> Array:
        inputs = self._groups(frame) * self.grid.size
        index = np.pad(found.index, [(0, 0), (0, inputs - found.index.shape[1])])
        index = index ^ np.uint8(_SIGN) if self._flips else index
        words = frame.blocks.spread(np.ascontiguousarray(index).view(np.uint32).T)
        words = np.pad(words, [(0, 0), (0, self._runs(frame) * self.together * LANES - words.shape[1])])
        held = words.reshape(len(words), self._runs(frame), -1, self._in_byte, LANES)
        places = (np.arange(self._in_byte, dtype=np.uint32) * np.uint32(self.grid.bits)).reshape(-1, 1)
        joined = np.bitwise_or.reduce(held << places, axis=3)
        turn = self.turn(frame.problem)
        parts = self.together // turn, turn // self._in_byte
        apart = joined.reshape(self._groups(frame), self._group_steps(), self._runs(frame), *parts, LANES)
        return np.ascontiguousarray(apart.transpose(2, 0, 3, 1, 4, 5)).reshape(-1)

    def _grids(self, frame: Frame, found: GridWeights) -> Array:
        low = found.low + found.step * np.float32(_SIGN) if self._flips else found.low
        sides = np.stack([frame.blocks.spread(side.T) for side in (found.step, low)][: self._sides], axis=1)
        held = np.pad(sides, [(0, 0), (0, 0), (0, self._runs(frame) * self.together * LANES - sides.shape[2])])
        apart = held.reshape(*held.shape[:2], self._runs(frame), self.together, LANES)
        return np.ascontiguousarray(apart.transpose(2, 0, 3, 1, 4)).astype(np.float32)

    def meaning(self, problem: Conv2d, patches: Array, weights: Array) -> Array:
        """Sums of products of the rounded inputs with the weights on their grids."""
        rounded = rounded_in_blocks(patches.astype(np.float32), self.grid.size)
        return np.asarray(rounded.astype(np.float64) @ weights.T)

    def fill(self, tile: Tile) -> Registers:
        """Sum all rows and blocks, chunk by chunk of groups whose inputs are rounded together."""
        frame = tile.frame
        size, blocks = self._array(frame), range(frame.tiling.blocks)
        arrays = range(len(blocks) // size)
        totals = [[temporary("float32", size * LANES) for _ in arrays] for _ in range(frame.tiling.pixels)]
        for row in totals:
            for b in blocks:
                write(row[b // size], splat(T.float32(0)), lanes(b % size * LANES))
        whole, rest = divmod(frame.problem.x.c, self.grid.size)
        most = max(1, min(whole, _CHUNK // self.grid.size))
        rows = [RoundedBlocks(self.grid.size, most) for _ in range(frame.tiling.pixels)]
        if whole:
            with T.serial(i64(0), i64(-(-whole // most))) as chunk:
                first = T.bind(chunk * most)
                count = i64(most) if whole % most == 0 else T.bind(T.min(i64(most), whole - first))
                self._chunk(tile, totals, rows, first, count, self.grid.size)
        if rest:
            self._chunk(tile, totals, rows, i64(whole), i64(1), rest)
        return [[_register_of(row[b // size], b % size) for b in blocks] for row in totals]

    def _chunk(
        self, tile: Tile, totals: list[list[Expr]], rows: list[RoundedBlocks], first: Expr, count: Expr, inputs: int
    ) -> None:
        """`count` blocks of the grid from `first` on, of `inputs` inputs each."""
        start = tile.source.start(tile.pixel)
        with T.serial(i64(0), count) as place:
            for p, row in enumerate(rows):
                at = T.bind(start + p * tile.source.pixel_step() + (first + place) * self.grid.size)
                row.round(tile.source.data, at, place, inputs)
        with T.serial(i64(0), count) as place:
            self._group(tile, totals, rows, place, T.bind(first + place))

    def _group(self, tile: Tile, totals: list[list[Expr]], rows: list[RoundedBlocks], place: Expr, group: Expr) -> None:
        """One block of the grid, for as many channel blocks at a time as registers hold."""
        size, at_once = self._array(tile.frame), self._at_once(tile.frame)
        if size == 1:
            self._blocks(tile, rows, GridPart(place, group, totals, 0, i64(0)))
            return
        for array in range(tile.frame.tiling.blocks // size):
            held = [row[array : array + 1] for row in totals]
            with T.serial(i64(0), i64(size // at_once)) as turn:
                self._blocks(tile, rows, GridPart(place, group, held, array * size, T.bind(turn * at_once)))

    def _blocks(self, tile: Tile, rows: list[RoundedBlocks], part: GridPart) -> None:
        """One block of the grid, for the channel blocks whose sums are in registers."""
        blocks = range(self._at_once(tile.frame))
        sums = [[register(0) for _ in blocks] for _ in rows]
        for row, registers in zip(rows, sums, strict=True):
            total = T.bind(row.sums[part.place])
            for b, found in enumerate(registers):
                write(found, splat(self._started(tile.frame, total, b)), lanes(0))
        self._products(tile, rows, sums, part)
        for b in blocks:
            self._add(tile, rows, [registers[b] for registers in sums], part, b)

    def _products(self, tile: Tile, rows: list[RoundedBlocks], sums: Registers, part: GridPart) -> None:
        """Add the products of a block of the grid to registers."""
        with T.serial(i64(0), i64(self._group_steps())) as step:
            self._step(tile, rows, sums, part, step)

    def _at_once(self, frame: Frame) -> int:
        """Blocks of a tile whose sums are in registers at the same time: a divisor of those of the tile."""
        least, blocks = self._in_byte if self._in_place(frame) else 1, frame.tiling.blocks
        sizes = [b for b in range(least, blocks + 1, least) if blocks % b == self.turn(frame.problem) % b == 0]
        return max([b for b in sizes if b * frame.tiling.pixels <= self.held], default=least)

    def _array(self, frame: Frame) -> int:
        """Blocks whose totals are in one array: one where the sums of all are in registers, else some at a time."""
        blocks, at_once = frame.tiling.blocks, self._at_once(frame)
        return 1 if at_once == blocks else max(at_once, min(blocks, _ARRAY))

    def _started(self, frame: Frame, total: Expr, b: int) -> Expr:
        """What a register starts from: the products with the index of 0, taken away."""
        if self.grid.zero is None:
            return T.int32(0)
        zero = self.grid.zero - (_SIGN if self._flips else 0)
        return total * T.int32(-zero * 2 ** self._scale(frame, b))

    def _scale(self, frame: Frame, b: int) -> int:
        """By which power of two the sums of a block are too large."""
        shift = b % self._in_byte * self.grid.bits
        return 0 if self._is_lowered(shift) or not self._in_place(frame) else shift

    def _is_lowered(self, shift: int) -> bool:
        return shift > 0 and (2**self.grid.bits - 1) << shift > self.most

    def _step(self, tile: Tile, rows: list[RoundedBlocks], sums: Registers, part: GridPart, step: Expr) -> None:
        """Four products in every lane."""
        width = self.dot.width
        words = [row.words[part.place * self._group_steps() + step] for row in rows]
        inputs = [tuple(T.bind(each) for each in self.dot.weights(splat(word, width))) for word in words]
        for first in range(0, LANES, width):
            for i in range(len(sums[0])):
                factors = tuple(T.bind(each) for each in self.dot.inputs(self._factor(tile, part, step, first, i)))
                for p, row in enumerate(sums):
                    self._multiply(row[i], first, factors, inputs[p])

    def _multiply(self, total: Expr, first: int, factors: tuple[Expr, ...], inputs: tuple[Expr, ...]) -> None:
        """Add four products to every lane of a register from lane `first` on."""
        here = lanes(first, self.dot.width)
        write(total, self.dot.add(total[here], factors, inputs), here)

    def _factor(self, tile: Tile, part: GridPart, step: Expr, first: int, b: int) -> Expr:
        """Words with the indices of a block alone, `b` behind the first of a part."""
        width, mask, shift = self.dot.width, 2**self.grid.bits - 1, b % self._in_byte * self.grid.bits
        at, place = self._indices(tile, part, step, b)
        words = tile.weights[0][lanes(at + first, width)]
        if self.grid.bits == 8:
            return words
        in_place = self._in_place(tile.frame)
        if in_place and not self._is_lowered(shift):
            return words & splat(T.uint32((mask << shift) * ONES), width)
        down = T.uint32(shift) if in_place else T.Cast("uint32", place * self.grid.bits)
        return T.shift_right(words, splat(down, width)) & splat(T.uint32(mask * ONES), width)

    def _indices(self, tile: Tile, part: GridPart, step: Expr, b: int) -> tuple[Expr, Expr]:
        """Where the indices of a block lie, and at which place in bytes where that is not known beforehand."""
        size = self.turn(tile.frame.problem)
        run, within, behind = self._place(tile, part, b)
        turn, left = split(within, size)
        word, place = split(left, self._in_byte)
        turn = (run * self._groups(tile.frame) + part.group) * (self.together // size) + turn
        steps = turn * self._group_steps() + step
        return (steps * (size // self._in_byte) + word + behind // self._in_byte) * LANES, place

    def _place(self, tile: Tile, part: GridPart, b: int) -> tuple[Expr, Expr, int]:
        """Run and place of a channel block, `b` behind the first of a part: the place of one before, and how far."""
        block = tile.block + part.start + part.first
        if self._in_place(tile.frame):
            return *split(block, self.together), b
        return *split(block + b, self.together), 0

    def _add(self, tile: Tile, rows: list[RoundedBlocks], sums: list[Expr], part: GridPart, b: int) -> None:
        """Scale the sums of one block of channels, `b` behind the first, and add them to the totals."""
        frame = tile.frame
        here = lanes(T.bind((part.first + b) * LANES) if self._array(frame) > 1 else 0)
        run, within, behind = self._place(tile, part, b)
        groups = run * self._groups(frame) + part.group
        at = T.bind((groups * self.together + within + behind) * (self._sides * LANES))
        step = T.bind(tile.weights[1][lanes(at)])
        for row, found, totals in zip(rows, sums, part.totals, strict=True):
            total = totals[b % len(totals)]
            factor = step * splat(row.steps[part.place] * T.float32(2.0 ** -self._scale(frame, b)))
            value = total[here] + T.Cast("float32x16", found[lanes(0)]) * factor
            if self.grid.zero is None:
                low = tile.weights[1][lanes(at + LANES)]
                value = value + low * splat(row.steps[part.place] * T.Cast("float32", row.sums[part.place]))
            write(total, value, here)


@dataclass(frozen=True)
class GridPart:
    """What is summed at a time: one block of the grid and some channel blocks of a tile.

    place: of the block of the grid among those that are rounded together. group: of all of them, which one.
    totals: of each row, an array for each channel block, or one array where these are those from `first` on.
    start: of the tile, the channel block where totals begin.
    """

    place: Expr
    group: Expr
    totals: list[list[Expr]]
    start: int
    first: Expr


def _register_of(totals: Expr, b: int) -> Expr:
    """The register of one block."""
    found = temporary("float32")
    write(found, totals[lanes(b * LANES)], lanes(0))
    return found


def blocks_together(bits: int, count: int) -> int:
    """Blocks whose indices lie side by side."""
    in_byte, together = 8 // bits, _TOGETHER
    while together > in_byte and count % together:
        together //= 2
    return together


def rounded_tilings(problem: Conv2d, blocks: Blocks, sums: RoundedSums) -> list[Ranked]:
    """Tiles that hold whole bytes where the blocks divide evenly; elsewhere bytes are taken apart for every tile.

    The more blocks, the fewer times a row is rounded; the more rows, the fewer times weights are read, which takes
    longer where turns are read in parts. Each row has a factor for every place in a byte, for which registers are left.
    """
    bits, in_byte, turn = sums.grid.bits, 8 // sums.grid.bits, sums.turn(problem)
    sizes = [b for b in (32, 16, 8, 4, 2, 1) if b <= blocks.count and sums.together % min(b, sums.together) == 0]
    whole = [b for b in sizes if b % in_byte == blocks.count % b == 0]
    least, reading = (in_byte, 0.12 * bits) if whole else (1, 0.12 * bits + 0.45)
    most = 1 if sums.held == 1 else max(3 if bits >= 4 else 2, sums.held // (2 * in_byte))
    tiles = []
    for p in range(1, min(problem.out_hw[1], most) + 1):
        in_parts = turn > least and p * turn > sums.held
        largest = _TOGETHER if p <= 2 or bits == 8 or in_parts else 2 * _TOGETHER
        slowdown = 1.08 if in_parts else 1.0
        tiles += [(p, b, slowdown * (1.25 + 3.0 / b + reading / p)) for b in whole or sizes if b <= largest]
    return ranked(problem, blocks, tiles)
