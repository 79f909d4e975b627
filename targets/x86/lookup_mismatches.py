"""Mismatching bits by lookups in byte lanes, for CPUs without a vector population count.

Lane = output channel; a weight byte holds 8 inputs of one channel. For each activation nibble a, the table of sixteen
entries popcount(a xor i) is looked up with the weight nibbles as indices: count8 += shuffle(TABLE[a], weight nibble).
Bytes hold the sums of at most 31 input bytes (31 * 8 = 248), then they are widened.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.target import Array
from qcompiler.targets.vector.direct import ReductionLoop, for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, splat, split, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.word_mismatches import Mismatches

_SHUFFLE = {16: "llvm.x86.ssse3.pshuf.b.128", 32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}
# four bytes a word: 28 of the 31 that a sum holds
_WORDS_PER_BYTE_SUM = 7
# of a word of 32 bits
_NIBBLES = 8


@dataclass(frozen=True)
class LookupMismatches(Mismatches):
    """Weights uint8 [groups, steps, 4, S * 16]: byte b of every channel's word, S blocks of channels side by side.

    `width`: channels per shuffle, 16, 32 or 64; the run of B blocks is cut into vectors of that width.
    """

    width: int

    family: ClassVar[str] = "lookup_conv2d"

    def label(self, frame: Frame) -> str:
        """Family, channels per shuffle and tiling."""
        return f"{self.family}_w{self.width}{frame.tiling.label}"

    def _shares(self, frame: Frame) -> bool:
        """Whether vectors of this width lie evenly in groups of the size that all widths share."""
        return gcd(frame.blocks.count, 4) % (self.width // LANES) == 0

    def _side(self, frame: Frame) -> int:
        """Blocks side by side, S."""
        return gcd(frame.blocks.count, 4) if self._shares(frame) else frame.tiling.blocks

    def _groups(self, frame: Frame) -> npt.NDArray[np.int64]:
        """int64 [groups, S]: the blocks that lie side by side."""
        if self._shares(frame):
            return np.arange(frame.blocks.count).reshape(-1, self._side(frame))
        return frame.geometry.runs(frame.tiling.blocks)

    def _first_weight(self, tile: Tile) -> Expr:
        """Offset of the weights of a run."""
        side = self._side(tile.frame)
        group, within = split(tile.block, side) if self._shares(tile.frame) else (tile.run, i64(0))
        return group * (side * _block_bytes(tile.frame)) + within * LANES

    def _vector_offset(self, frame: Frame, vector: int) -> int:
        """Offset of a vector of a run from the first."""
        group, within = divmod(vector * (self.width // LANES), self._side(frame))
        return group * self._side(frame) * _block_bytes(frame) + within * LANES

    def _vectors(self, frame: Frame) -> range:
        """Vectors of a run."""
        return range(frame.tiling.blocks * LANES // self.width)

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Weights, and the tables uint8 [16, width]."""
        weights = Parameter("weights", "uint8", self._groups(frame).size * _block_bytes(frame), 64)
        return [weights, Parameter("tables", "uint8", 16 * self.width, 64)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Bytes of the words of `WordMismatches`, regrouped by byte."""
        words = frame.geometry.weight_lanes(weights)[self._groups(frame)]
        bytes_of_lane = words.view(np.uint8).reshape(*words.shape, 4).transpose(0, 2, 4, 1, 3)
        nibbles = np.arange(16)
        table = np.bitwise_count(nibbles[:, None] ^ nibbles[None, :]).astype(np.uint8)
        return [np.ascontiguousarray(bytes_of_lane), np.tile(table, (1, self.width // 16))]

    def fill(self, tile: Tile) -> Registers:
        """Count in bytes, and widen now and then."""
        pixels, vectors = range(tile.frame.tiling.pixels), self._vectors(tile.frame)
        sums = [[temporary("uint16", self.width) for _ in vectors] for _ in pixels]
        for total in (total for row in sums for total in row):
            write(total, splat(T.uint16(0), self.width), lanes(0, self.width))
        self._accumulate(tile, sums)
        return [self._blocks_of(row, tile.start) for row in sums]

    def _blocks_of(self, row: list[Expr], start: int) -> list[Expr]:
        """The sums of one pixel as int32x16 per block."""
        counts = []
        for total in row:
            for first in range(0, self.width, LANES):
                count = temporary("int32")
                write(count, T.Cast("int32x16", total[lanes(first)]) + splat(T.int32(start)), lanes(0))
                counts.append(count)
        return counts

    def _accumulate(self, tile: Tile, sums: list[list[Expr]]) -> None:
        """sums[p][v] += mismatches of pixel p with the channels of vector v."""
        *outer, inner = tile.frame.geometry.loops()
        chunks = -(-inner.extent // _WORDS_PER_BYTE_SUM)
        chunk = -(-inner.extent // chunks)
        per_step, first = 4 * LANES * self._side(tile.frame), T.bind(self._first_weight(tile))

        def row(at: Expr, weight: Expr) -> None:
            with T.serial(i64(0), i64(chunks)) as part:
                start = part * chunk
                trips = T.min(i64(chunk), inner.extent - start) if inner.extent % chunk else i64(chunk)
                at_part, weight_part = at + start * inner.stride, weight + start * per_step
                self._chunk(tile, sums, ReductionLoop(trips, inner.stride), T.bind(at_part), T.bind(weight_part))

        for_taps(outer, tile.rows, tile.source.start(tile.pixel), first, per_step * inner.extent, row)

    def _chunk(self, tile: Tile, sums: list[list[Expr]], loop: ReductionLoop, at: Expr, weight: Expr) -> None:
        """Add up to seven words in bytes, then widen."""
        all_lanes = lanes(0, self.width)
        counts = [[temporary("uint8", self.width) for _ in row] for row in sums]
        for count in (count for row in counts for count in row):
            write(count, splat(T.uint8(0), self.width), all_lanes)
        with T.serial(i64(0), loop.extent) as word:
            self._word(tile, counts, at + word * loop.stride, weight + word * (4 * LANES * self._side(tile.frame)))
        for row, narrow in zip(sums, counts, strict=True):
            for total, count in zip(row, narrow, strict=True):
                write(total, total[all_lanes] + T.Cast(f"uint16x{self.width}", count[all_lanes]), all_lanes)

    def _word(self, tile: Tile, counts: list[list[Expr]], at: Expr, weight: Expr) -> None:
        """One activation word per pixel: eight lookups per vector."""
        w, tables = tile.weights
        words = [T.bind(tile.source.data[at + p * tile.source.pixel_step()]) for p in range(len(counts))]
        low, side = splat(T.uint8(15), self.width), self._side(tile.frame)
        for byte in range(4):
            packed = [
                T.bind(w[lanes(weight + (byte * side * LANES + self._vector_offset(tile.frame, v)), self.width)])
                for v in self._vectors(tile.frame)
            ]
            halves = [[T.bind(p & low) for p in packed],
                      [T.bind(T.shift_right(p, splat(T.uint8(4), self.width))) for p in packed]]  # fmt: skip
            for p, row in enumerate(counts):
                for half in range(2):
                    table = T.bind(tables[self._table(words[p], 2 * byte + half)])
                    for count, index in zip(row, halves[half], strict=True):
                        write(count, count[lanes(0, self.width)] + self._shuffle(table, index), lanes(0, self.width))

    def _table(self, word: Expr, nibble: int) -> Expr:
        """Where the table for one nibble of an activation word lies."""
        value = T.shift_right(word, T.uint32(4 * nibble)) & T.uint32(15)
        return lanes(T.Cast("int64", value) * self.width, self.width)

    def _shuffle(self, table: Expr, index: Expr) -> Expr:
        """table[index], byte by byte."""
        signed = f"int8x{self.width}"
        operands = [T.reinterpret(signed, operand) for operand in (table, index)]
        found = T.call_llvm_pure_intrin(signed, _SHUFFLE[self.width], *operands)
        return T.reinterpret(f"uint8x{self.width}", found)


def _block_bytes(frame: Frame) -> int:
    """Bytes of the weights of one block."""
    return frame.geometry.steps * 4 * LANES
