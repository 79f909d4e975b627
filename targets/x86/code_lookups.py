"""Sums of products of few bits by shuffles of bytes that look up whole codes: no plane of either side by itself.

Lane = output channel. An index of weights holds all bits of the weights of some inputs: four bits of a vector of 32
bytes (AVX2), six of one of 64 (AVX-512 VBMI), shared by as many inputs as there are planes of weights. A row holds, for
every such index, the sum of the products with the activations of these inputs, which choose the row by all of their
bits. So a shuffle and an addition do all products of an index in every lane, and rows of planes need not be put
together. Entries of an index are counted from its least, so that bytes need no sign and hold many; what that leaves out
is known beforehand, of every channel and kernel row. What a column of a kernel row chooses serves every output that
sees it.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.direct import Geometry, for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, opaque, splat, split, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.plane_sums import PlaneReduction
from qcompiler.targets.vector.planes import weight_planes
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.tilings import Ranked, ranked, tiles_within
from qcompiler.targets.x86.channel_dots import columns_of
from qcompiler.targets.x86.lookup_sums import WideSums, wide_registers
from qcompiler.targets.x86.pinned_bits import in_order, pinned, pinned_sums
from qcompiler.targets.x86.table_lookups import PERMUTATION, SHUFFLES, indices_apart, looked_up

INDEX_BITS = {32: 4, 64: 6}
"""Of the entries that a shuffle knows, by bytes of a vector."""

_SHUFFLES = {32: SHUFFLES[32], 64: PERMUTATION}
_BYTE, _MOST_ROW_BITS, _MOST = 8, 8, 255
# bytes of a line of the cache
_LINE = 64
# registers of sums in bytes and of weights
_MOST_HELD = {32: 13, 64: 29}
# instructions in straight code, which a processor keeps decoded, as measured; and after how few turns of the loop those
# of an epilogue come, beside which it keeps how many
_MOST_CODE, _BESIDE = 1550, {32: (9, 1100), 64: (8, 1250)}
# instructions of a lookup, of finding a row, and of widening a sum
_LOOKING, _FINDING, _WIDENING = 2, 5, 6
# what choosing a row, and taking weights apart that share bytes, add to a lookup; as measured
_PER_ROW, _PER_WEIGHT = 0.6, 0.5


@dataclass(frozen=True)
class Codebook:
    """How codes of a problem lie in indices and rows; width: bytes of a vector."""

    problem: Conv2d
    width: int

    @property
    def bits(self) -> int:
        """Of an index."""
        return INDEX_BITS[self.width]

    @property
    def inputs(self) -> int:
        """Of a lookup."""
        return self.bits // len(weight_planes(self.problem.weights).factors)

    @property
    def row_bits(self) -> int:
        """Bits of activations that choose a row: those of plane j of all inputs before those of plane j + 1."""
        return self.inputs * self.problem.x.planes

    @property
    def per_byte(self) -> int:
        """Indices that a byte of weights holds, the first of them lowest."""
        return 1 if self.apart else _BYTE // self.bits

    @property
    def apart(self) -> bool:
        """Whether indices that could share bytes do not."""
        return indices_apart(self.problem, self.width)

    @property
    def places(self) -> list[tuple[int, int]]:
        """Phase and first bit of its field of each lookup in a word, in the order of the loops.

        Fields are as long as what chooses a row; in phase n they begin at the n-th lookup.
        """
        starts = range(0, WORD_BITS, self.row_bits)
        found = [(phase, at) for phase in range(self.problem.x.planes) for at in starts]
        return [(phase, at) for phase, at in found if at + self.inputs * phase < WORD_BITS]

    def products(self) -> npt.NDArray[np.int64]:
        """int64 [rows, indices]: sums of products of the inputs of a lookup; see `planes.py` for signs and bits."""
        planes, n = weight_planes(self.problem.weights), self.inputs
        rows, indices = np.arange(1 << self.row_bits)[:, None], np.arange(1 << self.bits)
        total = np.zeros((len(rows), len(indices)), np.int64)
        for k in range(n):
            for j in range(self.problem.x.planes):
                ours = rows >> (n * j + k) & 1
                for p, factor in enumerate(planes.factors):
                    theirs = indices >> (n * p + k) & 1
                    total += (factor << j) * (ours ^ theirs if planes.signs else ours & theirs)
        return total

    @property
    def least(self) -> npt.NDArray[np.int64]:
        """int64 [indices]: what the entries of each are counted from."""
        found: npt.NDArray[np.int64] = self.products().min(axis=0)
        return found

    @property
    def together(self) -> int:
        """Lookups of all taps of a kernel row whose sums bytes hold; 0 where they hold none."""
        return int(_MOST // (self.problem.kernel[1] * (self.products() - self.least).max()))

    @property
    def shares(self) -> list[range]:
        """Numbers of the lookups of a word, as few shares as bytes hold the sums of.

        Three and more are even; of two, as measured, the second takes what is left.
        """
        lookups = len(self.places)
        count = -(-lookups // self.together)
        even = [-(-lookups * share // count) for share in range(count + 1)]
        ends = [0, self.together, lookups] if count == 2 else even
        return [range(*each) for each in pairwise(ends)]


def fits_codebook(problem: Conv2d, blocks: Blocks, width: int) -> bool:
    """Whether indices hold whole weights, a table of up to 256 rows all products, and blocks fill vectors."""
    book, planes = Codebook(problem, width), len(weight_planes(problem.weights).factors)
    if planes > 2 or blocks.count % (width // LANES) or book.row_bits > _MOST_ROW_BITS:
        return False
    return book.together > 0


def code_tilings(problem: Conv2d, blocks: Blocks, width: int) -> list[Ranked]:
    """Tiles whose sums in bytes and weights of a kernel row stay in registers."""
    book, taps, per_vector, most = Codebook(problem, width), problem.kernel[1], width // LANES, _MOST_HELD[width]
    few_turns, beside = _BESIDE[width]
    many = problem.kernel[0] * Geometry(problem, blocks).group_inputs > few_turns
    most_code, per_weight, tiles = _MOST_CODE if many else beside, 0 if book.apart else _PER_WEIGHT, []
    lookups, shares = len(book.places), len(book.shares)
    for p, b in tiles_within(problem, blocks, most * per_vector):
        vectors, columns = b // per_vector, len(columns_of(problem, p))
        code = lookups * (_LOOKING * vectors * p * taps + _FINDING * columns)
        few = p == 1 or code + shares * _WIDENING * vectors * p <= most_code
        if few and b % per_vector == blocks.count % b == 0 and vectors * (p + min(taps, 3)) <= most:
            rows = columns / (p * taps * vectors)
            tiles.append((p, b, 1 + _PER_ROW * rows + per_weight / p))
    return ranked(problem, blocks, tiles)


@dataclass(frozen=True)
class CodeLookups(PlaneReduction):
    """Weights uint8 [vectors, kernel rows, words, lookups of a byte, kernel columns, width], as in `Codebook`.

    Tables uint8 [rows, width], again and again where a row is shorter. Starts, unless all entries are counted from 0,
    uint16 [vectors, kernel rows + 1, 2, width / 2]: what the rows before leave out, as in `WideSums`.

    sums: what the registers hold, as in `SumFinish`.
    """

    width: int
    sums: Literal["int32", "int16", "uint16"] = "int32"

    family: ClassVar[str] = "lookup_codes_conv2d"

    def storage(self, frame: Frame) -> str:
        """Whether indices lie apart that could share bytes."""
        return "_apart" if self._book(frame).apart else ""

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Weights, tables and starts."""
        vectors, rows, book = frame.blocks.count * LANES // self.width, frame.problem.kernel[0], self._book(frame)
        found = [
            Parameter("weights", "uint8", vectors * rows * self._row_bytes(frame), 64),
            Parameter("tables", "uint8", self.width << book.row_bits, 64),
        ]
        if book.least.any():
            found.append(Parameter("starts", "uint16", vectors * (rows + 1) * self.width, 64))
        return found

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Indices in the order of the loops, the table, and the starts."""
        book = self._book(frame)
        entries = (book.products() - book.least).astype(np.uint8)
        indices = self._indices_of(frame, weights)
        found: list[Array] = [self._joined(book, indices), np.tile(entries, self.width >> book.bits)]
        return [*found, self._starts(book, indices)] if book.least.any() else found

    def _book(self, frame: Frame) -> Codebook:
        return Codebook(frame.problem, self.width)

    def _indices_of(self, frame: Frame, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """uint8 [vectors, kernel rows, words, lookups, kernel columns, width]."""
        book, codes, (kh, kw) = self._book(frame), frame.problem.weights, frame.problem.kernel
        planes = [
            frame.geometry.weight_lanes(np.where(plane, np.float32(1), np.float32(-1))).astype(np.uint32)
            for plane in weight_planes(codes).bits(weights, codes)
        ]
        words = np.stack(planes, axis=-1).reshape(
            -1, self.width // LANES, kh, kw, frame.geometry.group_inputs, LANES, len(planes)
        )
        moved = np.arange(len(planes), dtype=np.uint32) * np.uint32(book.inputs)
        found = []
        for phase, at in book.places:
            bits = words >> np.uint32(at + book.inputs * phase) & np.uint32((1 << book.inputs) - 1)
            found.append(np.bitwise_or.reduce(bits << moved, axis=-1).astype(np.uint8))
        lookups = np.stack(found, axis=5).transpose(0, 2, 4, 5, 3, 1, 6)
        return lookups.reshape(*lookups.shape[:5], self.width)

    def _joined(self, book: Codebook, indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Those of some lookups in a byte."""
        parts = [indices[:, :, :, part :: book.per_byte] << book.bits * part for part in range(book.per_byte)]
        joined: npt.NDArray[np.uint8] = np.bitwise_or.reduce(parts)
        return np.ascontiguousarray(joined)

    def _starts(self, book: Codebook, indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
        """What entries are counted from, added up over the kernel rows."""
        rows = book.least[indices].sum(axis=(2, 3, 4)).cumsum(axis=1)
        even, odd = (np.pad(rows, [(0, 0), (1, 0), (0, 0)])[..., part::2] for part in range(2))
        return np.stack([even + 256 * odd, odd], axis=2).astype(np.uint16)

    def _word_bytes(self, frame: Frame) -> int:
        """Bytes of weights of a word of all pixels of a kernel row, of the channels of a vector."""
        book = self._book(frame)
        return len(book.places) // book.per_byte * frame.problem.kernel[1] * self.width

    def _row_bytes(self, frame: Frame) -> int:
        """Of all words."""
        return frame.geometry.group_inputs * self._word_bytes(frame)

    def fill(self, tile: Tile) -> Registers:
        """Sum up in bytes what a kernel row finds, and widen before those overflow."""
        frame, per_vector = tile.frame, self.width // LANES
        signs, kh = weight_planes(frame.problem.weights).signs, frame.problem.kernel[0]
        rows, size = tile.needed_rows(of_numbers=not signs), self._row_bytes(frame)
        vectors, first = range(frame.tiling.blocks // per_vector), split(tile.block, per_vector)[0]
        starts = [self._start(tile, [T.bind((first + v) * (kh + 1) + end) for end in rows]) for v in vectors]
        sums = [[WideSums(self.width, start) for start in starts] for _ in range(frame.tiling.pixels)]

        def row(at: Expr, weight: Expr) -> None:
            self._row(tile, sums, T.bind(at), T.bind(weight))

        with in_order(self.width):
            loops = frame.geometry.taps()[:1]
            for_taps(loops, rows, tile.source.start(tile.pixel), T.bind(first * (kh * size)), size, row)
        return wide_registers(sums, frame.problem, self.sums)

    def _start(self, tile: Tile, ends: list[Expr]) -> list[Expr]:
        """What entries leave out from one place of `starts` to another, as in `WideSums`; empty for nothing."""
        if not self._book(tile.frame).least.any():
            return []
        half, found = self.width // 2, []
        for part in range(2):
            before, behind = (tile.weights[2][lanes((end * 2 + part) * half, half)] for end in ends)
            found.append(T.bind(behind - before))
        return found

    def _row(self, tile: Tile, sums: list[list[WideSums]], at: Expr, weight: Expr) -> None:
        """Add the products of a kernel row, word by word of its pixels."""
        frame = tile.frame
        # code of several words would leave the processor's cache of decoded instructions
        with T.serial(i64(0), opaque(frame.geometry.group_inputs)) as i:
            word = T.bind(at + i * frame.problem.x.planes)
            self._word(tile, sums, word, T.bind(weight + i * self._word_bytes(frame)))

    def _word(self, tile: Tile, sums: list[list[WideSums]], at: Expr, weight: Expr) -> None:
        """Look up a word of every column, as many inputs at a time as bytes hold the sums of."""
        frame, problem, book = tile.frame, tile.frame.problem, self._book(tile.frame)
        columns, pitch = columns_of(problem, frame.tiling.pixels), frame.geometry.pixel_pitch
        fields = {column: self._fields(tile, book, at + column * pitch) for column in columns}
        for numbers in book.shares:
            counts = [[temporary("uint8", self.width) for _ in row] for row in sums]
            fresh = set(range(frame.tiling.pixels))
            for number in numbers:
                phase, place = book.places[number]
                indices = [self._indices(tile, weight, number, k) for k in range(problem.kernel[1])]
                for column, seen in columns.items():
                    fields[column][phase] = pinned(fields[column][phase])
                    row = self._entries(tile, book, fields[column][phase], place)
                    for pixel, k in seen:
                        self._count(counts[pixel], row, indices[k], first=pixel in fresh)
                        fresh.discard(pixel)
            for totals, narrow in zip(sums, counts, strict=True):
                for total, count in zip(totals, narrow, strict=True):
                    total.add([count], (1,))

    def _fields(self, tile: Tile, book: Codebook, at: Expr) -> list[Expr]:
        """Of each phase, uint64: the bits of all planes of a word that choose rows, field by field."""
        planes = range(tile.frame.problem.x.planes)
        words = [T.bind(T.Cast("uint64", tile.source.data[at + plane])) for plane in planes]
        mask = sum(((1 << book.inputs) - 1) << place for place in range(0, WORD_BITS, book.row_bits))
        found = []
        for phase in planes:
            moved = [_moved(word, book.inputs * (plane - phase)) for plane, word in enumerate(words)]
            chosen = [bits & T.uint64(mask << book.inputs * plane) for plane, bits in enumerate(moved)]
            found.append(T.bind(reduce(operator.or_, chosen)))
        return found

    def _entries(self, tile: Tile, book: Codebook, field: Expr, place: int) -> Expr:
        """uint8 lanes: the row that a field chooses."""
        chosen = T.shift_right(field, T.uint64(place)) & T.uint64((1 << book.row_bits) - 1)
        return T.bind(tile.weights[1][lanes(T.Cast("int64", chosen) * self.width, self.width)])

    def _indices(self, tile: Tile, weight: Expr, number: int, k: int) -> list[Expr]:
        """uint8 lanes of every vector: the indices of a lookup and a kernel column."""
        frame, book = tile.frame, self._book(tile.frame)
        kw, group = frame.problem.kernel[1], frame.problem.kernel[0] * self._row_bytes(frame)
        byte, part = divmod(number, book.per_byte)
        vectors, found = frame.tiling.blocks * LANES // self.width, []
        for v in range(vectors):
            at = weight + ((byte * kw + k) * self.width + v * group)
            held = tile.weights[0][lanes(at, self.width)]
            if self.width == _LINE:
                tile.ask_ahead(at, vectors * group, frame.blocks.count * LANES // self.width * group)
            if part:
                held = T.shift_right(held, splat(T.uint8(book.bits * part), self.width))
            if book.per_byte > 1:
                held = held & splat(T.uint8((1 << book.bits) - 1), self.width)
            found.append(T.bind(held))
        return found

    def _count(self, counts: list[Expr], row: Expr, indices: list[Expr], first: bool) -> None:
        """Add what a row holds for the indices of every vector; first: there are no counts yet."""
        every = lanes(0, self.width)
        for count, index in zip(counts, indices, strict=True):
            found = looked_up(_SHUFFLES[self.width], self.width, row, index)
            write(count, found if first else pinned_sums(count[every] + found, self.width), every)


def _moved(bits: Expr, by: int) -> Expr:
    """Bits shifted to the left, or to the right if it is negative."""
    if by == 0:
        return bits
    return T.shift_left(bits, T.uint64(by)) if by > 0 else T.shift_right(bits, T.uint64(-by))
