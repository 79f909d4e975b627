"""Sixteen codes of a block of channels as numbers, in bit planes, bytes or tables."""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.ir.storage import TABLE_CHANNELS, TABLE_DIGIT_BITS, TABLE_INPUTS, Buffer
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.byte_lanes import load_bytes, store_bytes
from qcompiler.targets.vector.emit import LANES, Expr, View, i64, lanes, splat, split, temporary, write
from qcompiler.targets.vector.table_lanes import load_tables, store_tables

Pixel = tuple[Expr, Expr, Expr]


def load_codes(view: View, blocks: Blocks, pixel: Pixel, block: Expr) -> Expr:
    """The codes of a block at one pixel of a packed buffer, float32x16; padding lanes hold anything."""
    codes = view.buffer.codes
    assert codes is not None
    if not aligned(view.buffer, blocks):
        return _gathered(view, blocks, pixel, block)
    loads = {"planes": _from_planes, "bytes": load_bytes, "flips": load_tables, "subsets": load_tables}
    index = loads[view.buffer.packing](view, blocks, pixel, block)
    return T.Cast("float32x16", index * splat(T.int32(codes.step)) + splat(T.int32(codes.low)))


def store_numbers(target: View, blocks: Blocks, pixel: Pixel, block: Expr, index: Expr) -> None:
    """Write the numbers of sixteen codes, int32x16, in bytes or tables; behind the last channel of a group as 0."""
    if blocks.ragged:
        index = T.Select(blocks.lane_mask(block), index, splat(T.int32(0)))
    store = store_tables if target.buffer.in_tables else store_bytes
    store(target, blocks, pixel, block, index)


def aligned(buffer: Buffer, blocks: Blocks) -> bool:
    """Whether every block is one half of a word of planes, whole words of bytes, or four tables."""
    return buffer.groups == blocks.groups or (blocks.groups == 1 and (buffer.c // buffer.groups) % LANES == 0)


def plane_masks(view: View, blocks: Blocks, pixel: Pixel, block: Expr, count: int, whole: bool) -> list[Expr]:
    """The bits of each plane of `count` blocks, which are `aligned`, an integer of as many bits as these have channels.

    whole: whether the blocks fill words.
    """
    found = []
    for plane in range(view.buffer.planes):
        at = [view.half_offset(pixel, blocks.half(block + other, view.buffer)[0], plane) for other in range(count)]
        bits = temporary(f"uint{LANES * count}", 1)
        if whole:
            write(bits, T.reinterpret(f"uint{LANES * count}", view.data[lanes(at[0], count)]), i64(0))
        else:
            halves = [T.Cast(f"uint{LANES * count}", view.data[each]) for each in at]
            mask = halves[0]
            for other, half in enumerate(halves[1:], 1):
                mask = mask | T.shift_left(half, T.Cast(f"uint{LANES * count}", other * LANES))
            write(bits, mask, i64(0))
        found.append(bits[i64(0)])
    return found


def _from_planes(view: View, blocks: Blocks, pixel: Pixel, block: Expr) -> Expr:
    """The numbers of the codes of a block at one pixel, int32x16."""
    half = blocks.half(block, view.buffer)[0]
    of_lanes = T.shift_left(splat(T.int32(1)), T.ramp(T.int32(0), T.int32(1), LANES))
    index: Expr = splat(T.int32(0))
    for plane in range(view.buffer.planes):
        word = splat(T.Cast("int32", view.data[view.half_offset(pixel, half, plane)]))
        worth = T.Select((word & of_lanes) != splat(T.int32(0)), splat(T.int32(1 << plane)), splat(T.int32(0)))
        index = index + worth if plane else worth
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
        elif buffer.in_tables:
            index = _from_table(view, pixel, group * buffer.group_words, channel)
        else:
            half, position = split(channel, 16)
            for plane in range(buffer.planes):
                at = view.half_offset(pixel, group * (2 * buffer.group_words) + half, plane)
                bit = T.shift_right(T.Cast("int32", view.data[at]), T.Cast("int32", position)) & 1
                index = index + bit * (1 << plane)
        write(codes, T.Cast("float32", index * buffer.codes.step + buffer.codes.low), lane)
    return codes[lanes(0)]


def _from_table(view: View, pixel: Pixel, first: Expr, channel: Expr) -> Expr:
    """The number of the code of one channel of the group whose tables begin at word `first`, int32."""
    digits, (sixteen, within) = view.buffer.digits, split(channel, TABLE_CHANNELS)
    table, k = split(within, TABLE_INPUTS)
    word, position = split(T.shift_left(T.int64(1), k), WORD_BYTES)
    shifts, number = [T.uint32(0), T.Cast("uint32", position * 8)], T.int32(0)
    for place, most in enumerate(digits):
        start = first + (sixteen * len(digits) + place) * TABLE_CHANNELS + table * TABLE_INPUTS
        sums = [view.data[view.offset(*pixel, start + at)] for at in (i64(0), word)]
        whole, single = (
            T.Cast("int32", T.shift_right(held, by) & T.uint32(0xFF)) for held, by in zip(sums, shifts, strict=True)
        )
        digit = single if view.buffer.flips is None else T.shift_right(whole - single + most, T.int32(1))
        number = number + T.shift_left(digit, T.int32(TABLE_DIGIT_BITS * place))
    return number
