"""Sixteen codes of a block of channels in tables: sixteen words of a pixel, four tables of sixteen bytes."""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.storage import TABLE_INPUTS, Buffer
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.emit import LANES, Expr, View, lanes, splat, split, write

_ENTRIES = 1 << TABLE_INPUTS
_BYTES = LANES // TABLE_INPUTS * _ENTRIES
Pixel = tuple[Expr, Expr, Expr]


def store_tables(target: View, blocks: Blocks, pixel: Pixel, block: Expr, index: Expr) -> None:
    """Write the tables of the numbers of sixteen codes, int32x16, 0 behind the last channel of a group."""
    inputs, flips = T.bind(T.Cast("uint8x16", index)), target.buffer.flips
    if flips is None:
        chosen, others = inputs, T.bind(splat(T.uint8(0)))
    else:
        chosen, others = T.bind(splat(T.uint8(flips)) - inputs), inputs
    sums = _sums_of(chosen, others, 0) + _sums_of(chosen, others, 1)
    at = lanes(target.offset(*pixel, _first(blocks, block, target.buffer)))
    write(target.data, T.reinterpret("uint32x16", sums), at)


def load_tables(view: View, blocks: Blocks, pixel: Pixel, block: Expr) -> Expr:
    """The numbers of sixteen codes, int32x16."""
    at, flips = lanes(view.offset(*pixel, _first(blocks, block, view.buffer))), view.buffer.flips
    sums = T.bind(T.reinterpret(f"uint8x{_BYTES}", view.data[at]))
    tables = [channel // TABLE_INPUTS * _ENTRIES for channel in range(LANES)]
    single = T.Shuffle([sums], [first + (1 << channel % TABLE_INPUTS) for channel, first in enumerate(tables)])
    if flips is None:
        return T.Cast("int32x16", single)
    whole = T.Shuffle([sums], tables)
    twice = T.Cast("int32x16", whole) - T.Cast("int32x16", single) + splat(T.int32(flips))
    return T.shift_right(twice, splat(T.int32(1)))


def _sums_of(chosen: Expr, others: Expr, half: int) -> Expr:
    """uint8x64: of every entry of four tables, what two of its four inputs add, from uint8x16 for either bit."""
    mine = [_operand(byte, 2 * half) for byte in range(_BYTES)]
    next_ones = [_operand(byte, 2 * half + 1) for byte in range(_BYTES)]
    # a shuffle gives no more lanes than it is given
    given = [others, chosen] * (_BYTES // (2 * LANES))
    return T.Shuffle(given, mine) + T.Shuffle(given, next_ones)


def _operand(byte: int, k: int) -> int:
    """Where input k of a table lies among those for bits that are not set, and those for bits that are."""
    table, entry = divmod(byte, _ENTRIES)
    return table * TABLE_INPUTS + k + (LANES if entry >> k & 1 else 0)


def _first(blocks: Blocks, block: Expr, buffer: Buffer) -> Expr:
    """The first word of a block in a pixel."""
    group, within = split(block, -(-(blocks.channels // buffer.groups) // LANES))
    return group * buffer.group_words + within * LANES
