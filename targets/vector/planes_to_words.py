"""Elementwise chains from planes of few channels to codes in bytes: sixteen pixels of a row at a time.

The other maps hold sixteen channels of a pixel, of which an image has three at its input. Here the lanes are pixels:
every plane goes through the chain on its own, and the numbers of its codes take their byte in the word of each pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.targets.problem import Map2d, Operation, Scalar, outputs_of, tensors_of
from qcompiler.targets.vector.emit import (
    LANES,
    Expr,
    View,
    fenced,
    float_view,
    i64,
    lanes,
    splat,
    split,
    temporary,
    write,
)
from qcompiler.targets.vector.epilogue import BoundEpilogue, apply_operation, numbers_of, scalar_lanes
from qcompiler.targets.vector.landing import landing
from qcompiler.targets.vector.rows import RowKernel


def fits_words(problem: Map2d) -> bool:
    """Whether planes become one word of codes a pixel, and nothing else is read or written."""
    x, outputs = problem.x, outputs_of(problem)
    if x.packed or x.w < LANES or x.c > WORD_BYTES or not (x.order == "nchw" or x.c == 1) or tensors_of(problem):
        return False
    stored = [operation.op for operation in problem.epilogue if operation.into is not None]
    into = outputs[-1]
    return stored == ["store_codes"] == [problem.epilogue[-1].op] and into.in_bytes and into.groups == 1


@dataclass(frozen=True)
class PlanesToWords2d(RowKernel):
    """Few planes in, words of codes out; see `qcompiler.targets.target.Kernel`."""

    problem: Map2d

    @property
    def name(self) -> str:
        """Family."""
        return "map2d_words"

    @property
    def items(self) -> int:
        """Rows of all images."""
        return self.problem.x.n * self.problem.x.h

    def emit_item(self, x: Expr, epilogue: BoundEpilogue, item: Expr) -> None:
        """One row with its share of the halo."""
        image, target = self.problem.x, epilogue.targets[-1]
        assert target is not None
        view = float_view(image, x)
        n, y = (T.bind(part) for part in split(item, image.h))
        epilogue.emit_halos(n, y, i64(0), image.h)
        with T.serial(i64(0), i64(-(-image.w // LANES))) as tile:
            x0 = T.bind(T.min(tile * LANES, i64(image.w - LANES)))
            words = None
            for channel in range(image.c):
                # a place in memory: TVM's analyzer replaces variables by what they are bound to
                numbers = temporary("int32")
                write(numbers, self._numbers(view, epilogue, (n, y, x0), channel), lanes(0))
                number = T.Cast("uint32x16", numbers[lanes(0)])
                held = T.shift_left(number, splat(T.uint32(8 * channel))) if channel else number
                words = T.bind(held if words is None else words | held)
            write(target.data, words, lanes(target.offset(n, y, x0, i64(0))))

    def _numbers(self, view: View, epilogue: BoundEpilogue, pixel: tuple[Expr, Expr, Expr], channel: int) -> Expr:
        """The numbers of the codes of sixteen pixels of a plane, int32x16."""
        codes, end = outputs_of(self.problem)[-1].codes, landing(epilogue.operations)
        assert codes is not None
        v = T.bind(fenced(view.data[lanes(view.offset(*pixel, i64(channel)))]))
        before = epilogue.operations[:-1] if end is None else end.before
        for operation, operand in zip(before, epilogue.operands, strict=False):
            v = T.bind(apply_operation(operation.op, v, _given(operation, operand, channel)))
        return numbers_of(codes, v) if end is None else end.indices(v)


def _given(operation: Operation, operand: Expr | View | None, channel: int) -> Expr | None:
    """The operand of an operation on a plane as float32x16, if it has one."""
    if isinstance(operation.operand, Scalar):
        return scalar_lanes(operation.operand)
    return None if operand is None or isinstance(operand, View) else splat(operand[i64(channel)])
