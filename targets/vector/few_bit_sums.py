"""Sums of products of floats with weights of few bits, which become floats on the way: w = low + index * step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.weight_grids import WeightGrid, on_grid
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, splat, split, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Reduction, Registers
from qcompiler.targets.vector.tile import Tile


@dataclass(frozen=True)
class FewBitSums(Reduction):
    """Of matrix products. `fma`: whether the variant fuses multiply and add.

    codes: uint8 [blocks / U, bytes, U, 16], a byte holds the indices of 8 / bits inputs, the first in the lowest bits.
    grids: float32 [blocks, groups, 2, 16], low and step.
    """

    grid: WeightGrid
    fma: bool

    family: ClassVar[str] = "few_bits_conv2d"
    element: ClassVar[str] = "float32"

    def label(self, frame: Frame) -> str:
        """Family, bits and tiling."""
        return f"{self.family}_w{self.grid.bits}_{frame.tiling.label}"

    @property
    def _in_byte(self) -> int:
        return 8 // self.grid.bits

    def _bytes(self, frame: Frame) -> int:
        """Bytes of the indices of one lane."""
        return -(-frame.problem.x.c // self._in_byte)

    def _groups(self, frame: Frame) -> int:
        return -(-frame.problem.x.c // self.grid.size)

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Indices and grids."""
        count = frame.blocks.count * LANES
        return [
            Parameter("codes", "uint8", count * self._bytes(frame), 64),
            Parameter("grids", "float32", count * self._groups(frame) * 2, 64),
        ]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Indices and grids in the order of the loops."""
        found = on_grid(weights.reshape(len(weights), -1))
        assert found is not None and found.grid == self.grid
        index = np.pad(found.index, [(0, 0), (0, -found.index.shape[1] % self._in_byte)])
        shifts = np.arange(self._in_byte, dtype=np.uint8) * np.uint8(self.grid.bits)
        held = np.bitwise_or.reduce(index.reshape(len(weights), -1, self._in_byte) << shifts, axis=-1)
        spread = frame.blocks.spread
        codes = spread(held.T).reshape(held.shape[1], -1, frame.geometry.interleave, LANES).transpose(1, 0, 2, 3)
        sides = [spread(side.T).reshape(side.shape[1], -1, LANES) for side in (found.low, found.step)]
        return [np.ascontiguousarray(codes), np.ascontiguousarray(np.stack(sides, axis=2).transpose(1, 0, 2, 3))]

    def meaning(self, problem: Conv2d, patches: Array, weights: Array) -> Array:
        """Sums of products with the weights on their grids."""
        return np.asarray(patches.astype(np.float64) @ weights.T)

    def fill(self, tile: Tile) -> Registers:
        """Sum all pixels and blocks, group by group."""
        frame, size = tile.frame, self.grid.size
        sums = [[temporary("float32") for _ in range(frame.tiling.blocks)] for _ in range(frame.tiling.pixels)]
        for total in (total for row in sums for total in row):
            write(total, splat(T.float32(0)), lanes(0))
        start = tile.source.start(tile.pixel)
        whole, rest = divmod(frame.problem.x.c, size)
        if whole:
            with T.serial(i64(0), i64(whole)) as group:
                self._group(tile, sums, start, group, size)
        if rest:
            self._group(tile, sums, start, i64(whole), rest)
        return sums

    def _group(self, tile: Tile, sums: Registers, start: Expr, group: Expr, inputs: int) -> None:
        """The inputs of one block of the grid."""
        blocks, in_byte = range(tile.frame.tiling.blocks), self._in_byte
        grids = [self._grid(tile, b, group) for b in blocks]
        first = T.bind(group * self.grid.size)
        whole, rest = divmod(inputs, in_byte)

        def byte(at: Expr, count: int) -> None:
            held = [T.bind(self._codes(tile, b, T.truncdiv(first, i64(in_byte)) + at)) for b in blocks]
            for i in range(count):
                k = first + at * in_byte + i
                weights = [T.bind(self._weight(held[b], i, *grids[b])) for b in blocks]
                for p, row in enumerate(sums):
                    x = tile.source.lanes_at(start + p * tile.source.pixel_step() + k)
                    for total, weight in zip(row, weights, strict=True):
                        write(total, self._multiply_add(x, weight, total[lanes(0)]), lanes(0))

        if whole:
            with T.serial(i64(0), i64(whole)) as at:
                byte(at, in_byte)
        if rest:
            byte(i64(whole), rest)

    def _grid(self, tile: Tile, b: int, group: Expr) -> tuple[Expr, Expr]:
        """Low and step of a block of channels, float32x16."""
        at = T.bind(((tile.block + b) * self._groups(tile.frame) + group) * (2 * LANES))
        data = tile.weights[1]
        return T.bind(data[lanes(at)]), T.bind(data[lanes(at + LANES)])

    def _codes(self, tile: Tile, b: int, at: Expr) -> Expr:
        """Byte number `at` of a block of channels, int32x16."""
        count, side_by_side = self._bytes(tile.frame), tile.frame.geometry.interleave
        outer, inner = split(tile.block + b, side_by_side)
        place = ((outer * count + at) * side_by_side + inner) * LANES
        return T.Cast("int32x16", tile.weights[0][lanes(place)])

    def _weight(self, held: Expr, i: int, low: Expr, step: Expr) -> Expr:
        """The weights of input number i of a byte."""
        mask = 2**self.grid.bits - 1
        index = T.shift_right(held, splat(T.int32(i * self.grid.bits))) & splat(T.int32(mask))
        return self._multiply_add(T.Cast("float32x16", index), step, low)

    def _multiply_add(self, x: Expr, w: Expr, total: Expr) -> Expr:
        """X * w + total, fused where the CPU can."""
        if self.fma:
            return T.call_llvm_pure_intrin("float32x16", "llvm.fma", x, w, total)
        return x * w + total
