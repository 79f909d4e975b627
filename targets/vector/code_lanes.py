"""Sixteen codes of a block of channels as numbers, from bit planes or bytes."""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.ir.storage import Buffer
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.byte_lanes import load_bytes
from qcompiler.targets.vector.emit import LANES, Expr, View, i64, lanes, splat, split, temporary, write

Pixel = tuple[Expr, Expr, Expr]


def load_codes(view: View, blocks: Blocks, pixel: Pixel, block: Expr) -> Expr:
    """The codes of a block at one pixel of a packed buffer, float32x16; padding lanes hold anything."""
    codes = view.buffer.codes
    assert codes is not None
    if not _aligned(view.buffer, blocks):
        return _gathered(view, blocks, pixel, block)
    index = (load_bytes if view.buffer.in_bytes else _from_planes)(view, blocks, pixel, block)
    return T.Cast("float32x16", index * splat(T.int32(codes.step)) + splat(T.int32(codes.low)))


def _aligned(buffer: Buffer, blocks: Blocks) -> bool:
    """Whether every block is one half of a word of planes, or whole words of bytes."""
    return buffer.groups == blocks.groups or (blocks.groups == 1 and (buffer.c // buffer.groups) % LANES == 0)


def _from_planes(view: View, blocks: Blocks, pixel: Pixel, block: Expr) -> Expr:
    """The numbers of the codes of a block at one pixel, int32x16."""
    half = blocks.half(block, view.buffer)[0]
    index: Expr = splat(T.int32(0))
    for plane in range(view.buffer.planes):
        word = splat(T.Cast("int32", view.data[view.half_offset(pixel, half, plane)]))
        bit = T.shift_right(word, T.ramp(T.int32(0), T.int32(1), LANES)) & splat(T.int32(1))
        bit = bit * splat(T.int32(1 << plane))
        index = index + bit if plane else bit
    return index


def _gathered(view: View, blocks: Blocks, pixel: Pixel, block: Expr) -> Expr:
    """The codes of a block whose channels lie anywhere, one by one."""
    buffer = view.buffer
    assert buffer.codes is not None
    per_group = buffer.c // buffer.groups
    codes = temporary("float32")
    write(codes, splat(T.float32(0)), lanes(0))
    with T.serial(i64(0), blocks.valid(block)) as lane:
        group, channel = split(blocks.first(block) + lane, per_group)
        index: Expr = T.int32(0)
        if buffer.in_bytes:
            word, position = split(channel, WORD_BYTES)
            held = view.data[view.offset(*pixel, group * buffer.group_words + word)]
            index = T.Cast("int32", T.shift_right(held, T.Cast("uint32", position * 8)) & T.uint32(0xFF))
        else:
            half, position = split(channel, 16)
            for plane in range(buffer.planes):
                at = view.half_offset(pixel, group * (2 * buffer.group_words) + half, plane)
                bit = T.shift_right(T.Cast("int32", view.data[at]), T.Cast("int32", position)) & 1
                index = index + bit * (1 << plane)
        write(codes, T.Cast("float32", index * buffer.codes.step + buffer.codes.low), lane)
    return codes[lanes(0)]
