"""Sums of products of few bits by shuffles of bytes that look up whole codes: no plane of either side by itself.

Lane = output channel, 32 at once (AVX2). A nibble of weights holds all bits of the weights of four inputs where they
have one bit, of two where they have two; a row of sixteen entries holds, for every such nibble, the sum of the products
with the activations of these inputs, which choose the row by all of their bits. So a shuffle and an addition do 128
products of one-bit weights or 64 of two-bit weights, and rows of planes need not be put together. Entries are counted
from the least of all, so that bytes need no sign; what that adds is known beforehand. What a column of a kernel row
chooses serves every output that sees it.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.direct import for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, opaque, splat, split, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.plane_sums import PlaneReduction, activations
from qcompiler.targets.vector.planes import weight_planes
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.tilings import Ranked, ranked, tiles_within
from qcompiler.targets.x86.channel_dots import columns_of
from qcompiler.targets.x86.lookup_sums import WideSums
from qcompiler.targets.x86.pinned_bits import in_order, pinned
from qcompiler.targets.x86.table_lookups import SHUFFLES, looked_up

WIDTH = 32
"""Channels looked up at once."""

_NIBBLE, _MOST_ROW_BITS, _MOST = 4, 8, 255
_PER_VECTOR = WIDTH // LANES
# registers of sums in bytes and of weights, of sixteen; shuffles in straight code, which a processor keeps decoded
_MOST_HELD, _MOST_SHUFFLES = 13, 340
# what choosing a row, and taking weights apart, add to a lookup; as measured
_PER_ROW, _PER_WEIGHT = 0.6, 0.5


@dataclass(frozen=True)
class Codebook:
    """How codes of a problem lie in nibbles and rows.

    Of every `field` bits of a plane of activations, `phases` lookups take `inputs` each.
    """

    problem: Conv2d

    @property
    def inputs(self) -> int:
        """Of a lookup."""
        return _NIBBLE // len(weight_planes(self.problem.weights).factors)

    @property
    def row_bits(self) -> int:
        """Bits of activations that choose a row: those of plane j of all inputs before those of plane j + 1."""
        return self.inputs * self.problem.x.planes

    @property
    def field(self) -> int:
        """Bits from one lookup of a phase to the next."""
        return _NIBBLE if self.row_bits <= _NIBBLE else _MOST_ROW_BITS

    @property
    def phases(self) -> int:
        """Lookups that the bits of a field are for."""
        return self.field // self.inputs

    @property
    def places(self) -> list[tuple[int, int]]:
        """Phase and first bit of its field of each lookup in a word, in the order of the loops."""
        return [(phase, at) for phase in range(self.phases) for at in range(0, WORD_BITS, self.field)]

    def products(self) -> npt.NDArray[np.int64]:
        """int64 [rows, 16]: sums of products of the inputs of a lookup; see `planes.py` for signs and bits."""
        planes, n = weight_planes(self.problem.weights), self.inputs
        rows, nibbles = np.arange(1 << self.row_bits)[:, None], np.arange(1 << _NIBBLE)
        total = np.zeros((1 << self.row_bits, 1 << _NIBBLE), np.int64)
        for k in range(n):
            for j in range(self.problem.x.planes):
                ours = rows >> (n * j + k) & 1
                for p, factor in enumerate(planes.factors):
                    theirs = nibbles >> (n * p + k) & 1
                    total += (factor << j) * (ours ^ theirs if planes.signs else ours & theirs)
        return total

    @property
    def least(self) -> int:
        """What entries are counted from."""
        return int(self.products().min())

    @property
    def together(self) -> int:
        """Lookups of all taps of a kernel row whose sums bytes hold; 0 where they hold none."""
        found = self.products()
        return int(_MOST // (self.problem.kernel[1] * (found.max() - found.min())))


def fits_codebook(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether nibbles hold whole weights, a table of up to 256 rows all products, and blocks fill vectors."""
    if len(weight_planes(problem.weights).factors) not in (1, 2) or blocks.count % _PER_VECTOR:
        return False
    book = Codebook(problem)
    return book.row_bits <= _MOST_ROW_BITS and book.together > 0


