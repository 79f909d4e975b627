"""Binary convolution in byte-lane lookup form, for CPUs without a vector population count.

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

from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.conv import Tile
from qcompiler.targets.vector.direct import Loop, for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, splat, split, temporary, write
from qcompiler.targets.vector.integers import CountingConv2d

_SHUFFLE = {16: "llvm.x86.ssse3.pshuf.b.128", 32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}
_WORDS_PER_BYTE_SUM = 7
_NIBBLES = 8


@dataclass(frozen=True)
class LookupConv2d(CountingConv2d):
    """Weights uint8 [groups, steps, 4, S * 16]: byte b of every channel's word, S blocks of channels side by side.

    `width`: channels per shuffle, 16, 32 or 64; the run of B blocks is cut into vectors of that width.
    """

    width: int

    family: ClassVar[str] = "lookup_conv2d"

    @property
    def _channels(self) -> int:
        """Channels of a run."""
        return self.tiling.blocks * LANES

    @property
    def name(self) -> str:
        """Family, channels per shuffle and tiling."""
        return f"{self.family}_w{self.width}{self.tiling.label}"

    @property
    def _shares(self) -> bool:
        """Whether vectors of this width lie evenly in groups of the size that all widths share."""
        return gcd(self.blocks.count, 4) % (self.width // LANES) == 0

    @property
    def _side(self) -> int:
        """Blocks side by side, S."""
        return gcd(self.blocks.count, 4) if self._shares else self.tiling.blocks

    def _groups(self) -> npt.NDArray[np.int64]:
        """int64 [groups, S]: the blocks that lie side by side."""
        if self._shares:
            return np.arange(self.blocks.count).reshape(-1, self._side)
        return self.geometry.runs(self.tiling.blocks)

    @property
    def _block_bytes(self) -> int:
        """Bytes of the weights of one block."""
        return self.geometry.steps * 4 * LANES

    def _first_weight(self, tile: Tile) -> Expr:
        """Offset of the weights of a run."""
        group, within = split(tile.block, self._side) if self._shares else (tile.run, i64(0))
        return group * (self._side * self._block_bytes) + within * LANES

    def _vector_offset(self, vector: int) -> int:
        """Offset of a vector of a run from the first."""
        group, within = divmod(vector * (self.width // LANES), self._side)
        return group * self._side * self._block_bytes + within * LANES

    def weight_parameters(self) -> list[Parameter]:
        """Weights, and the tables uint8 [16, width]."""
        weights = Parameter("weights", "uint8", self._groups().size * self._block_bytes, 64)
        return [weights, Parameter("tables", "uint8", 16 * self.width, 64)]

    def pack_weights(self, constants: Constants) -> list[Array]:
        """Bytes of the words of `XnorConv2d`, regrouped by byte."""
        words = self.geometry.weight_lanes(self.directed_weights(constants))[self._groups()]
        bytes_of_lane = words.view(np.uint8).reshape(*words.shape, 4).transpose(0, 2, 4, 1, 3)
        nibbles = np.arange(16)
        table = np.bitwise_count(nibbles[:, None] ^ nibbles[None, :]).astype(np.uint8)
        return [np.ascontiguousarray(bytes_of_lane), np.tile(table, (1, self.width // 16))]

    def emit_tile(self, tile: Tile) -> None:
        """Count in bytes, widen now and then, and finish each block of sixteen channels."""
        pixels, vectors = range(self.tiling.pixels), range(self._channels // self.width)
        sums = [[temporary("uint16", self.width) for _ in vectors] for _ in pixels]
        for total in (total for row in sums for total in row):
            write(total, splat(T.uint16(0), self.width), lanes(0, self.width))
        self._accumulate(tile, sums)
        self.finish_tile(tile, [self._blocks_of(row) for row in sums])

    def _blocks_of(self, row: list[Expr]) -> list[Expr]:
        """The sums of one pixel as int32x16 per block."""
        counts = []
        for total in row:
            for first in range(0, self.width, LANES):
                count = temporary("int32")
                write(count, T.Cast("int32x16", total[lanes(first)]) + splat(T.int32(self.start)), lanes(0))
                counts.append(count)
        return counts

    def _accumulate(self, tile: Tile, sums: list[list[Expr]]) -> None:
        """sums[p][v] += mismatches of pixel p with the channels of vector v."""
        *outer, inner = self.geometry.loops()
        chunks = -(-inner.extent // _WORDS_PER_BYTE_SUM)
        chunk = -(-inner.extent // chunks)
        per_step, first = 4 * LANES * self._side, T.bind(self._first_weight(tile))

        def row(at: Expr, weight: Expr) -> None:
            with T.serial(i64(0), i64(chunks)) as part:
                start = part * chunk
                trips = T.min(i64(chunk), inner.extent - start) if inner.extent % chunk else i64(chunk)
                at_part, weight_part = at + start * inner.stride, weight + start * per_step
                self._chunk(tile, sums, Loop(trips, inner.stride), T.bind(at_part), T.bind(weight_part))

        for_taps(outer, tile.rows, tile.source.start(tile.pixel), first, per_step * inner.extent, row)

    def _chunk(self, tile: Tile, sums: list[list[Expr]], loop: Loop, at: Expr, weight: Expr) -> None:
        """Add up to seven words in bytes, then widen."""
        all_lanes = lanes(0, self.width)
        counts = [[temporary("uint8", self.width) for _ in row] for row in sums]
        for count in (count for row in counts for count in row):
            write(count, splat(T.uint8(0), self.width), all_lanes)
        with T.serial(i64(0), loop.extent) as word:
            self._word(tile, counts, at + word * loop.stride, weight + word * (4 * LANES * self._side))
        for row, narrow in zip(sums, counts, strict=True):
            for total, count in zip(row, narrow, strict=True):
                write(total, total[all_lanes] + T.Cast(f"uint16x{self.width}", count[all_lanes]), all_lanes)

    def _word(self, tile: Tile, counts: list[list[Expr]], at: Expr, weight: Expr) -> None:
        """One activation word per pixel: eight lookups per vector."""
        w, tables = tile.weights
        words = [T.bind(tile.source.data[at + p * tile.source.pixel_step()]) for p in range(len(counts))]
        low = splat(T.uint8(15), self.width)
        for byte in range(4):
            packed = [
                T.bind(w[lanes(weight + (byte * self._side * LANES + self._vector_offset(v)), self.width)])
                for v in range(self._channels // self.width)
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
