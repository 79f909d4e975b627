"""Elements of buffers on a device: a thread reads one, a warp writes those of a block of channels of a pixel."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import WORD_BITS, WORD_BYTES
from qcompiler.ir.storage import Buffer
from qcompiler.targets.cuda.emit import ballot, write
from qcompiler.targets.cuda.lanes import Lanes
from qcompiler.targets.standard_op import Expr, Parameter

Pixel = tuple[Expr, Expr, Expr]
"""Image, row and column, int32."""


def parameter(name: str, buffer: Buffer, *, words: bool = False) -> Parameter:
    """The pointer to a buffer: floats, words of bit planes, or bytes; words: those of bytes, too."""
    if buffer.in_bytes and not words:
        return Parameter(name, "uint8", buffer.nbytes, WORD_BYTES)
    return Parameter(name, "uint32" if buffer.packed else "float32", buffer.nbytes // 4, 4)


@dataclass(frozen=True)
class Elements:
    """A buffer without halo in memory."""

    buffer: Buffer
    data: Expr

    def first_word(self, pixel: Pixel) -> Expr:
        """Index of the first word of a pixel of codes, where words are read."""
        n, y, x = pixel
        return ((n * self.buffer.h + y) * self.buffer.w + x) * self.buffer.words

    def start(self, pixel: Pixel) -> Expr:
        """Index of the first float, word or byte of a pixel whose channels lie side by side."""
        n, y, x = pixel
        b = self.buffer
        per_pixel = b.words * WORD_BYTES if b.in_bytes else b.words if b.packed else b.c
        return ((n * b.h + y) * b.w + x) * per_pixel

    def number(self, pixel: Pixel, c: Expr) -> Expr:
        """float32: an element."""
        b = self.buffer
        if b.codes is None:
            return T.bind(self.data[self.float_index(pixel, c)])
        index = self._byte(pixel, c) if b.in_bytes else self._bits(pixel, c)
        return T.bind(T.Cast("float32", b.codes.low + b.codes.step * index))

    def float_index(self, pixel: Pixel, c: Expr) -> Expr:
        """Index of a float."""
        n, y, x = pixel
        b = self.buffer
        return self.start(pixel) + c if b.order == "nhwc" else ((n * b.c + c) * b.h + y) * b.w + x

    def _byte(self, pixel: Pixel, c: Expr) -> Expr:
        """int32: the number of a code in bytes."""
        group, within = self._grouped(c)
        return T.Cast("int32", self.data[self.start(pixel) + group * (self.buffer.group_words * WORD_BYTES) + within])

    def _bits(self, pixel: Pixel, c: Expr) -> Expr:
        """int32: the number of a code in bit planes."""
        group, within = self._grouped(c)
        word = group * self.buffer.group_words + T.truncdiv(within, WORD_BITS)
        first = T.bind(self.start(pixel) + word * self.buffer.planes)
        bit = T.bind(T.Cast("uint32", T.truncmod(within, WORD_BITS)))
        index: Expr = T.int32(0)
        for plane in range(self.buffer.planes):
            one = T.shift_right(self.data[first + plane], bit) & T.uint32(1)
            index = index + T.shift_left(T.Cast("int32", one), T.int32(plane))
        return index

    def _grouped(self, c: Expr) -> tuple[Expr, Expr]:
        if self.buffer.groups == 1:
            return T.int32(0), c
        per_group = self.buffer.c // self.buffer.groups
        return T.truncdiv(c, per_group), T.truncmod(c, per_group)

    def store_numbers(self, lanes: Lanes, pixel: Pixel, block: Expr, lane: Expr, value: Expr) -> None:
        """Write a float per thread that has a channel."""
        with T.If(lanes.valid(block, lane)), T.Then():
            write(self.data, value, self.float_index(pixel, lanes.channel(block, lane)))

    def store_codes(self, lanes: Lanes, pixel: Pixel, block: Expr, lane: Expr, index: Expr) -> None:
        """Write the code of number `index`, int32, per thread, and 0 behind the last channel; all threads come here."""
        if self.buffer.in_bytes:
            self._store_bytes(lanes, pixel, block, lane, index)
            return
        valid, planes = lanes.valid(block, lane), self.buffer.planes
        first = T.bind(self.start(pixel) + block * planes)
        for plane in range(planes):
            one = T.And(valid, (T.shift_right(index, T.int32(plane)) & T.int32(1)) != T.int32(0))
            word = ballot(one)
            with T.If(lane == plane), T.Then():
                write(self.data, word, first + plane)

    def _store_bytes(self, lanes: Lanes, pixel: Pixel, block: Expr, lane: Expr, index: Expr) -> None:
        within, held = T.bind(lanes.within(block, lane)), self.buffer.group_words * WORD_BYTES
        group = T.truncdiv(block, lanes.group_blocks)
        with T.If(within < held), T.Then():
            number = T.Select(within < lanes.per_group, index, T.int32(0))
            write(self.data, T.Cast("uint8", number), self.start(pixel) + group * held + within)


def number_of(codes: Codes, value: Expr) -> Expr:
    """int32: the number of a code that a float32 holds; the first for NaN."""
    known = T.Select(value > T.float32(codes.low), value, T.float32(codes.low))
    index = T.Cast("int32", known) - codes.low
    return index if codes.step == 1 else T.truncdiv(index, T.int32(codes.step))
