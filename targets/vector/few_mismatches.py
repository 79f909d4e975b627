"""Mismatching bits by words, a few output channels at a time: as many sums as the registers of a small core hold.

A population count is made of shifts, masks and sums. Fields of two bits, then of four, hold counts of one word; four
bits hold those of three words, and a byte those of ten times three. So all but the first two of the usual five halvings
are shared by three words, and the last two by thirty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.direct import ReductionLoop, for_taps
from qcompiler.targets.vector.emit import LANES, Expr, i64, lanes, splat, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_parts
from qcompiler.targets.vector.word_mismatches import WordMismatches

_TOGETHER = 3

Sums = list[list[list[Expr]]]
"""Registers of bytes, [pixels][blocks][lanes / width]."""


@dataclass(frozen=True)
class FewMismatches(WordMismatches):
    """Weights as in `WordMismatches`; needs one input word for all lanes of a run.

    at_once: lanes that share what is loaded of the input. width: those of a register.
    """

    at_once: int
    width: int

    family: ClassVar[str] = "few_conv2d"

    def skips_columns(self, frame: Frame) -> bool:
        """Never: a loop per kernel column would be too short."""
        return False

    def accumulate(self, tile: Tile, counts: list[list[Expr]]) -> None:
        """counts[p][b] += mismatches of pixel p with the channels of block b."""
        geometry, start = tile.frame.geometry, tile.source.start(tile.pixel)
        first = T.bind(geometry.first_weight(tile.block))
        with T.serial(i64(0), i64(LANES // self.at_once)) as few:
            lane = T.bind(few * self.at_once)

            def part(loops: list[ReductionLoop], x: Expr, weight: Expr) -> None:
                self._part(tile, counts, lane, loops, (x, weight))

            for_parts(geometry.loops(), tile.rows, start, first + lane, geometry.step_weights, part)

    def _part(
        self, tile: Tile, counts: list[list[Expr]], lane: Expr, loops: list[ReductionLoop], at: tuple[Expr, Expr]
    ) -> None:
        """Count at most 31 steps of a few lanes in bytes, then add these up."""
        sums = [[[self._zeros() for _ in self._registers()] for _ in row] for row in counts]
        *outer, inner = loops
        step = tile.frame.geometry.step_weights

        def several(x: Expr, weight: Expr, words: int) -> None:
            self._words(tile, sums, (x, weight), [(j * inner.stride, j * step) for j in range(words)])

        def innermost(x: Expr, weight: Expr) -> None:
            whole, rest = divmod(inner.extent, _TOGETHER)
            if whole:
                # LLVM keeps a counter of 64 bits in two registers
                with T.serial(T.int32(0), T.int32(whole)) as trip:
                    i = i64(trip)
                    several(x + i * (_TOGETHER * inner.stride), weight + i * (_TOGETHER * step), _TOGETHER)
            if rest:
                done = whole * _TOGETHER
                several(x + done * inner.stride, weight + done * step, rest)

        for_taps(outer, tile.rows, *at, step * inner.extent, innermost)
        for row, narrow in zip(counts, sums, strict=True):
            for count, registers in zip(row, narrow, strict=True):
                for first, total in zip(self._registers(), registers, strict=True):
                    here = lanes(lane + first, self.width)
                    write(count, count[here] + self._bytes_added(total[lanes(0, self.width)]), here)

    def _words(self, tile: Tile, sums: Sums, at: tuple[Expr, Expr], steps: list[tuple[int, int]]) -> None:
        """Add the bits of up to three words of every pixel and block to the bytes of their sums.

        steps: where the words of inputs and weights lie.
        """
        source, every = tile.source, lanes(0, self.width)
        for p, row in enumerate(sums):
            inputs = [T.bind(source.data[at[0] + p * source.pixel_step() + x]) for x, _ in steps]
            for b, registers in enumerate(row):
                for first, total in zip(self._registers(), registers, strict=True):
                    start = at[1] + (tile.frame.geometry.block_offset(b) + first)
                    held = [tile.weights[0][lanes(start + weight, self.width)] for _, weight in steps]
                    fours = [self._counts_of_four(x, w) for x, w in zip(inputs, held, strict=True)]
                    counts = T.bind(sum(fours[1:], fours[0]))
                    write(total, total[every] + self._halved(counts, 4, 0x0F0F0F0F), every)

    def _counts_of_four(self, x: Expr, weights: Expr) -> Expr:
        """In every four bits, how many of them differ."""
        words = T.bind(splat(x, self.width) ^ weights)
        return T.bind(self._halved(words - (self._down(words, 1) & self._all(0x55555555)), 2, 0x33333333))

    def _bytes_added(self, words: Expr) -> Expr:
        """The sum of the bytes of every word, as a signed integer."""
        halves = T.bind(self._halved(words, 8, 0x00FF00FF))
        found = (halves + self._down(halves, 16)) & self._all(0xFFFF)
        return T.reinterpret("int32" if self.width == 1 else f"int32x{self.width}", found)

    def _halved(self, words: Expr, bits: int, mask: int) -> Expr:
        """Sums of neighbouring fields of some bits."""
        words = T.bind(words)
        return (words & self._all(mask)) + (self._down(words, bits) & self._all(mask))

    def _down(self, words: Expr, bits: int) -> Expr:
        return T.shift_right(words, self._all(bits))

    def _all(self, value: int) -> Expr:
        return splat(T.uint32(value), self.width)

    def _registers(self) -> range:
        """The first lanes of registers."""
        return range(0, self.at_once, self.width)

    def _zeros(self) -> Expr:
        found = temporary("uint32", self.width)
        write(found, self._all(0), lanes(0, self.width))
        return found
