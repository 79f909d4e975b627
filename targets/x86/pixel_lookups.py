"""Lookups with the roles swapped: bits of activations choose from sums of weights (AVX-512 VBMI and VNNI).

Lane = pixel. A byte of an index holds one bit of each of four inputs, sixteen pixels by four bytes in a register; a
table of sixteen entries holds, for every such byte, the sum of the four weights of an output channel whose bit is set.
So one `vpermb` does 256 products of one plane of activations with weights of up to six bits, however many bits they
have. Weights of seven and eight bits are two parts, w = 16 * high + low, each with its tables. What is found is added
up as bytes as long as these hold it, then by one `vpdpbusd`, times what the plane and the part are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import WORD_BITS
from qcompiler.ir.storage import TABLE_INPUTS
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.byte_sums import IndexReduction, codes_of, in_steps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, register, splat, temporary, write
from qcompiler.targets.vector.flat_conv import fits_flat
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.x86.byte_dots import Vnni
from qcompiler.targets.x86.table_lookups import PERMUTATION

ENTRIES = 1 << TABLE_INPUTS
BYTES = 4 * ENTRIES
"""Of four tables side by side, and of an index."""
HALVES = WORD_BITS // (4 * TABLE_INPUTS)
"""Indices in a word of every pixel: the low and the high nibbles of its bytes."""
TABLE_BYTES = HALVES * BYTES
"""Of an output channel for a word of inputs, and a part of weights."""

_LOWEST, _HIGHEST = -128, 127
_LOW_BITS = 4
_MOST_BITS = 8
# of weights, by planes of activations; as measured
_FEWEST_BITS = {1: 3, 2: 4}
# Tables of a network come from memory once an inference, unless they are few; many must serve many pixels, as chains of
# layers show.
_FEW_TABLES, _MANY_PIXELS = 2**19, 400
# words whose findings are added up before they are multiplied
_MOST_WORDS = 2


@dataclass(frozen=True)
class Part:
    """A part of each weight: (w >> shift) & mask, without the mask where it is None. low, high: what it may be."""

    shift: int
    mask: int | None
    low: int
    high: int

    @property
    def together(self) -> int:
        """Lookups whose sums a byte holds."""
        above = _HIGHEST // (TABLE_INPUTS * self.high) if self.high > 0 else _HIGHEST
        below = _LOWEST // (TABLE_INPUTS * self.low) if self.low < 0 else _HIGHEST
        return min(above, below)

    def of(self, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The part of each weight."""
        shifted = weights >> self.shift
        return np.asarray(shifted if self.mask is None else shifted & self.mask)


def parts_of(codes: Codes) -> tuple[Part, ...]:
    """The parts of weights whose sums of four fit a byte."""
    whole = Part(0, None, codes.low, codes.high)
    if whole.together:
        return (whole,)
    mask = (1 << _LOW_BITS) - 1
    return Part(0, mask, 0, mask), Part(_LOW_BITS, None, codes.low >> _LOW_BITS, codes.high >> _LOW_BITS)


def gains_by_pixels(problem: Conv2d) -> bool:
    """Whether activations have so few bits that other kernels take longer, and lookups can do it."""
    fewest = _FEWEST_BITS.get(problem.x.planes)
    if fewest is None or not fewest <= problem.weights.bits or not fits_flat(problem, 2 * LANES):
        return False
    words = prod(problem.kernel) * problem.x.group_words
    tables = problem.out_channels * words * len(parts_of(problem.weights)) * TABLE_BYTES
    return (tables <= _FEW_TABLES or problem.pixels >= _MANY_PIXELS) and fits_lookups(problem)


def fits_lookups(problem: Conv2d) -> bool:
    """Whether bytes hold what is found, and 32 bits the sums of all products."""
    weights = problem.weights
    if not problem.x.by_pixels or problem.centred or weights.low < -(1 << _MOST_BITS - 1):
        return False
    most, largest = codes_of(problem).levels - 1, max(-weights.low, weights.high)
    held = all(part.together for part in parts_of(weights)) and (1 << problem.x.planes + _LOW_BITS) <= 1 << _MOST_BITS
    return held and prod(problem.kernel) * problem.x.c * most * largest < 2**31


