"""TIR for one kernel function: its frame, its memory views and sixteen-lane vectors.

All index arithmetic is int64 over flat buffers, so that LLVM keeps addresses in registers without sign extensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.ir import PrimType
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets.standard_op import Expr as Expr
from qcompiler.targets.standard_op import Parameter as Parameter

# of 32 bits: one register of 512 bits, and whole ones of those that are narrower
LANES = 16
# of llvm.prefetch: a read, into the first or the second level of the cache, of data
_READ, FIRST, SECOND, _DATA = 0, 3, 2, 1


def prim_func(name: str, parameters: Sequence[Parameter], body: Callable[[list[Expr], Expr], None]) -> Any:
    """int32 name(*parameters, int32 begin, int32 end), running `body(buffers, item)` for every work item.

    `body` gets one flat buffer per parameter and the int64 item number. Parameters must not alias one another.
    """
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"calling_conv": 2, "tirx.noalias": True, "global_symbol": name})
        pointers = [T.arg(p.name, T.handle(p.dtype)) for p in parameters]
        begin, end = T.arg("begin", T.int32()), T.arg("end", T.int32())
        T.func_ret(PrimType("int32"))
        buffers = [
            T.decl_buffer((max(p.elements, 1),), p.dtype, data=pointer, align=p.align)
            for p, pointer in zip(parameters, pointers, strict=True)
        ]
        with T.serial(T.Cast("int64", begin), T.Cast("int64", end)) as item:
            body(buffers, item)
        T.Return(T.int32(0))
    return builder.get()


def i64(value: Expr) -> Expr:
    """An int64 index from a Python integer or an expression."""
    return T.int64(value) if isinstance(value, int) else T.Cast("int64", value)


def lanes(base: Expr, count: int = LANES) -> Expr:
    """Indices base, base + 1, ..., base + count - 1."""
    start = i64(base) if isinstance(base, int) else base
    return start if count == 1 else T.ramp(start, T.int64(1), count)


def splat(value: Expr, count: int = LANES) -> Expr:
    """`value` in every lane."""
    return value if count == 1 else T.broadcast(value, count)


def temporary(dtype: str, count: int = LANES) -> Expr:
    """A stack array of `count` elements; becomes registers when all its indices are constant."""
    return T.alloc_buffer((count,), dtype)


def register(value: int) -> Expr:
    """Sixteen int32 lanes that start from `value`."""
    found = temporary("int32")
    write(found, splat(T.int32(value)), lanes(0))
    return found


def write(target: Expr, value: Expr, index: Expr) -> None:
    """target[index] = value."""
    T.buffer_store(target, value, [index])


def write_first(target: Expr, value: Expr, at: Expr, count: int) -> None:
    """target[at : at + count] = the first lanes of a vector, in pieces: masked stores take ten cycles each on Zen 3."""
    if count == LANES:
        write(target, value, lanes(at))
        return
    first = 0
    while first < count:
        size = 1 << ((count - first).bit_length() - 1)
        write(target, T.Shuffle([value], list(range(first, first + size))), lanes(at + first, size))
        first += size


def whole_or_rest(last: Expr | None, whole: int, rest: int, store: Callable[[int], None]) -> None:
    """Run `store` on as many elements as a block has, `rest` of them where `last` is true; None: it never is."""
    if last is None:
        store(whole)
        return
    with T.If(last):
        with T.Then():
            store(rest)
        with T.Else():
            store(whole)


def prefetch(address: Expr, level: int) -> Expr:
    """A call that asks for the line at an address, to be read soon, in the FIRST or the SECOND level of the cache."""
    return T.call_llvm_intrin("void", "llvm.prefetch", address, T.int32(_READ), T.int32(level), T.int32(_DATA))


def split(value: Expr, extent: int) -> tuple[Expr, Expr]:
    """Quotient and remainder, int64, of an index from 0 to 2^31 - 1 by a constant.

    Both are divided as 32 bits: 32-bit processors divide longer ones by calling the compiler's library.
    """
    if extent == 1:
        return value, T.int64(0)
    if isinstance(value, int):
        return value // extent, value % extent
    short, by = T.Cast("int32", value), T.int32(extent)
    return i64(T.truncdiv(short, by)), i64(T.truncmod(short, by))


def fenced(value: Expr, count: int = LANES) -> Expr:
    """A float32 vector that the optimiser cannot see through.

    It keeps a product from being contracted with the sum that uses it, and a loop that fills or copies memory from
    becoming a call of memset or memcpy, which a bare library does not have.
    """
    return T.call_llvm_pure_intrin("float32" if count == 1 else f"float32x{count}", "llvm.arithmetic.fence", value)


def four_added(counts: Expr, widen: str) -> Expr:
    """int32x4: every four neighbours of uint8x16 added up.

    widen: the LLVM intrinsic that adds up neighbouring lanes into lanes of twice the size.
    """
    pairs = T.call_llvm_pure_intrin("uint16x8", widen, counts)
    return T.reinterpret("int32x4", T.call_llvm_pure_intrin("uint32x4", widen, pairs))


def mask_bits(condition: Expr, count: int = LANES) -> Expr:
    """An integer of `count` bits with bit i = lane i of a comparison of as many lanes."""
    return T.reinterpret(f"uint{count}", T.Cast(f"uint1x{count}", condition))


@dataclass(frozen=True)
class View:
    """A `Buffer` in memory: floats, or uint32 words or uint16 halves of packed codes."""

    buffer: Buffer
    data: Expr
    per_pixel: int

    @property
    def channels_last(self) -> bool:
        """Whether the channels of a pixel are contiguous."""
        return channels_last(self.buffer)

    @property
    def has_halo(self) -> bool:
        """Whether border pixels are stored."""
        return self.buffer.halo != Halo()

    def offset(self, n: Expr, y: Expr, x: Expr, c: Expr) -> Expr:
        """Flat index of element (or word, or half) c of a pixel; y and x are -halo .. size + halo - 1."""
        b = self.buffer
        row, column = y + b.halo.top, x + b.halo.left
        if self.channels_last:
            return ((n * b.height + row) * b.width + column) * self.per_pixel + c
        return ((n * (b.words if b.packed else b.c) + c) * b.height + row) * b.width + column

    def half_offset(self, pixel: tuple[Expr, Expr, Expr], half: Expr, plane: int) -> Expr:
        """Flat index of the uint16 that holds bit `plane` of half a word of channels, in a view of halves."""
        planes = self.buffer.planes
        if planes == 1:
            return self.offset(*pixel, half)
        word, rest = split(half, 2)
        return self.offset(*pixel, (word * planes + plane) * 2 + rest)


def channels_last(buffer: Buffer) -> bool:
    """Whether the channels of a pixel are contiguous; with a single stored pixel both orders are the same."""
    if buffer.packed:
        return not buffer.by_pixels
    return buffer.order == "nhwc" or buffer.height * buffer.width == 1


def float_view(buffer: Buffer, data: Expr) -> View:
    """View of a float32 buffer."""
    return View(buffer, data, buffer.c)


def word_view(buffer: Buffer, data: Expr) -> View:
    """View of codes in uint32 words."""
    return View(buffer, data, buffer.words)


def half_view(buffer: Buffer, data: Expr) -> View:
    """View of codes in bit planes in uint16 halves of words."""
    return View(buffer, data, buffer.words * 2)


def block_view(buffer: Buffer, data: Expr) -> View:
    """View in what a block of channels is read and written in: floats, halves of words of planes, or other words."""
    if not buffer.packed:
        return float_view(buffer, data)
    return half_view(buffer, data) if buffer.in_planes else word_view(buffer, data)


def block_parameter(name: str, buffer: Buffer) -> Parameter:
    """The pointer to the data of a `block_view`; inputs and outputs of networks are only aligned to their elements."""
    if not buffer.packed:
        return Parameter(name, "float32", buffer.nbytes // 4, 4)
    dtype, size = ("uint16", 2) if buffer.in_planes else ("uint32", 4)
    return Parameter(name, dtype, buffer.nbytes // size, 4)


def opaque(count: int) -> Expr:
    """A constant that the optimiser does not know."""
    bits = float(np.int32(count).view(np.float32))
    return T.bind(T.Cast("int64", T.reinterpret("int32", fenced(T.float32(bits), 1))))
