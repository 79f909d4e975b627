"""Lookups of four inputs where registers hold tables side by side, and sums in bytes, which are widened to 16 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.storage import TABLE_INPUTS
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.byte_sums import codes_of
from qcompiler.targets.vector.emit import LANES, Expr, i64, lanes, splat, temporary, write
from qcompiler.targets.vector.nibble_reduction import BYTES, ENTRIES, planes_of
from qcompiler.targets.x86.nibble_sums import NibbleSums
from qcompiler.targets.x86.table_lookups import SHUFFLES, looked_up


@dataclass
class _Bytes:
    """Found bytes added up per plane of weights, in 16 bits: of even lanes, and of odd ones. waiting: not yet added."""

    width: int
    halves: list[list[Expr]]
    waiting: list[list[Expr]]

    @classmethod
    def from_zero(cls, width: int, planes: int) -> _Bytes:
        """Nothing is added yet."""
        halves = [[temporary("uint16", width // 2) for _ in range(2)] for _ in range(planes)]
        for half in (half for pair in halves for half in pair):
            write(half, splat(T.uint16(0), width // 2), lanes(0, width // 2))
        return cls(width, halves, [[] for _ in range(planes)])

    def add(self, found: Expr, plane: int, most: int) -> None:
        """Add bytes, and widen them as soon as there are `most` of them."""
        self.waiting[plane].append(found)
        if len(self.waiting[plane]) == most:
            self.widen(plane)

    def widen(self, plane: int) -> None:
        """Add the bytes that wait to 16 bits."""
        if not self.waiting[plane]:
            return
        total, count = self.waiting[plane][0], self.width // 2
        for found in self.waiting[plane][1:]:
            total = total + found
        self.waiting[plane].clear()
        pairs = T.bind(T.reinterpret(f"uint16x{count}", total))
        parts = pairs & splat(T.uint16(0xFF), count), T.shift_right(pairs, splat(T.uint16(8), count))
        for half, part in zip(self.halves[plane], parts, strict=True):
            write(half, half[lanes(0, count)] + part, lanes(0, count))

    def channels(self, plane: int) -> Expr:
        """The sums of sixteen channels, int32x16, over all tables of a vector."""
        even, odd = (self._over_tables(half) for half in self.halves[plane])
        return T.bind(T.Shuffle([even, odd], [lane // 2 + lane % 2 * (LANES // 2) for lane in range(LANES)]))

    def _over_tables(self, half: Expr) -> Expr:
        """The sums of eight channels, int32x8."""
        held, count = T.bind(half[lanes(0, self.width // 2)]), LANES // 2
        total = None
        for first in range(0, self.width // 2, count):
            part = held if self.width == LANES else T.Shuffle([held], list(range(first, first + count)))
            wide = T.Cast(f"int32x{count}", part)
            total = wide if total is None else total + wide
        return T.bind(total)


@dataclass(frozen=True)
class WidenedNibbles(NibbleSums):
    """Shuffles of bytes (AVX-512BW, AVX2) or masks (SSE2), and sums in bytes, which are widened to 16 bits.

    width: bytes of a vector, the sixteen channels of one, two or four tables.
    """

    width: int

    def total(self, problem: Conv2d) -> _Bytes:
        """Of all planes."""
        return _Bytes.from_zero(self.width, len(planes_of(problem).factors))

    def inputs_total(self) -> _Bytes:
        """Of one plane."""
        return _Bytes.from_zero(self.width, 1)

    def index(self, weights: Expr, at: Expr, half: int) -> list[Any]:
        """What is kept of the bits, vector by vector."""
        found = []
        for first in range(0, BYTES, self.width):
            held = weights[lanes(at + first, self.width)]
            if half:
                held = T.shift_right(held, splat(T.uint8(TABLE_INPUTS), self.width))
            found.append(self._kept(T.bind(held & splat(T.uint8(ENTRIES - 1), self.width))))
        return found

    def _kept(self, index: Expr) -> Any:
        if self.width in SHUFFLES:
            return index
        ones = [T.shift_right(index, splat(T.uint8(k), self.width)) & splat(T.uint8(1), self.width) for k in range(4)]
        return [T.bind(splat(T.uint8(0), self.width) - one) for one in ones]

    def table(self, data: Expr, at: Expr) -> list[Any]:
        """What is kept of the tables, vector by vector."""
        words = self.width // 4
        return [self._held(data, at + first) for first in range(0, LANES, words)]

    def _held(self, data: Expr, at: Expr) -> Any:
        table = T.bind(T.reinterpret(f"uint8x{self.width}", data[lanes(at, self.width // 4)]))
        if self.width in SHUFFLES:
            return table
        entries = [T.bind(T.Shuffle([table], [entry] * self.width)) for entry in (0, 1, 2, 4, 8)]
        return [entries[0], *(T.bind(entry - entries[0]) for entry in entries[1:])]

    def add(self, total: _Bytes, table: list[Any], index: list[Any], plane: int, problem: Conv2d) -> None:
        """A shuffle and an addition for every vector."""
        for held, bits in zip(table, index, strict=True):
            total.add(T.bind(self._found(held, bits)), plane, _most(problem))

    def _found(self, table: Any, index: Any) -> Expr:
        if self.width not in SHUFFLES:
            first, *others = table
            for other, mask in zip(others, index, strict=True):
                first = first + (other & mask)
            return first
        return looked_up(SHUFFLES[self.width], self.width, table, index)

    def settle(self, total: _Bytes) -> None:
        """Widen what waits."""
        for plane in range(len(total.halves)):
            total.widen(plane)

    def add_inputs(self, total: _Bytes, table: list[Any], problem: Conv2d) -> None:
        """The first entry of every table."""
        for held in table:
            first = held if self.width in SHUFFLES else held[0]
            total.add(T.bind(first & self._first()), 0, _most(problem))

    def _first(self) -> Expr:
        """All bits of the first byte of every table."""
        zero, ones = splat(T.uint8(0), self.width), splat(T.uint8(0xFF), self.width)
        return T.Shuffle([zero, ones], [0 if byte % ENTRIES else self.width for byte in range(self.width)])

    def channels(self, total: _Bytes, problem: Conv2d) -> Expr:
        """Of all planes, times what they are worth."""
        found = None
        for plane, factor in enumerate(planes_of(problem).factors):
            worth = total.channels(plane) * splat(T.int32(factor))
            found = worth if found is None else found + worth
        return found

    def inputs_sum(self, total: _Bytes) -> Expr:
        """Of the first channel, which is all that is not 0."""
        made = temporary("int32")
        write(made, total.channels(0), lanes(0))
        return made[i64(0)]


def _most(problem: Conv2d) -> int:
    """Found bytes whose sum a byte holds."""
    return 255 // (TABLE_INPUTS * (codes_of(problem).levels - 1))