@dataclass(frozen=True)
class PixelLookups(IndexReduction):
    """Tables int8 [blocks, runs of channels, taps, words, parts, halves, channels of a run, 64].

    A tile is as many vectors of pixels as its tiling says, and runs of as many channels as leave enough registers.
    """

    family: ClassVar[str] = "pixels_conv2d"

    def label(self, frame: Frame) -> str:
        """Widths of weights and activations, and tiling."""
        problem = frame.problem
        return f"{self.family}_w{problem.weights.bits}a{problem.x.planes}_{frame.tiling.label}"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Tables."""
        return [Parameter("tables", "int8", frame.blocks.count * LANES * self._channel_bytes(frame), 64)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Tables in the order of the loops."""
        whole = np.rint(weights).astype(np.int64).transpose(2, 3, 1, 0)
        padded = np.pad(whole, [(0, 0), (0, 0), (0, -whole.shape[2] % WORD_BITS), (0, 0)])
        spread = frame.blocks.spread(padded).reshape(prod(frame.problem.kernel), -1, 4, HALVES, TABLE_INPUTS, LANES)
        return [self._tables(frame, spread)]

    def _tables(self, frame: Frame, weights: npt.NDArray[np.int64]) -> Array:
        """Of weights [taps, words, bytes, halves, inputs, blocks, 16]."""
        problem, run = frame.problem, channels_of(frame.tiling.pixels)
        taps, words = prod(problem.kernel), frame.geometry.group_inputs
        by_channel = weights.reshape(taps, words, 4, HALVES, TABLE_INPUTS, frame.blocks.count, LANES // run, run)
        entries = np.arange(ENTRIES)[:, None] >> np.arange(TABLE_INPUTS) & 1
        parts = [np.einsum("twbhiokc,ei->oktwhcbe", part.of(by_channel), entries) for part in parts_of(problem.weights)]
        tables = np.stack(parts, axis=4)
        assert tables.min() >= _LOWEST and tables.max() <= _HIGHEST
        return np.ascontiguousarray(tables.astype(np.int8))

    def _channel_bytes(self, frame: Frame) -> int:
        """Bytes of the tables of an output channel."""
        return prod(frame.problem.kernel) * frame.geometry.group_inputs * self._word_bytes(frame)

    def _word_bytes(self, frame: Frame) -> int:
        """Bytes of the tables of an output channel for a word of inputs."""
        return len(parts_of(frame.problem.weights)) * TABLE_BYTES

    def fill(self, tile: Tile) -> Registers:
        """Sums of sixteen channels of every vector of pixels."""
        vectors, run = tile.frame.tiling.pixels // LANES, channels_of(tile.frame.tiling.pixels)
        sums: Registers = [[] for _ in range(vectors)]
        first = T.bind(tile.block * (LANES * self._channel_bytes(tile.frame)))
        start = T.bind(tile.source.start(tile.pixel))
        for number in range(LANES // run):
            made = self._run(tile, start, first + number * run * self._channel_bytes(tile.frame))
            for row, more in zip(sums, made, strict=True):
                row.extend(more)
        return sums

    def _run(self, tile: Tile, start: Expr, table: Expr) -> Registers:
        """Sums of a run of channels, plane by plane: side by side their indices would take too many registers."""
        frame, run = tile.frame, channels_of(tile.frame.tiling.pixels)
        sums = [[register(0) for _ in range(run)] for _ in range(frame.tiling.pixels // LANES)]
        planes, pitch = frame.problem.x.planes, frame.geometry.plane_pitch
        if planes == 1:
            self._plane(tile, sums, start, table, T.uint32(1))
        else:
            with T.serial(i64(0), i64(planes)) as plane:
                worth = T.bind(T.shift_left(T.uint32(1), T.Cast("uint32", plane)))
                self._plane(tile, sums, T.bind(start + plane * pitch), table, worth)
        return [[self._register(tile, total) for total in row] for row in sums]

    def _plane(self, tile: Tile, sums: Registers, start: Expr, table: Expr, worth: Expr) -> None:
        """Look up all inputs of a plane."""
        geometry, words = tile.frame.geometry, tile.frame.geometry.group_inputs
        size, pitch = len(sums[0]) * self._word_bytes(tile.frame), geometry.channel_pitch
        rows, columns = geometry.taps()
        whole, rest = divmod(words, _MOST_WORDS)
        with T.serial(i64(0), i64(rows.extent)) as i, T.serial(i64(0), i64(columns.extent)) as j:
            at = T.bind(start + i * rows.stride + j * columns.stride)
            tap = T.bind(table + (i * columns.extent + j) * (words * size))
            if whole:
                with T.serial(i64(0), i64(whole)) as k:
                    here = T.bind(at + k * (_MOST_WORDS * pitch))
                    self._words(tile, sums, here, T.bind(tap + k * (_MOST_WORDS * size)), worth, _MOST_WORDS)
            if rest:
                end = whole * _MOST_WORDS
                self._words(tile, sums, at + end * pitch, tap + end * size, worth, rest)

    def _register(self, tile: Tile, total: Expr) -> Expr:
        """A register, times the step of the codes."""
        made = temporary("int32")
        write(made, in_steps(total[lanes(0)], tile.frame.problem), lanes(0))
        return made

    def _words(self, tile: Tile, sums: Registers, at: Expr, table: Expr, worth: Expr, words: int) -> None:
        """Look up some words of every pixel, part by part."""
        lookups = list(product(range(words), range(HALVES)))
        for number, part in enumerate(parts_of(tile.frame.problem.weights)):
            times = splat(worth * T.uint32(0x01010101 << part.shift))
            for first in range(0, len(lookups), part.together):
                self._look_up(tile, sums, at, table, times, number, lookups[first : first + part.together])

    def _look_up(
        self, tile: Tile, sums: Registers, at: Expr, table: Expr, times: Expr, part: int, lookups: list[tuple[int, int]]
    ) -> None:
        """Look up (word, half) in the tables of a part, whose findings a byte holds, and count them `times`."""
        frame, vectors = tile.frame, range(len(sums))
        run, parts = len(sums[0]), parts_of(frame.problem.weights)
        indices = {(v, place): self._index(tile, at + v * LANES, *place) for place in lookups for v in vectors}
        dot = Vnni()
        for channel in range(run):
            found: list[Any] = [None for _ in vectors]
            for word, half in lookups:
                place = ((word * len(parts) + part) * HALVES + half) * run + channel
                held = T.bind(tile.weights[0][lanes(table + place * BYTES, BYTES)])
                for v in vectors:
                    value = T.call_llvm_pure_intrin("int8x64", PERMUTATION, held, indices[v, (word, half)])
                    found[v] = value if found[v] is None else found[v] + value
            for v in vectors:
                total = sums[v][channel]
                write(total, dot.add(total[lanes(0)], dot.inputs(times), dot.weights(found[v])), lanes(0))

    def _index(self, tile: Tile, at: Expr, word: int, half: int) -> Expr:
        """The places of four bytes for each of sixteen pixels, int8x64."""
        words = T.bind(tile.source.data[lanes(at + word * tile.frame.geometry.channel_pitch)])
        if half:
            words = T.shift_right(words, splat(T.uint32(TABLE_INPUTS)))
        places = words & splat(T.uint32(0x0F0F0F0F)) | splat(T.uint32(0x30201000))
        return T.bind(T.reinterpret(f"int8x{BYTES}", places))


def channels_of(pixels: int) -> int:
    """Channels of a run beside so many pixels: a register for each vector of pixels and channel, sixteen in all."""
    return LANES * LANES // pixels
