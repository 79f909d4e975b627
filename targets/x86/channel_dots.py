"""Convolutions channel by channel of codes in bytes: up to four kernel rows in one product (AVX-512 VNNI).

The bytes of a column of up to four rows are put side by side, channel by channel; then vpdpbusd adds the products of a
column to sixteen channels of every output pixel that sees it. A column is put together once for all of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.byte_sums import IndexReduction, in_steps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, lanes, register, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.tilings import Ranked, ranked
from qcompiler.targets.x86.byte_dots import Vnni

ROWS = 4
"""Whose products one instruction adds."""
_MOST_STEPS = 64
_BLOCKS = (1, 2, 4)
# instructions that put a column of sixteen channels together, by blocks of a tile, and of a product of a single tap
_PER_COLUMN = {1: 4, 2: 3, 4: 2.5}
_PER_PRODUCT = 3


def row_groups(problem: Conv2d) -> list[range]:
    """Kernel rows that are multiplied together."""
    rows = problem.kernel[0]
    return [range(first, min(first + ROWS, rows)) for first in range(0, rows, ROWS)]


def fits_columns(problem: Conv2d) -> bool:
    """Whether the kernel suits: straight code for few taps, of whole blocks of channels, with weights of 8 bits."""
    return problem.by_channel and not problem.centred and problem.x.c % LANES == 0 and _steps(problem) <= _MOST_STEPS


def columns_of(problem: Conv2d, pixels: int) -> dict[int, list[tuple[int, int]]]:
    """What each input column of a tile serves, from left to right: output pixels and their kernel columns."""
    stride, dilation = problem.strides[1], problem.dilations[1]
    found: dict[int, list[tuple[int, int]]] = {}
    for pixel in range(pixels):
        for k in range(problem.kernel[1]):
            found.setdefault(pixel * stride + k * dilation, []).append((pixel, k))
    return dict(sorted(found.items()))


def column_tilings(problem: Conv2d, blocks: Blocks, registers: int) -> list[Ranked]:
    """Tiles whose sums, a column and its weights stay in registers; slowdowns are relative to single products."""
    groups, taps = row_groups(problem), problem.kernel[0] * problem.kernel[1]
    tiles = []
    for b in (b for b in _BLOCKS if b <= blocks.count):
        for p in range(1, min(problem.out_hw[1], 14) + 1):
            if p * b <= registers // 2:
                columns = len(columns_of(problem, p))
                work = len(groups) * (problem.kernel[1] + _PER_COLUMN[b] * columns / p)
                tiles.append((p, b, work / taps / _PER_PRODUCT))
    return ranked(problem, blocks, tiles)


@dataclass(frozen=True)
class ChannelDots(IndexReduction):
    """Weights uint32 [blocks, groups of rows, columns, 16]: four bytes, one of each row, 0 where there is none."""

    family: ClassVar[str] = "dots_depthwise"
    element: ClassVar[str] = "uint8"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Weights."""
        return [Parameter("weights", "uint32", frame.blocks.count * _words(frame.problem), 64)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Bytes in the order of the loops."""
        channels, _, rows, columns = weights.shape
        whole = np.pad(np.rint(weights).astype(np.int8)[:, 0], [(0, 0), (0, -rows % ROWS), (0, 0)])
        fours = whole.reshape(channels // LANES, LANES, -1, ROWS, columns).transpose(0, 2, 4, 1, 3)
        return [np.ascontiguousarray(fours).view(np.uint32).reshape(-1)]

    def fill(self, tile: Tile) -> Registers:
        """Sum all pixels and blocks, column by column."""
        frame, problem = tile.frame, tile.frame.problem
        pixels, blocks = frame.tiling.pixels, frame.tiling.blocks
        sums = [[register(0) for _ in range(blocks)] for _ in range(pixels)]
        start, dot = T.bind(tile.source.start(tile.pixel) + frame.blocks.first(tile.block)), Vnni()
        for number, rows in enumerate(row_groups(problem)):
            for column, seen in columns_of(problem, pixels).items():
                inputs = list(self._column(tile, start, rows, column))
                for pixel, k in seen:
                    for b in range(blocks):
                        at = (tile.block + b) * _words(problem) + (number * problem.kernel[1] + k) * LANES
                        weights = dot.weights(tile.weights[0][lanes(at)])
                        total = sums[pixel][b]
                        write(total, dot.add(total[lanes(0)], (inputs[b],), weights), lanes(0))
        for total in (total for row in sums for total in row):
            write(total, in_steps(total[lanes(0)], problem), lanes(0))
        return sums

    def _column(self, tile: Tile, start: Expr, rows: range, column: int) -> Iterator[Expr]:
        """uint8x64 for every block: the bytes of up to four rows of sixteen channels, channel by channel."""
        problem, pitch = tile.frame.problem, tile.frame.geometry.pixel_pitch
        count, row_pitch = tile.frame.tiling.blocks * LANES, problem.dilations[0] * problem.x.width * pitch
        places = [start + (row * row_pitch + column * pitch) for row in rows]
        held = [T.bind(tile.source.data[lanes(place, count)]) for place in places]
        yield from _side_by_side(held, count)


def _side_by_side(rows: list[Expr], count: int) -> Iterator[Expr]:
    """Of up to four rows of `count` bytes: those of every sixteen lanes in words, uint8x64."""
    at_once = min(count, 2 * LANES)
    for first in range(0, count, at_once):
        low, high = (_pairs(rows[k : k + 2], first, at_once, count) for k in (0, 2))
        for part in range(0, at_once, LANES):
            if high is None:
                wide = T.Cast("uint32x16", _part(low, part, LANES, at_once))
                yield T.bind(T.reinterpret("uint8x64", wide))
            else:
                mixed = [part + lane + at_once * half for lane in range(LANES) for half in range(2)]
                yield T.bind(T.reinterpret("uint8x64", T.Shuffle([low, high], mixed)))


def _pairs(rows: list[Expr], first: int, at_once: int, count: int) -> Expr | None:
    """The bytes of up to two rows from lane `first` on side by side, uint16 lanes; None of no rows."""
    if not rows:
        return None
    if len(rows) == 1:
        return T.bind(T.Cast(f"uint16x{at_once}", _part(rows[0], first, at_once, count)))
    mixed = [first + lane + count * half for lane in range(at_once) for half in range(2)]
    return T.bind(T.reinterpret(f"uint16x{at_once}", T.Shuffle(rows, mixed)))


def _part(values: Expr, first: int, count: int, whole: int) -> Expr:
    """`count` of `whole` lanes."""
    return values if count == whole else T.Shuffle([values], list(range(first, first + count)))


def _words(problem: Conv2d) -> int:
    """Of weights of a block."""
    return len(row_groups(problem)) * problem.kernel[1] * LANES


def _steps(problem: Conv2d) -> int:
    """Products of a pixel and a block."""
    return len(row_groups(problem)) * problem.kernel[1]
