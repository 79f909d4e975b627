"""Codes in other places, byte by byte or sixteen at once; one work item is one stored row of one image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.targets.problem import Box, Move2d
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.by_items import ByItems
from qcompiler.targets.vector.emit import Expr, Parameter, fenced, i64, lanes, prim_func, splat, split, write

Offsets = tuple[int, ...]


@dataclass(frozen=True)
class CodeMove2d(ByItems):
    """Copies box by box; see `qcompiler.targets.target.Kernel`."""

    problem: Move2d
    cost: float

    @property
    def name(self) -> str:
        """Family."""
        return "move2d"

    @property
    def items(self) -> int:
        """Rows of all images, those of the halo too."""
        return self.problem.into.n * self.problem.into.height

    @cached_property
    def _tables(self) -> dict[Offsets, int]:
        """Where offsets that are no arithmetic progression start in the table of all of them."""
        starts: dict[Offsets, int] = {}
        end = 0
        for box in self._boxes:
            for offsets in _indexed(box):
                if _progression(offsets) is None and offsets not in starts:
                    starts[offsets] = end
                    end += len(offsets)
        return starts

    @cached_property
    def _boxes(self) -> tuple[Box, ...]:
        """The boxes in stored rows and columns, and those of the halo."""
        into = self.problem.into
        top, left = into.halo.top, into.halo.left
        moved = [
            Box((n, y + top, x + left, c), box.extent, box.source, box.offsets, box.shift)
            for box in self.problem.boxes
            for n, y, x, c in [box.start]
        ]
        sides = [
            (0, 0, top, into.width),
            (top + into.h, 0, into.halo.bottom, into.width),
            (top, 0, into.h, left),
            (top, left + into.w, into.h, into.halo.right),
        ]
        fill = 0 if into.codes is None else into.codes.index(into.halo_value) or 0
        border = [Box((0, y, x, 0), (into.n, h, w, into.c), None, (), fill) for y, x, h, w in sides if h * w]
        return (*moved, *border)

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """int32 offsets."""
        return (np.asarray([offset for table in self._tables for offset in table], np.int32),) if self._tables else ()

    def build(self, name: str) -> Any:
        """The PrimFunc."""
        first, *others = (Parameter(f"x{i}", "uint8", b.nbytes, 1) for i, b in enumerate(self.problem.sources))
        tables = [Parameter("offsets", "int32", sum(map(len, self._tables)), 64)] if self._tables else []
        out = Parameter("out", "uint8", self.problem.into.nbytes, 1)

        def body(buffers: list[Expr], item: Expr) -> None:
            table = buffers[1] if tables else None
            n, y = (T.bind(part) for part in split(item, self.problem.into.height))
            row = _Row([buffers[0], *buffers[1 + len(tables) : -1]], buffers[-1], table, self, n, y)
            for box in self._boxes:
                row.emit(box)
            row.clear_filling()

        return prim_func(name, [first, *tables, *others, out], body)


@dataclass(frozen=True)
class _Row:
    """The code of one stored row y of image n."""

    sources: list[Expr]
    out: Expr
    table: Expr | None
    kernel: CodeMove2d
    n: Expr
    y: Expr

    @property
    def _pixel_bytes(self) -> int:
        return self.kernel.problem.into.words * WORD_BYTES

    def _pixel(self, x: Expr) -> Expr:
        """Where a stored pixel of the row starts."""
        into = self.kernel.problem.into
        return ((self.n * into.height + self.y) * into.width + x) * self._pixel_bytes

    def emit(self, box: Box) -> None:
        """What the row has of a box."""
        into = self.kernel.problem.into
        bounds = [(self.n, box.start[0], box.extent[0], into.n), (self.y, box.start[1], box.extent[1], into.height)]
        inside = [T.And(at >= first, at < first + size) for at, first, size, whole in bounds if size < whole]
        if not inside:
            self._columns(box)
            return
        with T.If(inside[0] if len(inside) == 1 else T.And(*inside)), T.Then():
            self._columns(box)

    def _columns(self, box: Box) -> None:
        with T.serial(i64(0), i64(box.extent[2])) as x:
            target = T.bind(self._pixel(x + box.start[2]) + box.start[3])
            if box.source is None:
                self._fill(box, target, x)
                return
            places = [self.n - box.start[0], self.y - box.start[1], x]
            source = T.bind(sum((self._offset(o, i) for o, i in zip(box.offsets, places, strict=False)), i64(0)))
            self._channels(box, self.sources[box.source], source, target)

    def _channels(self, box: Box, data: Expr, source: Expr, target: Expr) -> None:
        """The channels of a pixel in runs of neighbours, sixteen or four of them at once."""
        offsets = box.offsets[3]
        run = _run(offsets)
        width = _width(run)
        with T.serial(i64(0), i64(len(offsets) // run)) as number:
            start = T.bind(source + self._offset(offsets[::run], number))
            with T.serial(i64(0), i64(-(-run // width))) as part:
                first = T.bind(T.min(part * width, i64(run - width)))
                found = data[lanes(start + first, width)]
                if box.shift:
                    found = found + splat(T.uint8(box.shift % 256), width)
                write(self.out, _hidden(found, width), lanes(target + number * run + first, width))

    def _fill(self, box: Box, target: Expr, x: Expr) -> None:
        count = box.extent[3]
        width = _width(count)
        with T.serial(i64(0), i64(-(-count // width))) as part:
            first = T.bind(T.min(part * width, i64(count - width)))
            found = _number(box.shift, width) if width > 1 else T.uint8(box.shift) + _zero(x + first)
            write(self.out, found, lanes(target + first, width))

    def clear_filling(self) -> None:
        """What fills the last word of every pixel."""
        into = self.kernel.problem.into
        if self._pixel_bytes > into.c:
            with T.serial(i64(0), i64(into.width)) as x, T.serial(i64(into.c), i64(self._pixel_bytes)) as c:
                write(self.out, _zero(x + c), self._pixel(x) + c)

    def _offset(self, offsets: Offsets, index: Expr) -> Expr:
        found = _progression(offsets)
        if found is not None:
            return i64(found[0]) + index * found[1]
        assert self.table is not None
        return i64(self.table[i64(self.kernel._tables[offsets]) + index])


def _progression(offsets: Offsets) -> tuple[int, int] | None:
    """First and step of an arithmetic progression; None for others."""
    step = offsets[1] - offsets[0] if len(offsets) > 1 else 0
    even = all(offset == offsets[0] + i * step for i, offset in enumerate(offsets))
    return (offsets[0], step) if even else None


def _run(offsets: Offsets) -> int:
    """The longest equal runs of neighbours that offsets fall into."""
    sizes = (size for size in range(len(offsets), 1, -1) if len(offsets) % size == 0)
    whole = (size for size in sizes if all(b - a == 1 for i, (a, b) in enumerate(pairwise(offsets), 1) if i % size))
    return next(whole, 1)


def _indexed(box: Box) -> tuple[Offsets, ...]:
    """The offsets that are looked up: those of channels once per run."""
    return (*box.offsets[:3], box.offsets[3][:: _run(box.offsets[3])]) if box.offsets else ()


def _width(count: int) -> int:
    """How many bytes are copied at once."""
    return next(width for width in (16, 4, 1) if width <= count)


def _hidden(found: Expr, width: int) -> Expr:
    """Bytes of which no loop can be recognised as a copy, which would become a call of memcpy."""
    if width == 1:
        bits = fenced(T.reinterpret("float32", T.Cast("uint32", found)), 1)
        return T.Cast("uint8", T.reinterpret("uint32", bits))
    words = width // WORD_BYTES
    held = fenced(T.reinterpret("float32" if words == 1 else f"float32x{words}", found), words)
    return T.reinterpret(f"uint8x{width}", held)


def _number(number: int, width: int) -> Expr:
    """A constant in several bytes, which the optimiser does not know."""
    return T.Cast(f"uint8x{width}", T.Cast(f"int32x{width}", fenced(splat(T.float32(number), width), width)))


def _zero(number: Expr) -> Expr:
    """uint8 0, which depends on a number below 2^24 as far as the optimiser knows: no loop becomes a memset."""
    held = T.Cast("uint32", T.Cast("int32", fenced(T.Cast("float32", T.Cast("int32", number)), 1)))
    return T.Cast("uint8", T.shift_right(held, T.uint32(31)))
