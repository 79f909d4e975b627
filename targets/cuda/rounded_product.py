"""Matrix products of floats rounded to 8 bits in blocks with weights of few bits on a grid in the same blocks.

Within a block an input is s * q, q an integer of at most 127 in magnitude, and a weight low + step * j, so
    sum x * w = s * (step * sum q * j + low * sum q),
which is s * step * (sum q * j - zero * sum q) where 0 has one index in all blocks.

A block of threads computes a block of channels of some rows, a thread one channel. Its warps share the inputs: each
takes every fourth piece of 128, or a whole block of the grid where that is larger, rounds it, four numbers to a thread,
and multiplies: words of four integers go from the thread that has them to all others. Then the warps' sums are added.

Weights lie as uint32 [words, threads], the indices of several words of inputs in one: byte n has those of input n of
each word, the first in its lowest bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.block_rounding import SMALLEST
from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.ir.program import LaunchGrid, Rows
from qcompiler.ir.weight_grids import GridWeights, WeightGrid, in_blocks
from qcompiler.targets.cuda.elements import Elements, Pixel, parameter
from qcompiler.targets.cuda.emit import (
    WARP,
    Place,
    barrier,
    exchange,
    fma,
    kernel_function,
    mixed_dot,
    registers,
    taken_from,
    write,
)
from qcompiler.targets.cuda.machine import CACHE_BYTES, Gpu
from qcompiler.targets.cuda.warp_kernel import LaneKernel, pixel_of
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.standard_op import Expr, Parameter
from qcompiler.targets.target import Array, Constants

WARPS = 4
SWEEP = WARP * WORD_BYTES
"""Inputs that a warp has in one word of each thread."""

TILES = (1, 4)
# sizes of blocks that a warp rounds by powers of two of its threads, in words that they hold
SMALLEST_BLOCK, LARGEST_BLOCK = 16, 1024
_LARGEST = 127
_MAGNITUDE = 2**31 - 1
# of what dot products take, these do: indices are taken apart, inputs rounded; chosen, nobody has measured it
_REACHED = 0.25


@dataclass(frozen=True)
class RoundedProduct(LaneKernel):
    """See `qcompiler.targets.target.Kernel`; tile: rows of a block of threads."""

    problem: Conv2d
    tile: int
    nanoseconds: float = 0.0

    @property
    def grid(self) -> WeightGrid:
        """Of the weights."""
        assert self.problem.grid is not None
        return self.problem.grid

    @property
    def name(self) -> str:
        """Bits of weights and rows."""
        return f"rounded_product_w{self.grid.bits}_p{self.tile}"

    @property
    def bits(self) -> int:
        """In which an index is stored: a word of them must not reach beyond a block."""
        return max(2, self.grid.bits)

    @property
    def in_byte(self) -> int:
        """Words of inputs whose indices one word has."""
        return 8 // self.bits

    @property
    def piece(self) -> int:
        """Inputs that a warp rounds at a time."""
        return max(SWEEP, self.grid.size)

    @property
    def pieces(self) -> int:
        """Of a row."""
        return -(-self.problem.x.c // self.piece)

    @property
    def sweeps(self) -> int:
        """Words of inputs of a thread in a piece."""
        return self.piece // SWEEP

    @property
    def sharing(self) -> int:
        """Threads that have words of one block of the grid in a sweep."""
        return min(WARP, self.grid.size // WORD_BYTES)

    @property
    def sides(self) -> int:
        """Numbers that say how the grid of a block of a channel lies."""
        return 2 if self.grid.zero is None else 1

    @property
    def grid_blocks(self) -> int:
        """Blocks of the grid, with those behind the last input that fill its piece."""
        return self.pieces * self.piece // self.grid.size

    @property
    def launch(self) -> LaunchGrid:
        """A row of blocks of threads: all channels of some rows, then of the next."""
        rows = Rows(self.pixels, self.tile, self.lanes.blocks)
        return LaunchGrid((rows.blocks, 1, 1), (WARPS * WARP, 1, 1), 4 * WARPS * self.tile * WARP, rows=rows)

    @property
    def _code_shape(self) -> tuple[int, int]:
        return self.pieces * self.piece // WORD_BYTES // self.in_byte, self.lanes.size

    @property
    def _side_shape(self) -> tuple[int, int, int]:
        return self.grid_blocks, self.sides, self.lanes.size

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """uint32 [words, threads] of indices, float32 [blocks, sides, threads] of steps and lows; the epilogue's."""
        weights = np.asarray(constants.weights, np.float32)
        found = in_blocks(weights.reshape(len(weights), -1), self.grid.size)
        assert found is not None and found.grid == self.grid
        return self._codes(found), self._sides(found), *self.epilogue.pack(constants)

    def _codes(self, found: GridWeights) -> npt.NDArray[np.uint32]:
        index = np.pad(found.index, [(0, 0), (0, self.pieces * self.piece - found.index.shape[1])])
        words = np.ascontiguousarray(index).view("<u4").astype(np.uint32).T
        apart = words.reshape(-1, self.in_byte, words.shape[1])
        places = (np.arange(self.in_byte, dtype=np.uint32) * np.uint32(self.bits)).reshape(-1, 1)
        return self.lanes.spread(np.bitwise_or.reduce(apart << places, axis=1)).astype(np.uint32)

    def _sides(self, found: GridWeights) -> npt.NDArray[np.float32]:
        sides = np.stack([found.step.T, found.low.T][: self.sides], axis=1)
        padded = np.pad(sides, [(0, self.grid_blocks - len(sides)), (0, 0), (0, 0)])
        return self.lanes.spread(padded).astype(np.float32)

    def build(self, name: str) -> Any:
        """A kernel over a row of blocks."""
        own = [
            Parameter("codes", "uint32", int(np.prod(self._code_shape)), 64),
            Parameter("grids", "float32", int(np.prod(self._side_shape)), 64),
        ]
        epilogue = self.epilogue
        parameters = [parameter("x", self.problem.x), *own, *epilogue.constants(), *epilogue.memory()]

        def body(buffers: list[Expr], place: Place) -> None:
            threads = _Threads(self, buffers[:3], place)
            threads.multiply()
            threads.leave_sums()
            threads.finish(buffers[3:])

        return kernel_function(name, parameters, self.launch, body)