def code_tilings(problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles whose sums in bytes and weights of a kernel row stay in registers."""
    taps, lookups, tiles = problem.kernel[1], len(Codebook(problem).places), []
    for p, b in tiles_within(problem, blocks, _MOST_HELD * _PER_VECTOR):
        vectors = b // _PER_VECTOR
        few = p == 1 or vectors * p * taps * lookups <= _MOST_SHUFFLES
        if few and b % _PER_VECTOR == blocks.count % b == 0 and vectors * (p + min(taps, 3)) <= _MOST_HELD:
            rows = len(columns_of(problem, p)) / (p * taps * vectors)
            tiles.append((p, b, 1 + _PER_ROW * rows + _PER_WEIGHT / p))
    return ranked(problem, blocks, tiles)


@dataclass(frozen=True)
class CodeLookups(PlaneReduction):
    """Weights uint8 [blocks / 2, kernel rows, pairs of lookups, kernel columns, 32], the first of a pair lowest.

    Tables uint8 [rows, 32], sixteen entries twice.
    """

    family: ClassVar[str] = "lookup_codes_conv2d"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Weights and tables."""
        size = frame.blocks.count // _PER_VECTOR * frame.problem.kernel[0] * self._row_bytes(frame)
        return [
            Parameter("weights", "uint8", size, 64),
            Parameter("tables", "uint8", WIDTH << Codebook(frame.problem).row_bits, 64),
        ]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Nibbles in the order of the loops, and the table."""
        book = Codebook(frame.problem)
        entries = (book.products() - book.least).astype(np.uint8)
        return [self._bytes(frame, book, weights), np.tile(entries, WIDTH >> _NIBBLE)]

    def _bytes(self, frame: Frame, book: Codebook, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Two lookups in a byte."""
        codes, (kh, kw) = frame.problem.weights, frame.problem.kernel
        planes = [
            frame.geometry.weight_lanes(np.where(plane, np.float32(1), np.float32(-1))).astype(np.uint32)
            for plane in weight_planes(codes).bits(weights, codes)
        ]
        words = np.stack(planes, axis=-1).reshape(
            -1, _PER_VECTOR, kh, kw, frame.geometry.group_inputs, LANES, len(planes)
        )
        moved = np.arange(len(planes), dtype=np.uint32) * np.uint32(book.inputs)
        found = []
        for phase, at in book.places:
            bits = words >> np.uint32(at + book.inputs * phase) & np.uint32((1 << book.inputs) - 1)
            found.append(np.bitwise_or.reduce(bits << moved, axis=-1).astype(np.uint8))
        joined = np.stack([low | high << _NIBBLE for low, high in zip(found[::2], found[1::2], strict=True)], axis=5)
        return np.ascontiguousarray(joined.transpose(0, 2, 4, 5, 3, 1, 6))

    def _word_bytes(self, frame: Frame) -> int:
        """Bytes of weights of a word of all pixels of a kernel row, of 32 channels."""
        return len(Codebook(frame.problem).places) // 2 * frame.problem.kernel[1] * WIDTH

    def _row_bytes(self, frame: Frame) -> int:
        """Of all words."""
        return frame.geometry.group_inputs * self._word_bytes(frame)

    def fill(self, tile: Tile) -> Registers:
        """Sum up in bytes what a kernel row finds, and widen before those overflow."""
        frame, book = tile.frame, Codebook(tile.frame.problem)
        signs, (kh, kw) = weight_planes(frame.problem.weights).signs, frame.problem.kernel
        rows = tile.needed_rows(of_numbers=not signs)
        lookups = frame.geometry.group_inputs * len(book.places) * kw
        times, added = T.bind(rows[1] - rows[0]), -book.least * lookups
        vectors = range(frame.tiling.blocks // _PER_VECTOR)
        sums = [[WideSums(WIDTH, times, added) for _ in vectors] for _ in range(frame.tiling.pixels)]

        def row(at: Expr, weight: Expr) -> None:
            self._row(tile, sums, T.bind(at), T.bind(weight))

        first, size = split(tile.block, _PER_VECTOR)[0] * (kh * self._row_bytes(frame)), self._row_bytes(frame)
        with in_order():
            loops = frame.geometry.taps()[:1]
            for_taps(loops, rows, tile.source.start(tile.pixel), T.bind(first), size, row)
        step = activations(frame.problem).step
        return [[block for total in row for block in total.blocks(step, signs)] for row in sums]

    def _row(self, tile: Tile, sums: list[list[WideSums]], at: Expr, weight: Expr) -> None:
        """Add the products of a kernel row, word by word of its pixels."""
        frame = tile.frame
        # code of several words would leave the processor's cache of decoded instructions
        with T.serial(i64(0), opaque(frame.geometry.group_inputs)) as i:
            word = T.bind(at + i * frame.problem.x.planes)
            self._word(tile, sums, word, T.bind(weight + i * self._word_bytes(frame)))

    def _word(self, tile: Tile, sums: list[list[WideSums]], at: Expr, weight: Expr) -> None:
        """Look up a word of every column, as many inputs at a time as bytes hold the sums of."""
        frame, problem, book = tile.frame, tile.frame.problem, Codebook(tile.frame.problem)
        columns, pitch = columns_of(problem, frame.tiling.pixels), frame.geometry.pixel_pitch
        fields = {column: self._fields(tile, book, at + column * pitch) for column in columns}
        for first in range(0, len(book.places), book.together):
            counts = [[temporary("uint8", WIDTH) for _ in row] for row in sums]
            fresh = set(range(frame.tiling.pixels))
            for number, (phase, place) in list(enumerate(book.places))[first : first + book.together]:
                indices = [self._indices(tile, weight, number, k) for k in range(problem.kernel[1])]
                for column, seen in columns.items():
                    fields[column][phase] = pinned(fields[column][phase])
                    row = self._entries(tile, book, fields[column][phase], place)
                    for pixel, k in seen:
                        _count(counts[pixel], row, indices[k], first=pixel in fresh)
                        fresh.discard(pixel)
            for totals, narrow in zip(sums, counts, strict=True):
                for total, count in zip(totals, narrow, strict=True):
                    total.add([count], (1,))

    def _fields(self, tile: Tile, book: Codebook, at: Expr) -> list[Expr]:
        """Of each phase, uint64: the bits of all planes of a word that choose rows, field by field."""
        planes = range(tile.frame.problem.x.planes)
        words = [T.bind(T.Cast("uint64", tile.source.data[at + plane])) for plane in planes]
        mask = sum(((1 << book.inputs) - 1) << place for place in range(0, WORD_BITS, book.field))
        found = []
        for phase in range(book.phases):
            moved = [_moved(word, book.inputs * (plane - phase)) for plane, word in enumerate(words)]
            chosen = [bits & T.uint64(mask << book.inputs * plane) for plane, bits in enumerate(moved)]
            found.append(T.bind(reduce(operator.or_, chosen)))
        return found

    def _entries(self, tile: Tile, book: Codebook, field: Expr, place: int) -> Expr:
        """uint8x32: the row that a field chooses, twice."""
        chosen = T.shift_right(field, T.uint64(place)) & T.uint64((1 << book.row_bits) - 1)
        return T.bind(tile.weights[1][lanes(T.Cast("int64", chosen) * WIDTH, WIDTH)])

    def _indices(self, tile: Tile, weight: Expr, number: int, k: int) -> list[Expr]:
        """uint8x32 of every vector: the nibbles of a lookup and a kernel column."""
        frame = tile.frame
        kw, group = frame.problem.kernel[1], frame.problem.kernel[0] * self._row_bytes(frame)
        found = []
        for v in range(frame.tiling.blocks // _PER_VECTOR):
            held = tile.weights[0][lanes(weight + ((number // 2 * kw + k) * WIDTH + v * group), WIDTH)]
            if number % 2:
                held = T.shift_right(held, splat(T.uint8(_NIBBLE), WIDTH))
            found.append(T.bind(held & splat(T.uint8((1 << _NIBBLE) - 1), WIDTH)))
        return found


def _count(counts: list[Expr], row: Expr, indices: list[Expr], first: bool) -> None:
    """Add what a row holds for the nibbles of every vector; first: there are no counts yet."""
    every = lanes(0, WIDTH)
    for count, index in zip(counts, indices, strict=True):
        found = looked_up(SHUFFLES[WIDTH], WIDTH, row, index)
        write(count, found if first else count[every] + found, every)


def _moved(bits: Expr, by: int) -> Expr:
    """Bits shifted to the left, or to the right if it is negative."""
    if by == 0:
        return bits
    return T.shift_left(bits, T.uint64(by)) if by > 0 else T.shift_right(bits, T.uint64(-by))
