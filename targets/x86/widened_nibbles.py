"""Lookups of four inputs where registers hold tables side by side, and sums in bytes, which are widened."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.storage import TABLE_INPUTS
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.emit import LANES, Expr, lanes, splat, temporary, write
from qcompiler.targets.vector.nibble_reduction import BYTES, ENTRIES, largest_digit, vectors_of, worths_of
from qcompiler.targets.x86.nibble_sums import NibbleSums
from qcompiler.targets.x86.table_lookups import SHUFFLES, looked_up


@dataclass
class _Bytes:
    """Found bytes added up per kind, a digit in a plane of weights, in wide lanes.

    Every second or fourth byte has a part of its own.

    width: bytes of a vector. size: bytes of a lane. waiting: not yet added.
    """

    width: int
    size: int
    parts: list[list[Expr]]
    waiting: list[list[Expr]]

    @classmethod
    def from_zero(cls, width: int, size: int, kinds: int) -> _Bytes:
        """Nothing is added yet."""
        count, dtype = width // size, f"uint{8 * size}"
        parts = [[temporary(dtype, count) for _ in range(size)] for _ in range(kinds)]
        for part in (part for each in parts for part in each):
            write(part, splat(_number(size, 0), count), lanes(0, count))
        return cls(width, size, parts, [[] for _ in range(kinds)])

    def add(self, found: Expr, kind: int, most: int) -> None:
        """Add bytes, and widen them as soon as there are `most` of them."""
        self.waiting[kind].append(found)
        if len(self.waiting[kind]) == most:
            self.widen(kind)

    def widen(self, kind: int) -> None:
        """Add the bytes that wait to the wide lanes."""
        if not self.waiting[kind]:
            return
        total, count = self.waiting[kind][0], self.width // self.size
        for found in self.waiting[kind][1:]:
            total = total + found
        self.waiting[kind].clear()
        wide = T.bind(T.reinterpret(f"uint{8 * self.size}x{count}", total))
        low = splat(_number(self.size, 0xFF), count)
        for place, part in enumerate(self.parts[kind]):
            moved = T.shift_right(wide, splat(_number(self.size, 8 * place), count)) if place else wide
            write(part, part[lanes(0, count)] + (moved & low if place < self.size - 1 else moved), lanes(0, count))

    def channels(self, kind: int) -> Expr:
        """The sums of sixteen channels, int32x16, over all tables of a vector."""
        found = [self._over_tables(part) for part in self.parts[kind]]
        per_part = LANES // self.size
        return T.bind(T.Shuffle(found, [lane % self.size * per_part + lane // self.size for lane in range(LANES)]))

    def _over_tables(self, part: Expr) -> Expr:
        """The sums of the channels of a part, int32."""
        held, count = T.bind(part[lanes(0, self.width // self.size)]), LANES // self.size
        total = None
        for first in range(0, self.width // self.size, count):
            one = held if self.width == LANES else T.Shuffle([held], list(range(first, first + count)))
            wide = T.Cast(f"int32x{count}", one)
            total = wide if total is None else total + wide
        return T.bind(total)


def _number(size: int, value: int) -> Expr:
    return T.uint16(value) if size == 2 else T.uint32(value)


def lane_bytes(problem: Conv2d, width: int) -> int:
    """Of the lanes that hold the sums of all lookups by vectors of `width` bytes: 2, or 4."""
    largest = prod(problem.kernel) * vectors_of(problem) * TABLE_INPUTS * largest_digit(problem)
    return 2 if largest * (BYTES // width) < 2**16 else 4


@dataclass(frozen=True)
class WidenedNibbles(NibbleSums):
    """Shuffles of bytes (AVX-512BW, AVX2) or masks (SSE2), and sums in bytes, which are widened to 16 bits or 32.

    width: bytes of a vector, the sixteen channels of one, two or four tables. apart: whether each index has a byte.
    """

    width: int
    apart: bool = False

    @property
    def per_byte(self) -> int:
        """Indices that a byte holds."""
        return 1 if self.apart else 2

    def total(self, problem: Conv2d) -> _Bytes:
        """Of all planes."""
        return _Bytes.from_zero(self.width, lane_bytes(problem, self.width), len(worths_of(problem)))

    def index(self, weights: Expr, at: Expr, place: int) -> list[Any]:
        """What is kept of the bits, vector by vector."""
        found = []
        for first in range(0, BYTES, self.width):
            held = weights[lanes(at + first, self.width)]
            if place:
                held = T.shift_right(held, splat(T.uint8(TABLE_INPUTS), self.width))
            if not self.apart:
                held = held & splat(T.uint8(ENTRIES - 1), self.width)
            found.append(self._kept(T.bind(held)))
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

    def add(self, total: _Bytes, tables: list[Any], indices: list[Any], kind: int, problem: Conv2d) -> None:
        """A shuffle and an addition for every vector."""
        for held, bits in zip(chain.from_iterable(tables), chain.from_iterable(indices), strict=True):
            total.add(T.bind(self._found(held, bits)), kind, _most(problem))

    def _found(self, table: Any, index: Any) -> Expr:
        if self.width not in SHUFFLES:
            first, *others = table
            for other, mask in zip(others, index, strict=True):
                first = first + (other & mask)
            return first
        return looked_up(SHUFFLES[self.width], self.width, table, index)

    def settle(self, total: _Bytes) -> None:
        """Widen what waits."""
        for kind in range(len(total.parts)):
            total.widen(kind)

    def channels(self, total: _Bytes, problem: Conv2d) -> Expr:
        """Of all planes, times what they are worth."""
        found = None
        for kind, factor in enumerate(worths_of(problem)):
            worth = total.channels(kind) * splat(T.int32(factor))
            found = worth if found is None else found + worth
        return found


def _most(problem: Conv2d) -> int:
    """Found bytes whose sum a byte holds."""
    return 255 // (TABLE_INPUTS * largest_digit(problem))
