"""Sums of products of bytes by vpmaddwd (AVX2), four inputs side by side: none of them is moved, only made wider.

A register has four channels, each with two sums of two products: a load makes 16 bits of the weights' bytes, and an
instruction of a pixel's four inputs, repeated; the two sums of a channel are added in the end. To split words into even
and odd bytes takes five instructions for twice as many products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.targets.vector.byte_sums import ByteSums
from qcompiler.targets.vector.emit import LANES, Expr, lanes, splat, temporary, write
from qcompiler.targets.vector.patch_sums import PatchSums
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.x86.byte_dots import MADD_WORDS
from qcompiler.targets.x86.table_lookups import SHUFFLES, looked_up, repeated_bytes

_CHANNELS, _HALVES = 4, 2
"""Of a register: channels, and sums of each."""
_LANES = _CHANNELS * _HALVES


@dataclass(frozen=True)
class WordSums(ByteSums):
    """Weights as in `ByteSums`, of 8 bits: those of fewer are left to vpmaddubsw."""

    family: ClassVar[str] = "words_conv2d"

    def add_up(self, tile: Tile, sums: Registers, at: Expr, weight: Expr, per_step: int) -> None:
        """Add up both sums of every channel, then these."""
        halves = [[temporary("int32", _HALVES * LANES) for _ in row] for row in sums]
        for each in (each for row in halves for each in row):
            for first in range(0, _HALVES * LANES, _LANES):
                write(each, splat(T.int32(0), _LANES), lanes(first, _LANES))
        super().add_up(tile, halves, at, weight, per_step)
        for totals, both in zip(sums, halves, strict=True):
            for total, each in zip(totals, both, strict=True):
                held = T.bind(each[lanes(0, _HALVES * LANES)])
                parts = [T.Shuffle([held], list(range(half, _HALVES * LANES, _HALVES))) for half in range(_HALVES)]
                write(total, parts[0] + parts[1], lanes(0))

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Four products of every channel, in two sums."""
        source = tile.source
        places = [at + p * source.pixel_step() for p in range(len(sums))]
        inputs = [_repeated(source.lanes_at(place, 0, _LANES)) for place in places]
        for b in range(tile.frame.tiling.blocks):
            line = weight + self.block_offset(tile.frame, b)
            for first in range(0, LANES, _CHANNELS):
                held = T.reinterpret(f"int8x{2 * _LANES}", tile.weights[0][lanes(line + first, _CHANNELS)])
                weights = T.bind(T.Cast(f"int16x{2 * _LANES}", held))
                here = lanes(_HALVES * first, _LANES)
                for p, row in enumerate(sums):
                    found = T.call_llvm_pure_intrin(f"int32x{_LANES}", MADD_WORDS[_LANES], inputs[p], weights)
                    write(row[b], row[b][here] + found, here)


@dataclass(frozen=True)
class PatchWords(PatchSums, WordSums):
    """Of windows whose bytes lie side by side."""

    family: ClassVar[str] = "patches_words_conv2d"


def _repeated(words: Expr) -> Expr:
    """int16x16: the bytes of a word, which all lanes hold, one after the other."""
    size = WORD_BYTES * _LANES
    # no byte of the word where the highest bit is set
    order = repeated_bytes(np.array([0, 0x80, 1, 0x80, 2, 0x80, 3, 0x80], np.uint8), size)
    found = looked_up(SHUFFLES[size], size, T.reinterpret(f"uint8x{size}", words), order)
    return T.bind(T.reinterpret(f"int16x{size // 2}", found))
