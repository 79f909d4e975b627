"""TopK and CumSum: operators that go along one axis; an item is one column, all others along that axis are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.view import integer, shape_of
from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard.skeleton import fixed, kernel, loop, operand, refuse, variable, when
from qcompiler.targets.vector.emit import Expr, i64, split, write


@dataclass(frozen=True)
class Columns:
    """The columns of a dense array along an axis: `count` of them, `inner` elements between neighbours."""

    count: int
    extent: int
    inner: int

    def start(self, item: Expr, extent: int = 0) -> Expr:
        """Offset of the first element of a column, in an array whose axis has `extent` elements (0: this one's)."""
        outer, position = split(item, self.inner)
        return outer * ((extent or self.extent) * self.inner) + position


def columns(shape: Sequence[int], axis: int) -> Columns:
    """The columns of an array of `shape`."""
    inner = prod(shape[axis + 1 :])
    return Columns(prod(shape[:axis]) * inner, shape[axis], inner)


def top_k(node: ir.Node) -> StandardCall:
    """The largest or smallest elements in order; of equal ones the first comes first."""
    x = node.inputs[0]
    axis = integer(node, "axis", -1) % len(shape_of(x))
    number = fixed(node, 1, "K")
    k = shape_of(node.outputs[0])[axis] if number is None else int(number.reshape(-1)[0])
    if k > 1 and not integer(node, "sorted", 1):
        raise refuse(node, "leaves the order of its results open (sorted = 0)", "set sorted to 1")
    lines, largest = columns(shape_of(x), axis), bool(integer(node, "largest", 1))

    def body(buffers: list[Expr], item: Expr) -> None:
        source, values, places = buffers
        first, start = lines.start(item), lines.start(item, k)

        def slot(rank: Expr) -> Expr:
            return start + rank * lines.inner

        def insert(position: Expr, value: Expr) -> None:
            """Move what is worse than `value` one place down, and put it there."""
            rank = variable("int64", T.min(position, i64(k - 1)))
            above = slot(T.max(rank[0] - 1, i64(0)))
            with T.While(T.And(rank[0] > 0, _better(value, values[above], largest))):
                write(values, values[above], slot(rank[0]))
                write(places, places[above], slot(rank[0]))
                write(rank, rank[0] - 1, i64(0))
            write(values, value, slot(rank[0]))
            write(places, position, slot(rank[0]))

        with loop(lines.extent) as position:
            value = T.bind(source[first + position * lines.inner])
            worst = values[slot(i64(k - 1))]
            when(T.Or(position < k, _better(value, worst, largest)), lambda: insert(position, value))

    return kernel(node, [operand(x)], [operand(value) for value in node.outputs], lines.count, body)


def _better(a: Expr, b: Expr, largest: bool) -> Expr:
    return a > b if largest else a < b


def cum_sum(node: ir.Node) -> StandardCall:
    """Running sums, rounded in the order in which they run."""
    x, out = node.inputs[0], node.outputs[0]
    axis = fixed(node, 1, "axis")
    assert axis is not None, "the axis is a mandatory input"
    lines = columns(shape_of(x), int(axis.reshape(-1)[0]) % len(shape_of(x)))
    exclusive, reverse = integer(node, "exclusive", 0), integer(node, "reverse", 0)

    def body(buffers: list[Expr], item: Expr) -> None:
        source, target = buffers
        total = variable(target.dtype, T.Cast(target.dtype, i64(0)))
        with loop(lines.extent) as number:
            position = i64(lines.extent - 1) - number if reverse else number
            at = lines.start(item) + position * lines.inner
            if exclusive:
                write(target, total[0], at)
            write(total, total[0] + source[at], i64(0))
            if not exclusive:
                write(target, total[0], at)

    return kernel(node, [operand(x)], [operand(out)], lines.count, body)


def one_hot(node: ir.Node) -> StandardCall:
    """`on` where the class is the index, counted from the end where it is negative; indices beyond hit no class.

    An item is a column of classes.
    """
    indices, values, out = node.inputs[0], node.inputs[2], node.outputs[0]
    axis = integer(node, "axis", -1) % len(shape_of(out))
    lines = columns(shape_of(out), axis)

    def body(buffers: list[Expr], item: Expr) -> None:
        index, choice, target = buffers
        raw = T.bind(i64(index[item]))
        at = T.bind(T.Select(raw < i64(0), raw + i64(lines.extent), raw))
        with loop(lines.extent) as number:
            write(
                target, T.Select(at == number, choice[i64(1)], choice[i64(0)]), lines.start(item) + number * lines.inner
            )

    return kernel(node, [operand(indices), operand(values)], [operand(out)], lines.count, body)
