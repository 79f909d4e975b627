"""Sixteen codes of a block of channels in tables: sixteen words of a pixel and digit, four tables of sixteen bytes."""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.storage import TABLE_DIGIT_BITS, TABLE_INPUTS, Buffer
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.emit import LANES, Expr, View, lanes, splat, split, write

_ENTRIES = 1 << TABLE_INPUTS
_BYTES = LANES // TABLE_INPUTS * _ENTRIES
Pixel = tuple[Expr, Expr, Expr]


def store_tables(target: View, blocks: Blocks, pixel: Pixel, block: Expr, index: Expr) -> None:
    """Write the tables of the numbers of sixteen codes, int32x16, 0 behind the last channel of a group."""
    first, digits = target.offset(*pixel, _first(blocks, block, target.buffer)), target.buffer.digits
    for place, most in enumerate(digits):
        number = index
        if place:
            number = T.shift_right(index, splat(T.int32(TABLE_DIGIT_BITS * place)))
        elif len(digits) > 1:
            number = index & splat(T.int32(most))
        inputs, zero = T.bind(T.Cast("uint8x16", number)), T.bind(splat(T.uint8(0)))
        flipped = target.buffer.flips is not None
        others, chosen = (inputs, T.bind(splat(T.uint8(most)) - inputs)) if flipped else (zero, inputs)
        pairs = T.bind(T.Shuffle([others, chosen], _input(0)) + T.Shuffle([others, chosen], _input(1)))
        # a shuffle gives no more lanes than it is given
        sums = T.Shuffle([pairs, pairs], _pair(0)) + T.Shuffle([pairs, pairs], _pair(1))
        write(target.data, T.reinterpret("uint32x16", sums), lanes(first + place * LANES))


def load_tables(view: View, blocks: Blocks, pixel: Pixel, block: Expr) -> Expr:
    """The numbers of sixteen codes, int32x16."""
    first, total = view.offset(*pixel, _first(blocks, block, view.buffer)), None
    for place, most in enumerate(view.buffer.digits):
        digit = _loaded(view, first + place * LANES, most)
        shifted = T.shift_left(digit, splat(T.int32(TABLE_DIGIT_BITS * place))) if place else digit
        total = shifted if total is None else total + shifted
    return total


def _loaded(view: View, at: Expr, most: int) -> Expr:
    """The digits of sixteen numbers, int32x16."""
    sums = T.bind(T.reinterpret(f"uint8x{_BYTES}", view.data[lanes(at)]))
    tables = [channel // TABLE_INPUTS * _ENTRIES for channel in range(LANES)]
    single = T.Shuffle([sums], [first + (1 << channel % TABLE_INPUTS) for channel, first in enumerate(tables)])
    if view.buffer.flips is None:
        return T.Cast("int32x16", single)
    whole = T.Shuffle([sums], tables)
    twice = T.Cast("int32x16", whole) - T.Cast("int32x16", single) + splat(T.int32(most))
    return T.shift_right(twice, splat(T.int32(1)))


def _input(k: int) -> list[int]:
    """What input k adds to the sums of each pair of inputs for two bits, [4 tables, 2 pairs, 4].

    By place among inputs whose bits are not set, and those whose bits are.
    """
    return [
        table * TABLE_INPUTS + 2 * pair + k + (LANES if bits >> k & 1 else 0)
        for table in range(LANES // TABLE_INPUTS)
        for pair in range(2)
        for bits in range(4)
    ]


def _pair(k: int) -> list[int]:
    """What pair k of inputs adds to every entry of four tables, by place among the sums of `_input`."""
    return [
        table * 8 + 4 * k + (entry >> 2 * k & 3) for table in range(LANES // TABLE_INPUTS) for entry in range(_ENTRIES)
    ]


def _first(blocks: Blocks, block: Expr, buffer: Buffer) -> Expr:
    """The first word of a block in a pixel."""
    group, within = split(block, -(-(blocks.channels // buffer.groups) // LANES))
    return group * buffer.group_words + within * (LANES * len(buffer.digits))
