"""Sums of products of few bits by lookups in byte lanes: up to 64 channels at once, six inputs in one lookup.

Lane = output channel. A byte of weights holds one bit of each of six inputs; a table of 64 entries holds, for every
such byte, what the six activations and these bits make: the sum over the planes j of the activations of 2**j times the
bits that differ from the plane's, or are set in both (see `planes.py`). So one `vpermb` and one addition do 384
products of a weight plane, of any activation; processors without it split the table (`table_lookups.py`), and read the
same weights. Bytes hold the sums of a few lookups, then they are widened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.chosen_thresholds import chosen_thresholds
from qcompiler.targets.vector.direct import for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, opaque, splat, split, temporary, write
from qcompiler.targets.vector.epilogue import is_threshold
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.plane_sums import PlaneReduction, activations
from qcompiler.targets.vector.planes import weight_planes
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.x86.channel_dots import columns_of
from qcompiler.targets.x86.pinned_bits import in_order, pinned
from qcompiler.targets.x86.table_lookups import INPUTS, TableLookup

WIDTH = 64
"""Channels whose weights lie side by side."""
BLOCKS = WIDTH // LANES
"""Blocks of them."""
PLANES = (2, 3)
"""Of activations: with one, counting bits of words is faster; with more, bytes do not hold the sums of a word."""

_MOST = 255


@dataclass(frozen=True)
class Unit:
    """Some words of a pixel whose sums bytes hold."""

    words: int

    @property
    def lookups(self) -> int:
        """Of six inputs; the last may have fewer."""
        return -(-self.words * WORD_BITS // INPUTS)


def units_of(words: int, planes: int) -> list[tuple[Unit, int]]:
    """How often which units make up the words of a tap: pairs of words where bytes hold their sums."""
    pair, single = Unit(2), Unit(1)
    if pair.words * WORD_BITS * (2**planes - 1) > _MOST:
        return [(single, words)]
    return [(unit, count) for unit, count in ((pair, words // 2), (single, words % 2)) if count]


def fits_sums(problem: Conv2d, steps: int) -> bool:
    """Whether 16 bits hold the sums of all products of the indices of codes, steps words each."""
    planes, most = weight_planes(problem.weights), steps * WORD_BITS * (2**problem.x.planes - 1)
    above, below = (sum(f * sign for f in planes.factors if f * sign > 0) for sign in (1, -1))
    return bool(above * most < 2**16 if planes.signs else max(above, below) * most < 2**15)


def compared_sums(problem: Conv2d, blocks: Blocks) -> Literal["int32", "int16", "uint16"]:
    """What sums that `fits_sums` go on in: 16 bits, where thresholds make bit planes of them.

    The largest number is left for a limit that none reaches: it is odd, and the largest sum, of whole words, is even.
    """
    into = problem.epilogue[0].into if is_threshold(problem.epilogue) else None
    if (into is None or not into.in_planes) and chosen_thresholds(problem, blocks) is None:
        return "int32"
    return "uint16" if weight_planes(problem.weights).signs else "int16"


def lookups_together(problem: Conv2d) -> int:
    """Lookups of all taps of a kernel row whose sums bytes hold; 0 where they hold none."""
    most: int = _MOST // (problem.kernel[1] * INPUTS * (2**problem.x.planes - 1))
    return most


@dataclass(frozen=True)
class LookupSums(PlaneReduction):
    """Weights uint8 [groups, taps, lookups, planes, 64], those of six inputs in a byte; and the tables of `look`.

    Groups are four blocks each; where these do not share the blocks evenly, runs have groups of their own.
    sums: what the registers hold, as in `SumFinish`.
    """

    look: TableLookup
    sums: Literal["int32", "int16", "uint16"] = "int32"

    family: ClassVar[str] = "lookup_sums_conv2d"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Weights and tables."""
        weights = Parameter("weights", "uint8", len(self._groups(frame)) * self._group_bytes(frame), 64)
        return [weights, Parameter("tables", "uint8", self._tables(frame).size, 64)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Bytes in the order of the loops, and one table per plane of activations."""
        codes = frame.problem.weights
        bits = weight_planes(codes).bits(weights, codes)
        packed = [self._bytes(frame, np.where(plane, np.float32(1), np.float32(-1))) for plane in bits]
        return [np.ascontiguousarray(np.stack(packed, axis=3)), self._tables(frame)]

    def _tables(self, frame: Frame) -> npt.NDArray[np.uint8]:
        return self.look.tables(frame.problem.x.planes, weight_planes(frame.problem.weights).signs)

    def _bytes(self, frame: Frame, signs: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Six bits of every channel in a byte, [groups, taps, lookups, 64]."""
        words = frame.geometry.weight_lanes(signs)[self._groups(frame)]
        taps = words.transpose(0, 2, 1, 3).reshape(len(words), self._taps(frame), -1, WIDTH).astype(np.uint64)
        parts, first = [], 0
        for unit, count in self._units(frame):
            for _ in range(count):
                whole = sum(taps[:, :, first + i] << np.uint64(WORD_BITS * i) for i in range(unit.words))
                parts += [
                    (whole >> np.uint64(INPUTS * at)) & np.uint64((1 << INPUTS) - 1) for at in range(unit.lookups)
                ]
                first += unit.words
        return np.stack(parts, axis=2).astype(np.uint8)

    def _groups(self, frame: Frame) -> npt.NDArray[np.int64]:
        """int64 [groups, 4]: the blocks of every group."""
        if self._shares(frame):
            return np.arange(frame.blocks.count).reshape(-1, BLOCKS)
        return frame.geometry.runs(frame.tiling.blocks).reshape(-1, BLOCKS)

    def _shares(self, frame: Frame) -> bool:
        return frame.blocks.count % BLOCKS == 0

    def _taps(self, frame: Frame) -> int:
        return prod(frame.problem.kernel)

    def _units(self, frame: Frame) -> list[tuple[Unit, int]]:
        return units_of(frame.geometry.group_inputs, frame.problem.x.planes)

    def _factors(self, frame: Frame) -> tuple[int, ...]:
        return weight_planes(frame.problem.weights).factors

    def _lookup_bytes(self, frame: Frame) -> int:
        """Bytes of weights of a lookup of one group."""
        return len(self._factors(frame)) * WIDTH

    def _tap_bytes(self, frame: Frame) -> int:
        return sum(unit.lookups * count for unit, count in self._units(frame)) * self._lookup_bytes(frame)

    def _group_bytes(self, frame: Frame) -> int:
        return self._taps(frame) * self._tap_bytes(frame)

    def fill(self, tile: Tile) -> Registers:
        """Sum up in bytes, and widen after every unit."""
        frame, size = tile.frame, self._group_bytes(tile.frame)
        sums = [[WideSums(self.look.width) for _ in self._places(frame)] for _ in range(frame.tiling.pixels)]
        group, within = split(tile.block, BLOCKS)
        first = group * size + within * LANES
        if not self._shares(frame):
            first = tile.run * (frame.tiling.blocks // BLOCKS * size)

        def tap(at: Expr, weight: Expr) -> None:
            self._tap(tile, sums, T.bind(at), T.bind(weight))

        # bits of weights and of the lowest code are nowhere both 1; signs differ from it
        rows = tile.needed_rows(of_numbers=not weight_planes(frame.problem.weights).signs)
        together = self._taps_together(frame)
        with in_order():
            start = tile.source.start(tile.pixel)
            loops = frame.geometry.taps()[: 1 if together > 1 else 2]
            for_taps(loops, rows, start, T.bind(first), self._tap_bytes(frame) * together, tap)
        return wide_registers(sums, frame.problem, self.sums)

    def _taps_together(self, frame: Frame) -> int:
        """Taps of a kernel row whose products are added at the same time."""
        return 1

    def _places(self, frame: Frame) -> list[int]:
        """Offsets of the weights of the vectors of a run from the first."""
        firsts = range(0, frame.tiling.blocks * LANES, self.look.width)
        return [first // WIDTH * self._group_bytes(frame) + first % WIDTH for first in firsts]

    def _tap(self, tile: Tile, sums: list[list[WideSums]], at: Expr, weight: Expr) -> None:
        """Add the products of the taps that go together, unit by unit."""
        frame = tile.frame
        for unit, count in self._units(frame):
            stride, size = unit.words * frame.problem.x.planes, unit.lookups * self._lookup_bytes(frame)
            if count == 1:
                self._unit(tile, sums, unit, at, weight)
            else:
                with T.serial(i64(0), i64(count)) as index:
                    self._unit(tile, sums, unit, T.bind(at + index * stride), T.bind(weight + index * size))
            at, weight = at + count * stride, weight + count * size

    def _unit(self, tile: Tile, sums: list[list[WideSums]], unit: Unit, at: Expr, weight: Expr) -> None:
        """Look up all inputs of a unit, for every pixel, vector and plane of weights."""
        counts = self._counts(tile.frame, sums)
        inputs = [self._inputs(tile, unit, at + p * tile.source.pixel_step()) for p in range(len(sums))]
        for lookup in range(1 if self.look.in_loops else unit.lookups):
            self._look_up(tile, counts, inputs, weight, lookup)
        if self.look.in_loops and unit.lookups > 1:
            with T.serial(i64(1), opaque(unit.lookups)) as each:
                self._look_up(tile, counts, inputs, weight, each)
        self._widen(tile.frame, sums, counts)

    def _counts(self, frame: Frame, sums: list[list[WideSums]]) -> list[list[list[Expr]]]:
        """Sums in bytes for every pixel, vector and plane of weights."""
        planes = range(len(self._factors(frame)))
        return [[[temporary("uint8", self.look.width) for _ in planes] for _ in row] for row in sums]

    def _widen(self, frame: Frame, sums: list[list[WideSums]], counts: list[list[list[Expr]]]) -> None:
        """Add sums in bytes to wide ones."""
        for totals, narrow in zip(sums, counts, strict=True):
            for total, each in zip(totals, narrow, strict=True):
                total.add(each, self._factors(frame))

    def _look_up(
        self, tile: Tile, counts: list[list[list[Expr]]], inputs: list[list[Expr]], weight: Expr, lookup: Expr
    ) -> None:
        """Look up six inputs of every pixel; the first lookup finds no counts yet."""
        first = isinstance(lookup, int) and lookup == 0
        indices = self._indices(tile, weight + lookup * self._lookup_bytes(tile.frame))
        for p, row in enumerate(counts):
            if not self.look.in_loops:
                inputs[p] = [pinned(bits) for bits in inputs[p]]
            rows = tuple(T.bind(each) for each in self.look.rows(tile.weights[1], inputs[p], lookup))
            self._count(row, rows, indices, first)

    def _count(
        self, counts: list[list[Expr]], rows: tuple[Expr, ...], indices: list[list[tuple[Expr, ...]]], first: bool
    ) -> None:
        """Add what is found for one pixel, in every vector and plane of weights; first: there are no counts yet."""
        every = lanes(0, self.look.width)
        for each, places in zip(counts, indices, strict=True):
            for count, index in zip(each, places, strict=True):
                found = self.look.found(rows, index)
                write(count, found if first else count[every] + found, every)

    def _inputs(self, tile: Tile, unit: Unit, at: Expr) -> list[Expr]:
        """The bits of every plane of a unit of one pixel, uint64."""
        planes, data = tile.frame.problem.x.planes, tile.source.data
        found = []
        for plane in range(planes):
            words = [T.Cast("uint64", data[at + (i * planes + plane)]) for i in range(unit.words)]
            whole = words[0]
            for i, word in enumerate(words[1:], 1):
                whole = whole | T.shift_left(word, T.uint64(WORD_BITS * i))
            found.append(T.bind(whole))
        return found

    def _indices(self, tile: Tile, at: Expr) -> list[list[tuple[Expr, ...]]]:
        """Weights of one lookup, [vectors][planes]."""
        planes = range(len(self._factors(tile.frame)))
        places = [[at + (place + plane * WIDTH) for plane in planes] for place in self._places(tile.frame)]
        return [[self._index(tile, each) for each in row] for row in places]

    def _index(self, tile: Tile, at: Expr) -> tuple[Expr, ...]:
        frame, blocks = tile.frame, tile.frame.tiling.blocks
        if self.look.width == WIDTH and self._shares(frame) and blocks % BLOCKS == 0:
            size = self._group_bytes(frame)
            tile.ask_ahead(at, blocks // BLOCKS * size, frame.blocks.count // BLOCKS * size)
        weights = T.bind(tile.weights[0][lanes(at, self.look.width)])
        return tuple(T.bind(each) for each in self.look.indices(weights))


@dataclass(frozen=True)
class ColumnLookups(LookupSums):
    """Lookups of all taps of a kernel row at once: what an input pixel chooses serves every output that sees it."""

    family: ClassVar[str] = "lookup_columns_conv2d"

    def _taps_together(self, frame: Frame) -> int:
        return frame.problem.kernel[1]

    def _unit(self, tile: Tile, sums: list[list[WideSums]], unit: Unit, at: Expr, weight: Expr) -> None:
        """Look up all inputs of a unit, as many at a time as bytes hold the sums of."""
        frame, problem = tile.frame, tile.frame.problem
        columns = columns_of(problem, frame.tiling.pixels)
        pitch = frame.geometry.pixel_pitch
        inputs = {column: self._inputs(tile, unit, at + column * pitch) for column in columns}
        most = lookups_together(problem)
        for first in range(0, unit.lookups, most):
            counts = self._counts(frame, sums)
            fresh = set(range(frame.tiling.pixels))
            for lookup in range(first, min(first + most, unit.lookups)):
                place = weight + lookup * self._lookup_bytes(frame)
                weights = [self._indices(tile, place + k * self._tap_bytes(frame)) for k in range(problem.kernel[1])]
                for column, seen in columns.items():
                    inputs[column] = [pinned(bits) for bits in inputs[column]]
                    rows = tuple(T.bind(each) for each in self.look.rows(tile.weights[1], inputs[column], lookup))
                    for pixel, k in seen:
                        self._count(counts[pixel], rows, weights[k], first=pixel in fresh)
                        fresh.discard(pixel)
            self._widen(frame, sums, counts)


class WideSums:
    """The sums of byte lanes in 16 bits: of pairs of lanes as they lie, modulo 2**16, and of odd lanes.

    What odd lanes add to pairs is 256 times their sum, so that the sums of even lanes are the difference.

    starts: of pairs and odd lanes, uint16 vectors; without them 0.
    """

    def __init__(self, width: int, starts: Sequence[Expr] = ()) -> None:
        self._width, self._half = width, width // 2
        self._pairs, self._odd = (temporary("uint16", self._half) for _ in range(2))
        for total, start in zip((self._pairs, self._odd), starts or [splat(T.uint16(0), self._half)] * 2, strict=True):
            write(total, start, lanes(0, self._half))

    def add(self, counts: list[Expr], factors: tuple[int, ...]) -> None:
        """Add sums in bytes, one per plane of weights, times what the planes are worth."""
        every, eight = lanes(0, self._half), splat(T.uint16(8), self._half)
        for count, factor in zip(counts, factors, strict=True):
            pairs = T.bind(T.reinterpret(f"uint16x{self._half}", count[lanes(0, self._width)]))
            for total, part in ((self._pairs, pairs), (self._odd, T.shift_right(pairs, eight))):
                worth = part if abs(factor) == 1 else part * splat(T.uint16(abs(factor)), self._half)
                write(total, total[every] + worth if factor > 0 else total[every] - worth, every)

    def blocks(self, step: int, signs: bool) -> list[Expr]:
        """The sums times `step`, int32x16 per block; signs: without a sign, whose bit is one more of the number."""
        found = []
        for narrow in self._in_order(LANES):
            value = T.Cast("int32x16", narrow if signs else T.reinterpret("int16x16", narrow))
            count = temporary("int32")
            write(count, value if step == 1 else value * splat(T.int32(step)), lanes(0))
            found.append(count)
        return found

    def pairs(self, dtype: str) -> list[Expr]:
        """The sums of two blocks each, of 16 bits."""
        found = []
        for narrow in self._in_order(2 * LANES):
            sums = temporary(dtype, 2 * LANES)
            write(sums, T.reinterpret(f"{dtype}x{2 * LANES}", narrow), lanes(0, 2 * LANES))
            found.append(sums)
        return found

    def _in_order(self, count: int) -> Iterator[Expr]:
        """The sums of `count` channels at a time, uint16."""
        pairs, odd = (T.bind(total[lanes(0, self._half)]) for total in (self._pairs, self._odd))
        even = T.bind(pairs - T.shift_left(odd, splat(T.uint16(8), self._half)))
        for first in range(0, self._half, count // 2):
            mine = [half * self._half + first + i for i in range(count // 2) for half in range(2)]
            yield T.Shuffle([even, odd], mine)


def wide_registers(sums: list[list[WideSums]], problem: Conv2d, dtype: str) -> Registers:
    """What `SumFinish` takes of the sums of every pixel; dtype: its `sums`."""
    if dtype != "int32":
        return [[pair for total in row for pair in total.pairs(dtype)] for row in sums]
    step, signs = activations(problem).step, weight_planes(problem.weights).signs
    return [[block for total in row for block in total.blocks(step, signs)] for row in sums]
