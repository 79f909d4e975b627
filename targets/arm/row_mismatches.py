"""Mismatching bits by rows: 128 channels of a pixel against 128 weights of one output channel at a time.

Both operands are loaded as they lie, with no broadcast, and three instructions make 128 products. An accumulator
belongs to one pixel and one output channel: four 32-bit lanes with udot, else sixteen bytes, good for 31 steps. At the
end four accumulators are added up across lanes into one vector of four channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.single_load import load_single, single_loads
from qcompiler.targets.target import Array
from qcompiler.targets.vector.direct import Geometry, ReductionLoop
from qcompiler.targets.vector.emit import LANES, Expr, i64, lanes, splat, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_parts, for_unrolled_taps
from qcompiler.targets.vector.word_mismatches import WordMismatches

# channels whose sums fill a register of 128 bits
_QUAD = 4
# of a register of 128 bits
_WORDS = 4
_MOST_IN_A_BYTE = 255
_VECTORS = {"uint8": "uint8x16", "uint16": "uint16x8", "uint32": "uint32x4"}
# of four channels of a single pixel, those whose weights LLVM may load in pairs
_PAIRED = 2
# steps per jump of the inner loop for a number of pixels: more are faster on Cortex-A53, until they need the stack
_UNROLLED = {1: 2, 2: 3, 3: 2}


def reads_rows(geometry: Geometry) -> bool:
    """Whether the reduction is made of runs of 128 channels that lie together, the same ones for all lanes."""
    inner = geometry.loops()[-1]
    return geometry.uniform(1) and inner.extent % _WORDS == 0 and inner.stride == 1


@dataclass(frozen=True)
class RowMismatches(WordMismatches):
    """Weights uint32 [blocks, passes, steps / 4, channels, 4 words]; tiles of one block. See `reads_rows`.

    A pass over the pixels' words serves as many of the block's sixteen channels as there are accumulators for.
    dotprod: whether udot adds up four bytes.
    """

    dotprod: bool

    family: ClassVar[str] = "row_conv2d"

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Four words of one channel side by side."""
        words, channels = frame.geometry.weight_lanes(weights), _channels(frame)
        split = words.reshape(len(words), -1, _WORDS, LANES // channels, channels)
        return [np.ascontiguousarray(split.transpose(0, 3, 1, 4, 2))]

    def skips_columns(self, frame: Frame) -> bool:
        """Never: kernel columns that lie together are one run."""
        return False

    def accumulate(self, tile: Tile, counts: list[list[Expr]]) -> None:
        """counts[p][0] += mismatches of pixel p, pass by pass."""
        geometry, channels = tile.frame.geometry, _channels(tile.frame)
        *outer, inner = geometry.loops()
        loops = [*outer, ReductionLoop(inner.extent // _WORDS, _WORDS)]
        start = T.bind(tile.source.start(tile.pixel))
        passes, size = LANES // channels, channels * _WORDS
        with T.serial(i64(0), i64(passes)) as each:
            first = T.bind((tile.block * passes + each) * (geometry.steps // _WORDS * size))

            def part(loops: list[ReductionLoop], at: Expr, weight: Expr) -> None:
                self._part(tile, [row[0] for row in counts], each * channels, loops, at, weight)

            if self.dotprod:
                part(loops, start, first)
            else:
                for_parts(loops, tile.rows, start, first, size, part)

    def _part(
        self, tile: Tile, counts: list[Expr], channel: Expr, loops: list[ReductionLoop], at: Expr, weight: Expr
    ) -> None:
        """Count, then add up the lanes of every accumulator."""
        steps, channels = prod(loop.extent for loop in loops), _channels(tile.frame)
        # if all bits of every step differ; short reductions count in bytes even with udot, to be added up in bytes
        most = 8 * steps
        in_bytes = not self.dotprod or _QUAD * most <= _MOST_IN_A_BYTE
        dtype, size = ("uint8", 16) if in_bytes else ("uint32", 4)
        sums = [[temporary(dtype, size) for _ in range(channels)] for _ in counts]
        every = lanes(0, size)
        for total in (total for row in sums for total in row):
            write(total, splat(T.Cast(dtype, T.uint32(0)), size), every)
        self.count(tile, sums, f"{dtype}x{size}", loops, at, weight)
        whole = tile.start == 0 and steps * _WORDS == tile.frame.geometry.steps
        for count, row in zip(counts, sums, strict=True):
            for quad in range(0, channels, _QUAD):
                into = lanes(channel + quad, _QUAD)
                totals = [total[every] for total in row[quad : quad + _QUAD]]
                added = T.reinterpret("int32x4", _added(totals, dtype, most))
                write(count, added if whole else count[into] + added, into)

    def count(
        self, tile: Tile, sums: list[list[Expr]], dtype: str, loops: list[ReductionLoop], at: Expr, weight: Expr
    ) -> None:
        """sums[p][c] += mismatches of pixel p and channel c, lane by lane; dtype: of the vectors that are summed up."""
        source, channels = tile.source, _channels(tile.frame)

        def step(x: Expr, first: Expr) -> None:
            for p, row in enumerate(sums):
                words = source.data[lanes(x + p * source.pixel_step(), _WORDS)]
                for c, total in enumerate(row):
                    every = lanes(0, total.shape[0])
                    mismatch = T.reinterpret(dtype, words ^ self._weights(tile, first, c))
                    write(total, total[every] + T.popcount(mismatch), every)

        unrolled = _UNROLLED.get(tile.frame.tiling.pixels, 1)
        with single_loads():
            for_unrolled_taps(loops, tile.rows, at, weight, channels * _WORDS, step, unrolled)

    def _weights(self, tile: Tile, first: Expr, channel: int) -> Expr:
        """uint32x4: the weights of a channel of the pass whose weights start at `first`."""
        at, w = first + channel * _WORDS, tile.weights[0]
        single = tile.frame.tiling.pixels == 1 and channel % _QUAD >= _PAIRED
        return load_single(w, at) if single else w[lanes(at, _WORDS)]


def _channels(frame: Frame) -> int:
    """Output channels of a pass."""
    return LANES if frame.tiling.pixels == 1 else _QUAD


def _added(totals: Sequence[Expr], dtype: str, most: int) -> Expr:
    """uint32x4: the lanes of each of four accumulators added up; a lane of uint8 holds at most `most`.

    Bytes are added to bytes as long as twice the most fits, then widened; uint16 holds the sum of all sixteen.
    """
    assert dtype != "uint8" or most <= _MOST_IN_A_BYTE, most
    sums = list(totals)
    while len(sums) > 1:
        if dtype == "uint8" and 2 * most > _MOST_IN_A_BYTE:
            dtype, sums = "uint16", [pairwise("uint16x8", total) for total in sums]
        sums = [side_by_side(_VECTORS[dtype], *sums[i : i + 2]) for i in range(0, len(sums), 2)]
        most *= 2
    (total,) = sums
    if dtype == "uint8":
        dtype, total = "uint16", pairwise("uint16x8", total)
    return pairwise("uint32x4", total) if dtype == "uint16" else total


def pairwise(dtype: str, counts: Expr) -> Expr:
    """Neighbours added up into lanes of twice the size."""
    return T.call_llvm_pure_intrin(dtype, "llvm.aarch64.neon.uaddlp", counts)


def side_by_side(dtype: str, left: Expr, right: Expr) -> Expr:
    """Neighbours of `left`, then those of `right`, added up."""
    return T.call_llvm_pure_intrin(dtype, "llvm.aarch64.neon.addp", left, right)
