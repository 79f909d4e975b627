"""Sixteen codes of a block of channels in bytes: four words of a pixel, fewer at the end of a group."""

from __future__ import annotations

from functools import partial

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.ir.storage import Buffer
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.emit import LANES, Expr, View, i64, lanes, splat, split, whole_or_rest, write, write_first

_WORDS = LANES // WORD_BYTES
Pixel = tuple[Expr, Expr, Expr]


def store_bytes(target: View, blocks: Blocks, pixel: Pixel, block: Expr, index: Expr) -> None:
    """Write the numbers of sixteen codes, int32x16, 0 behind the last channel of a group."""
    if target.buffer.group_words < _WORDS:
        _store_few(target, blocks, pixel, block, index)
        return
    words = T.bind(T.reinterpret(f"uint32x{_WORDS}", T.Cast("uint8x16", index)))
    first, last = _words(blocks, block, target.buffer)
    store = partial(write_first, target.data, words, T.bind(target.offset(*pixel, first)))
    whole_or_rest(last, _WORDS, target.buffer.group_words % _WORDS, store)


def _store_few(target: View, blocks: Blocks, pixel: Pixel, block: Expr, index: Expr) -> None:
    """Write all words of a group, fewer than a block has.

    They are put together by shifts: LLVM does not come to an end with bytes of which it uses some, for WebAssembly.
    """
    numbers, count = T.bind(T.Cast("uint32x16", index)), target.buffer.group_words
    places = [T.Shuffle([numbers], list(range(k, WORD_BYTES * count, WORD_BYTES))) for k in range(WORD_BYTES)]
    words = places[0]
    for k, place in enumerate(places[1:], 1):
        words = words | T.shift_left(place, splat(T.uint32(8 * k), count))
    first, _ = _words(blocks, block, target.buffer)
    write(target.data, words, lanes(target.offset(*pixel, first), count))


def load_bytes(view: View, blocks: Blocks, pixel: Pixel, block: Expr) -> Expr:
    """The numbers of sixteen codes, int32x16."""
    first, last = _words(blocks, block, view.buffer)
    at = lanes(view.offset(*pixel, first), _WORDS)
    if last is None:
        words = view.data[at]
    else:
        count = T.Select(last, T.int64(view.buffer.group_words % _WORDS), T.int64(_WORDS))
        held = lanes(i64(0), _WORDS) < splat(count, _WORDS)
        words = T.masked_load(f"uint32x{_WORDS}", view.data, at, held)
    return T.Cast("int32x16", T.reinterpret("uint8x16", words))


def _words(blocks: Blocks, block: Expr, buffer: Buffer) -> tuple[Expr, Expr | None]:
    """The first word of a block in a pixel, and whether it is the last of its group, if that has less than four."""
    per_group = -(-(blocks.channels // buffer.groups) // LANES)
    group, within = split(block, per_group)
    first = group * buffer.group_words + within * _WORDS
    return first, None if buffer.group_words % _WORDS == 0 else within == per_group - 1
