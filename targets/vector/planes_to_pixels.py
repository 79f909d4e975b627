"""From bit planes, whose words lie pixel after pixel, to those by pixels, whose pixels lie word after word."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets.problem import Map2d, Problem, outputs_of
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.by_items import ByItems
from qcompiler.targets.vector.emit import (
    LANES,
    Expr,
    Parameter,
    View,
    fenced,
    i64,
    lanes,
    opaque,
    prim_func,
    split,
    write,
)

# words of a pixel up to which sixteen pixels are loaded as they lie, and shuffled
_SHUFFLED = 4


def becomes_pixels(problem: Problem) -> bool:
    """Whether a map does nothing but that."""
    if not isinstance(problem, Map2d) or not problem.x.in_planes or len(problem.epilogue) != 1:
        return False
    (into,) = outputs_of(problem)
    return into.by_pixels and into.element == problem.x.element and into.groups == problem.x.groups == 1


@dataclass(frozen=True)
class PlanesToPixels2d(ByItems):
    """Words in other places; see `qcompiler.targets.target.Kernel`. One item is a stored row, of the halo too."""

    problem: Map2d
    cost: float

    @property
    def name(self) -> str:
        """Family."""
        return "map2d_pixels"

    @property
    def _buffers(self) -> tuple[Buffer, Buffer]:
        """What is read and written; images without halos are single rows."""
        x, (into,) = self.problem.x, outputs_of(self.problem)
        if x.halo != Halo() or into.halo != Halo():
            return x, into
        return replace(x, h=1, w=x.h * x.w), replace(into, h=1, w=x.h * x.w)

    @property
    def items(self) -> int:
        """Stored rows of all images."""
        _, into = self._buffers
        return into.n * into.height

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """Nothing."""
        return ()

    def build(self, name: str) -> Any:
        """The PrimFunc."""
        x, into = self._buffers

        def body(buffers: list[Expr], item: Expr) -> None:
            source, target = View(x, buffers[0], x.words), View(into, buffers[1], 1)
            n, stored = (T.bind(part) for part in split(item, into.height))
            y = T.bind(stored - into.halo.top)
            if into.halo.top + into.halo.bottom == 0:
                _row(source, target, n, y)
                return
            with T.If(T.And(y >= 0, y < into.h)):
                with T.Then():
                    _row(source, target, n, y)
                with T.Else():
                    _border(target, n, y, -into.halo.left, into.width)

        parameters = [Parameter(key, "uint32", buffer.nbytes // 4, 4) for key, buffer in (("x", x), ("out", into))]
        return prim_func(name, parameters, body)


def _row(source: View, target: View, n: Expr, y: Expr) -> None:
    """A row of pixels, and those left and right of it."""
    into = target.buffer
    _border(target, n, y, -into.halo.left, into.halo.left)
    _border(target, n, y, into.w, into.halo.right)
    if into.w < LANES:
        with T.serial(i64(0), i64(into.words)) as word, T.serial(i64(0), i64(into.w)) as x:
            found = source.data[source.offset(n, y, x, word)]
            write(target.data, _hidden(found, 1), target.offset(n, y, x, word))
        return
    with T.serial(i64(0), i64(-(-into.w // LANES))) as tile:
        x = T.bind(T.min(tile * LANES, i64(into.w - LANES)))
        if into.words <= _SHUFFLED:
            first = T.bind(source.offset(n, y, x, i64(0)))
            held = [T.bind(source.data[lanes(first + i * LANES)]) for i in range(into.words)]
            for word in range(into.words):
                order = range(word, into.words * LANES, into.words)
                found = held[0] if into.words == 1 else T.Shuffle(held, list(order))
                write(target.data, _hidden(found, LANES), lanes(target.offset(n, y, x, i64(word))))
            return
        with T.serial(i64(0), i64(into.words)) as word:
            places = T.ramp(source.offset(n, y, x, word), T.int64(into.words), LANES)
            write(target.data, _hidden(source.data[places], LANES), lanes(target.offset(n, y, x, word)))


def _border(target: View, n: Expr, y: Expr, x: int, columns: int) -> None:
    """Set pixels of a row to the code of the halo, whose words are 0 beyond the last channel."""
    into = target.buffer
    if not columns or into.codes is None:
        return
    index, rest = into.codes.index(into.halo_value) or 0, into.c % WORD_BITS
    for plane in range(into.planes):
        # unknown to the optimiser, which would set memory by a call of memset
        bits = T.bind(T.Cast("uint32", 0 - opaque(index >> plane & 1)))
        with T.serial(i64(0), i64(into.group_words)) as word, T.serial(i64(0), i64(columns)) as column:
            value = bits
            if rest:
                value = T.Select(word == into.group_words - 1, bits & T.uint32((1 << rest) - 1), bits)
            write(target.data, value, target.offset(n, y, column + x, word * into.planes + plane))


def _hidden(found: Expr, count: int) -> Expr:
    """Words that no loop can be recognised to copy, which would become a call of memcpy."""
    dtype, words = ("float32", "uint32") if count == 1 else (f"float32x{count}", f"uint32x{count}")
    return T.reinterpret(words, fenced(T.reinterpret(dtype, found), count))