class _Threads:
    """What the threads of a block emit."""

    def __init__(self, kernel: RoundedProduct, operands: Sequence[Expr], place: Place) -> None:
        assert place.shared is not None
        self.kernel, self.grid, self.shared = kernel, kernel.grid, place.shared
        data, self.codes, self.grids = operands
        self.x = Elements(kernel.problem.x, data)
        blocks = kernel.lanes.blocks
        self.pixels = place.runs * kernel.pixels
        self.row = T.bind(T.truncdiv(place.block, blocks) * kernel.tile)
        self.block = T.bind(T.truncmod(place.block, blocks))
        self.warp, self.lane = T.bind(T.truncdiv(place.thread, WARP)), T.bind(T.truncmod(place.thread, WARP))
        self.thread = T.bind(self.block * WARP + self.lane)
        self.totals = registers("float32", kernel.tile, T.float32(0))

    def multiply(self) -> None:
        """The pieces of this warp."""
        with T.serial(0, -(-self.kernel.pieces // WARPS)) as index:
            piece = T.bind(index * WARPS + self.warp)
            with T.If(piece < self.kernel.pieces), T.Then():
                self._piece(piece)

    def _piece(self, piece: Expr) -> None:
        kernel = self.kernel
        words, sums = registers("int32", kernel.sweeps * kernel.tile), registers("int32", kernel.tile)
        scales = registers("float32", kernel.tile)
        for r in range(kernel.tile):
            self._round(piece, r, words, sums, scales)
        blocks = max(1, SWEEP // self.grid.size)
        with T.serial(0, blocks) as number:
            first = T.bind(number * kernel.sharing)
            products = self._products(piece, first, words)
            at = T.bind((piece * blocks + number) * (kernel.sides * kernel.lanes.size) + self.thread)
            step = T.bind(self.grids[at])
            for r in range(kernel.tile):
                scale, total = taken_from(scales[r], first), taken_from(sums[r], first)
                found = self._on_grid(products[r], total, step, at)
                write(self.totals, fma(scale, found, self.totals[r]), r)

    def _on_grid(self, products: Expr, total: Expr, step: Expr, at: Expr) -> Expr:
        """float32: what a block of integers gives; total: their sum."""
        if self.grid.zero is not None:
            return T.bind(step * T.Cast("float32", products - total * self.grid.zero))
        low = self.grids[at + self.kernel.lanes.size]
        return fma(step, T.Cast("float32", products), T.bind(low * T.Cast("float32", total)))

    def _round(self, piece: Expr, r: int, words: Expr, sums: Expr, scales: Expr) -> None:
        """The integers of a row, their sum over a block of the grid and its scale, in all threads that share it."""
        kernel = self.kernel
        values = registers("float32", kernel.sweeps * WORD_BYTES)
        largest = registers("int32", 1, T.int32(0))
        pixel = self._pixel(self.row + r)
        for u in range(kernel.sweeps):
            first = T.bind(piece * kernel.piece + u * SWEEP + self.lane * WORD_BYTES)
            for i in range(WORD_BYTES):
                given = first + i < kernel.problem.x.c
                read = T.if_then_else(given, self.x.data[self.x.float_index(pixel, first + i)], T.float32(0))
                write(values, read, u * WORD_BYTES + i)
                magnitude = T.reinterpret("int32", values[u * WORD_BYTES + i]) & T.int32(_MAGNITUDE)
                write(largest, T.max(largest[0], magnitude), 0)
        for mask in self._masks():
            write(largest, T.max(largest[0], exchange(largest[0], mask)), 0)
        most = T.bind(T.reinterpret("float32", largest[0]))
        factor = T.bind(T.Select(most > T.float32(SMALLEST), T.float32(_LARGEST) / most, T.float32(0)))
        write(scales, most / T.float32(_LARGEST), r)
        write(sums, T.int32(0), r)
        for u in range(kernel.sweeps):
            word: Expr = T.int32(0)
            for i in range(WORD_BYTES):
                whole = T.call_pure_extern("float32", "rintf", values[u * WORD_BYTES + i] * factor)
                number = T.bind(T.Cast("int32", whole))
                write(sums, sums[r] + number, r)
                word = word | T.shift_left(number & T.int32(255), T.int32(8 * i))
            write(words, word, r * kernel.sweeps + u)
        for mask in self._masks():
            write(sums, sums[r] + exchange(sums[r], mask), r)

    def _masks(self) -> list[int]:
        """By which numbers of threads that share a block of the grid differ."""
        return [2**n for n in range(self.kernel.sharing.bit_length() - 1)]

    def _pixel(self, number: Expr) -> Pixel:
        return pixel_of(T.min(number, self.pixels - 1), self.kernel.problem.out_hw)

    def _products(self, piece: Expr, first: Expr, words: Expr) -> Expr:
        """int32 of rows: sums of products with the indices of a block, whose words the threads from `first` on have."""
        kernel, mask = self.kernel, T.uint32((2**self.kernel.bits - 1) * 0x01010101)
        products = registers("int32", kernel.tile, T.int32(0))
        for u in range(kernel.sweeps):
            start = T.bind(piece * (kernel.piece // WORD_BYTES) + u * WARP + first)
            with T.serial(0, kernel.sharing // kernel.in_byte) as part:
                at = T.truncdiv(start, kernel.in_byte) + part
                held = T.bind(self.codes[at * kernel.lanes.size + self.thread])
                for place in range(kernel.in_byte):
                    index = T.bind(T.shift_right(held, T.uint32(place * kernel.bits)) & mask)
                    for r in range(kernel.tile):
                        lane = first + part * kernel.in_byte + place
                        inputs = taken_from(words[r * kernel.sweeps + u], lane)
                        write(products, mixed_dot(inputs, index, products[r]), r)
        return products

    def leave_sums(self) -> None:
        """Put the sums of all rows where the other warps find them."""
        for r in range(self.kernel.tile):
            number = T.bind(self.totals[r])
            write(self.shared, T.reinterpret("int32", number), self._place(self.warp, T.int32(r)))
        barrier()

    def _place(self, warp: Expr, row: Expr) -> Expr:
        return (warp * self.kernel.tile + row) * WARP + self.lane

    def finish(self, buffers: Sequence[Expr]) -> None:
        """The epilogue on every fourth row for each warp; buffers: of the epilogue."""
        with T.serial(0, -(-self.kernel.tile // WARPS)) as index:
            row = T.bind(index * WARPS + self.warp)
            with T.If(T.And(row < self.kernel.tile, self.row + row < self.pixels)), T.Then():
                value: Expr = T.float32(0)
                for warp in range(WARPS):
                    held = T.bind(self.shared[self._place(T.int32(warp), row)])
                    value = T.bind(value + T.reinterpret("float32", held))
                self.kernel.epilogue.emit(buffers, self._pixel(self.row + row), self.block, self.lane, value)


def rounded_products(gpu: Gpu, problem: Problem) -> Iterator[RoundedProduct]:
    """Products of floats that are rounded in blocks of a power of two."""
    if not isinstance(problem, Conv2d) or not problem.rounded or problem.grid is None or problem.x.packed:
        return
    size = problem.grid.size
    if size & (size - 1) or not SMALLEST_BLOCK <= size <= LARGEST_BLOCK:
        return
    for tile in TILES:
        kernel = RoundedProduct(problem, tile)
        launched, inputs = kernel.launch.blocks[0], kernel.pieces * kernel.piece
        products = tile * WARP * inputs / WORD_BYTES
        read = WARP * inputs * kernel.bits / 8 + 4 * tile * inputs
        clocks = launched / min(launched, gpu.processors) * (products / (gpu.dot_rate * _REACHED) + read / CACHE_BYTES)
        yield RoundedProduct(problem, tile, clocks / gpu.ghz)
