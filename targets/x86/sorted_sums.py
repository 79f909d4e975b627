"""Sums of products of 8 by 8 bits by vpmaddubsw where it is exact, and by vpmaddwd elsewhere (AVX2).

vpmaddubsw adds two products in 16 bits and saturates, but for a pair of weights it can only do so where both have one
sign and add up to more than 128. That is rare: weights of a channel are scaled by the largest of them, and most are far
smaller. So the steps of a block of channels are sorted, those without such a pair first: these take three
instructions for 32 products, the others six and more. Where weights lie stays as it is, shared by all variants; a list
names the steps, with two bytes for 64 weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.byte_sums import ByteSums, codes_of
from qcompiler.targets.vector.direct import Geometry
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.patch_sums import PatchSums
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.tilings import Ranked, ranked, tiles_within
from qcompiler.targets.x86.byte_dots import multiply_words

_WORDS = np.iinfo(np.int16)
# steps between two jumps
_TOGETHER = 2
# pixels of a tile, and what finding a step adds for each of them, as measured
_MOST_PIXELS, _FINDING = 5, 0.3


@dataclass(frozen=True)
class SortedSums(ByteSums):
    """Weights as in `ByteSums`, of 8 bits and one block in a tile; behind them three lists, of S steps in R parts.

    order: uint16 [blocks, R, S / R], the steps of a block, sorted in each part. pairs: int32 [blocks, R], how many
    pairs of steps come first. places: int32 [S], where the inputs of a step lie behind those of the first one. A part
    is a kernel row where tiles leave out rows of padding, else there is one.
    """

    family: ClassVar[str] = "sorted_conv2d"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Words of weights, and the lists."""
        blocks, steps = frame.blocks.count, frame.geometry.steps
        return [
            *super().parameters(frame),
            Parameter("order", "uint16", blocks * steps, 64),
            Parameter("pairs", "int32", blocks * self._parts(frame), 64),
            Parameter("places", "int32", steps, 64),
        ]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Weights, and which steps overflow nothing."""
        (words,) = super().pack(frame, weights)
        # several pixels: blocks lie one after the other
        held = words.view(np.int8).reshape(frame.blocks.count, frame.geometry.steps, LANES, 2, 2)
        overflows = may_overflow(held, codes_of(frame.problem).levels - 1).any(axis=2)
        parts = overflows.reshape(frame.blocks.count, self._parts(frame), -1)
        first = np.arange(parts.shape[1])[:, None] * parts.shape[2]
        order = (np.argsort(parts, axis=2, kind="stable") + first).astype(np.uint16)
        pairs = ((~parts).sum(axis=2) // _TOGETHER).astype(np.int32)
        return [words, order, pairs, places_of(frame.geometry)]

    def add_up(self, tile: Tile, sums: Registers, at: Expr, weight: Expr, per_step: int) -> None:
        """Those of a part that are exact in 16 bits, then the others."""
        order, pairs, places = tile.weights[1:]
        parts = self._parts(tile.frame)
        size = tile.frame.geometry.steps // parts
        rows = self.rows(tile) if parts > 1 else (i64(0), i64(1))
        x = T.bind(at)
        with T.serial(*rows) as part:
            which = T.bind(tile.block * parts + part)
            first, count = which * size, T.bind(T.Cast("int64", pairs[which]))

            def add(sums_of: SortedSums, place: Expr, first: Expr = first) -> None:
                step = T.bind(T.Cast("int64", order[first + place]))
                sums_of.step(tile, sums, T.bind(x + T.Cast("int64", places[step])), T.bind(weight + step * per_step))

            with T.serial(i64(0), count) as i:
                for one in range(_TOGETHER):
                    add(self, i * _TOGETHER + one)
            with T.serial(count * _TOGETHER, i64(size)) as i:
                add(replace(self, dot=multiply_words(self.dot.width)), i)

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Four products in every lane."""
        self.by_pixels(tile, sums, at, weight)

    def _parts(self, frame: Frame) -> int:
        """Parts of the steps that are sorted each for itself: kernel rows, where those in the padding are left out."""
        leaves_out = frame.problem.padded_with_first and frame.geometry.skips_rows
        return frame.problem.kernel[0] if leaves_out else 1


@dataclass(frozen=True)
class PatchSorted(PatchSums, SortedSums):
    """Of windows whose bytes lie side by side."""

    family: ClassVar[str] = "patches_sorted_conv2d"


def may_overflow(pairs: npt.NDArray[np.int8], most: int) -> npt.NDArray[np.bool_]:
    """Which of weights int8 [..., pairs, 2] have a pair whose products add up to more than 16 bits hold, bool [...].

    most: the largest input.
    """
    wide = pairs.astype(np.int64) * most
    highest, lowest = np.maximum(wide, 0).sum(axis=-1), np.minimum(wide, 0).sum(axis=-1)
    return np.asarray(((highest > _WORDS.max) | (lowest < _WORDS.min)).any(axis=-1))


def places_of(geometry: Geometry) -> npt.NDArray[np.int32]:
    """Where the inputs of every step lie, int32 [steps], in the order of the weights."""
    loops = geometry.loops()
    offsets = product(*(range(0, loop.extent * loop.stride, loop.stride) for loop in loops))
    return np.array([sum(each) for each in offsets], np.int32)


def fits_lists(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether all lanes of a block read the same inputs. Sums in 32 bits have fewer steps than two bytes name."""
    return Geometry(problem, blocks).uniform(1) and not problem.centred


def sorted_tilings(problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles of one block."""
    tiles = tiles_within(problem, blocks, _MOST_PIXELS, most=1)
    return ranked(problem, blocks, [(p, b, 1 + _FINDING / p) for p, b in tiles], shorten=True)
