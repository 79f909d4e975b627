"""Sums of products of bytes where a pixel has fewer channels than a word: windows without what fills up words.

A word of one, two or three channels is multiplied as if it had four. Here the bytes of a window are put side by side on
the stack first, in the order kernel row, column, channel, and only what is left of the last word is filled up: 37 words
instead of 49 for 7x7 of three channels, and 7 instead of 25 for 5x5 of one. Weights lie in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.ir.storage import pack_bytes
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.byte_sums import ByteSums
from qcompiler.targets.vector.direct import Geometry, ReductionLoop
from qcompiler.targets.vector.emit import LANES, Expr, i64, lanes, splat, temporary, write
from qcompiler.targets.vector.epilogue import Pixel
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Source, Tile

# words from which on registers have loads that leave lanes out
_MASKED = 8
# a load, shuffle and store; measured on Zen 4
_STORE_NS = 0.6
# arrays that are larger do not lie on the stack
MOST_BYTES = 1023


def window_words(problem: Conv2d) -> int:
    """Words of the bytes of a window side by side."""
    return -(-problem.kernel[0] * problem.kernel[1] * problem.x.c // WORD_BYTES)


def fits_patches(problem: Conv2d) -> bool:
    """Whether pixels of bytes fill less than their words, and windows side by side take fewer."""
    few = problem.x.in_bytes and problem.x.c < WORD_BYTES and problem.second is None
    taps = problem.kernel[0] * problem.kernel[1]
    return few and problem.groups == 1 and problem.dilations[1] == 1 and window_words(problem) < taps


@dataclass(frozen=True)
class PatchGeometry(Geometry):
    """Windows of bytes side by side."""

    @property
    def steps(self) -> int:
        """Words of a window."""
        return window_words(self.problem)

    def loops(self) -> list[ReductionLoop]:
        """One run of words."""
        return [ReductionLoop(self.steps, 1)]

    def weight_lanes(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
        """OIHW weights as uint32 [blocks, words of a window, 16]."""
        whole = np.rint(weights.transpose(0, 2, 3, 1)).astype(np.int64)
        spread = self.blocks.spread(pack_bytes(whole.reshape(len(weights), -1)).T)
        return np.ascontiguousarray(spread.reshape(self.steps, -1, LANES).transpose(1, 0, 2))


@dataclass(frozen=True)
class PatchFrame(Frame):
    """A problem on one tiling, whose windows lie side by side.

    most: pixels in a register of the processor, 8 of which have loads that leave some out.
    """

    most: int = 8

    @property
    def geometry(self) -> PatchGeometry:
        """Offsets through windows and weights."""
        return PatchGeometry(self.problem, self.blocks)

    @property
    def together(self) -> int:
        """Pixels of a kernel row that are loaded at once, a power of two: too many where some can be left out."""
        columns = self.problem.kernel[1]
        least = 1 << (columns - 1).bit_length()
        if least > columns and (least > self.most or self.most < _MASKED):
            least //= 2
        return min(least, self.most)

    @property
    def loaded(self) -> int:
        """Those of them that are pixels of the row."""
        return min(self.together, self.problem.kernel[1])

    @property
    def stored(self) -> int:
        """Bytes that are stored at once: those of pixels loaded at once, in a power of two."""
        return 1 << (self.together * self.problem.x.c - 1).bit_length()

    @property
    def row_bytes(self) -> int:
        """From one kernel row of a window to the next."""
        return self.problem.kernel[1] * self.problem.x.c

    @property
    def window_bytes(self) -> int:
        """From one window to the next: whole words, and what the last store writes."""
        end = self.problem.kernel[0] * self.row_bytes + self.stored - self.loaded * self.problem.x.c
        return -(-max(end, self.geometry.steps * WORD_BYTES) // WORD_BYTES) * WORD_BYTES

    def slowdown(self, macs_per_ns: float) -> float:
        """What laying out windows adds to the time of their products, as a factor."""
        stores = self.problem.kernel[0] * -(-self.problem.kernel[1] // self.loaded)
        macs = self.geometry.steps * self.tiling.blocks * LANES * WORD_BYTES
        return 1 + _STORE_NS * stores * macs_per_ns / macs

    @property
    def fits_stack(self) -> bool:
        """Whether the windows of a tile lie on the stack."""
        return self.tiling.pixels * self.window_bytes <= MOST_BYTES


@dataclass(frozen=True)
class Windows(Source):
    """The windows of a tile, side by side: data is uint8 [pixels * window_bytes]."""

    def start(self, pixel: Pixel) -> Expr:
        """Offset of the first window."""
        return i64(0)

    def pixel_step(self) -> int:
        """Words from one window to the next."""
        assert isinstance(self.frame, PatchFrame)
        return self.frame.window_bytes // WORD_BYTES

    def lanes_at(self, at: Expr, first: int = 0, count: int = LANES) -> Expr:
        """A word in `count` lanes."""
        return splat(T.reinterpret("uint32", self.data[lanes(at * WORD_BYTES, WORD_BYTES)]), count)


@dataclass(frozen=True)
class PatchSums(ByteSums):
    """`ByteSums` of windows whose bytes lie side by side; weights likewise."""

    family: ClassVar[str] = "patches_conv2d"

    def fill(self, tile: Tile) -> Registers:
        """Lay out the windows of a tile, then sum all pixels and blocks."""
        frame, source = tile.frame, tile.source
        assert isinstance(frame, PatchFrame)
        windows = temporary("uint8", frame.tiling.pixels * frame.window_bytes)
        start = T.bind(source.start(tile.pixel))
        for p in range(frame.tiling.pixels):
            # what fills up the last word
            last = p * frame.window_bytes + (frame.geometry.steps - 1) * WORD_BYTES
            write(windows, splat(T.uint8(0), WORD_BYTES), lanes(last, WORD_BYTES))
        with T.serial(i64(0), i64(frame.problem.kernel[0])) as i:
            for p in range(frame.tiling.pixels):
                at = start + i * frame.geometry.taps()[0].stride + p * source.pixel_step()
                _lay_out(frame, source, T.bind(at), windows, p * frame.window_bytes + i * frame.row_bytes)
        placed = Windows(frame, source.element, windows, [], source.block)
        return super().fill(replace(tile, source=placed))


def _lay_out(frame: PatchFrame, source: Source, at: Expr, windows: Expr, into: Expr) -> None:
    """A kernel row of a window, whose pixels are words from `at` on, in bytes from `into` on.

    The last pixels are loaded with some before them again, rather than with what lies behind the row. What a store
    writes behind its pixels is what fills up a word, 0, and is written over by the next.
    """
    count, c, columns = frame.together, frame.problem.x.c, frame.problem.kernel[1]
    places = [WORD_BYTES * pixel + channel for pixel in range(count) for channel in range(c)]
    chosen = places + [WORD_BYTES - 1] * (frame.stored - len(places))
    for first in range(0, columns, frame.loaded):
        pixel = min(first, columns - frame.loaded)
        index = lanes(at + pixel, count)
        words = source.data[index]
        if frame.loaded < count:
            inside = lanes(0, count) < splat(T.int64(frame.loaded), count)
            words = T.masked_load(f"uint32x{count}", source.data, index, inside)
        held = T.bind(T.reinterpret(f"uint8x{WORD_BYTES * count}", words))
        write(windows, T.Shuffle([held], chosen), lanes(into + pixel * c, frame.stored))
