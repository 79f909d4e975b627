"""Mismatching bits of a single pixel with a long reduction: chunks of the pixel meet its channels eight at a time.

Up to nine registers of the pixel stay where they are while the weights of sixteen channels pass by, four registers per
load. In the model of Cortex-A53 such a load costs no cycle of its own, unlike one of a register or a pair, and
additions of addresses cost less side by side; so those come in fours. All this takes an order of instructions that is
not LLVM's: exclusive or a group of four after its load, counts and sums another group later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.pinned import Register, fourfold_loads, load_four, pin, pinned_address, pinned_order
from qcompiler.targets.arm.row_mismatches import RowMismatches, pairwise, reads_rows, side_by_side
from qcompiler.targets.vector.direct import Geometry
from qcompiler.targets.vector.emit import LANES, Expr, i64, lanes, opaque, splat, temporary, write
from qcompiler.targets.vector.tile import Tile

_WORDS, _QUAD, _EIGHT = 4, 4, 8
# registers of a chunk: fewer wait too often for the first loads on Cortex-A53, and many more need the stack
_CHUNKS = (8, 9, 7)
# a byte gains eight per register: two channels are added up in bytes in every chunk, four in those of up to so many
_MOST_FOR_FOUR = 255 // (8 * 4)
# that sixteen bits count
_MOST_BITS = 2**16 - 1
# held in registers at a time; chosen
_ADDRESSES = 4


def chunk_of(geometry: Geometry) -> int:
    """Registers of 128 channels in a chunk; 0 if there are more pixels than one, or its bits do not divide."""
    problem = geometry.problem
    if problem.pixels > 1 or not reads_rows(geometry) or len(geometry.loops()) > 1 or geometry.steps * 32 > _MOST_BITS:
        return 0
    return next((size for size in _CHUNKS if geometry.steps % (size * _WORDS) == 0), 0)


@dataclass(frozen=True)
class ChunkMismatches(RowMismatches):
    """Weights as those of `RowMismatches` of one pixel, which variants with udot share. See `chunk_of`."""

    family: ClassVar[str] = "chunk_conv2d"

    def accumulate(self, tile: Tile, counts: list[list[Expr]]) -> None:
        """counts[0][0] += mismatches of the pixel, chunk by chunk; uint16 holds those of all chunks."""
        size = chunk_of(tile.frame.geometry)
        chunks = tile.frame.geometry.steps // (size * _WORDS)
        start, ((count,),) = T.bind(tile.source.start(tile.pixel)), counts
        sums = temporary("uint16", LANES)
        write(sums, splat(T.uint16(0)), lanes(0))
        with pinned_order(), fourfold_loads(), T.serial(i64(0), i64(chunks)) as chunk:
            at = T.bind(start + chunk * (size * _WORDS))
            held = [T.bind(tile.source.data[lanes(at + i * _WORDS, _WORDS)]) for i in range(size)]
            first = T.bind((tile.block * chunks + chunk) * (size * _WORDS * LANES))
            with T.serial(i64(0), opaque(LANES // _EIGHT)) as half:
                into = lanes(half * _EIGHT, _EIGHT)
                quads = _mismatches(tile.weights[0], T.bind(first + half * (_EIGHT * _WORDS)), held)
                write(sums, sums[into] + side_by_side("uint16x8", *quads), into)
        write(count, count[lanes(0)] + T.Cast("int32x16", sums[lanes(0)]), lanes(0))


def _mismatches(w: Expr, first: Expr, held: Sequence[Expr]) -> list[Expr]:
    """uint16x8 per four of eight channels, two neighbours per channel; weights [registers, 16 channels] at `first`.

    A group is one register of the pixel and four channels. While one is loaded, the one before is compared and the one
    before that is counted.
    """
    groups = list(product(range(0, _EIGHT, _QUAD), range(len(held))))
    offsets = [first + (step * LANES + channel) * _WORDS for channel, step in groups]
    weights, apart, sums, totals = list[Register](), list[Register](), list[Register](), list[Expr]()
    for number in range(len(groups) + 2):
        if number % _ADDRESSES == 0:
            addresses = [pinned_address(w, at) for at in offsets[number : number + _ADDRESSES]]
        loaded = load_four(addresses[number % _ADDRESSES]) if number < len(groups) else []
        compared = [Register(held[(number - 1) % len(held)] ^ words.words) for words in weights]
        counted = [Register(T.popcount(bits.bytes)) for bits in apart]
        sums = [Register(a.bytes + b.bytes) for a, b in zip(sums, counted, strict=True)] if sums else counted
        weights, apart = loaded, compared
        pin([*compared, *counted])
        if number > 1 and (number - 1) % len(held) == 0:
            totals.append(_added(sums, len(held)))
            sums = []
        else:
            pin(sums)
    return totals


def _added(sums: Sequence[Register], size: int) -> Expr:
    """uint16x8: the bytes of four registers, `8 * size` at most, added up to two neighbours for each register."""
    left, right = (side_by_side("uint8x16", sums[i].bytes, sums[i + 1].bytes) for i in (0, 2))
    if size <= _MOST_FOR_FOUR:
        return T.bind(pairwise("uint16x8", side_by_side("uint8x16", left, right)))
    return T.bind(side_by_side("uint16x8", pairwise("uint16x8", left), pairwise("uint16x8", right)))
