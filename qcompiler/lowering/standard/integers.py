"""Arithmetic on integers whose outcome hangs on the data: division by zero is a fault, the rest has one meaning.

The smallest integer divided by -1 wraps around, and bits that are shifted beyond a number are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import onnx_ir as ir
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.program import Fault
from qcompiler.ir.view import dtype_of, integer, shape_of, text
from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard.skeleton import digits, fail, kernel, loop, operand, strides_of, when
from qcompiler.targets.vector.emit import Expr, i64, write

Put = Callable[[Expr], None]
# combine(a, b, dtype, put): put the result for two elements of an element type. Cases are branches: a division in an
# expression that selects would be computed in either case, and the processor traps on some.
Combine = Callable[[Expr, Expr, str, Put], None]


def divide(node: ir.Node) -> StandardCall | None:
    """Div of integers, rounded towards zero."""
    if not _whole(node):
        return None
    return _pairwise(node, _quotient, by_zero=Fault.DIVISION)


def modulo(node: ir.Node) -> StandardCall | None:
    """Mod: of integers with the sign of the divisor, or with that of the dividend (fmod), which floats always take."""
    if not _whole(node):
        return _pairwise(node, _float_remainder)
    return _pairwise(node, _remainder if integer(node, "fmod", 0) else _floor_remainder, by_zero=Fault.DIVISION)


def shift(node: ir.Node) -> StandardCall:
    """BitShift."""
    left = text(node, "direction", "") == "LEFT"

    def shifted(a: Expr, b: Expr, dtype: str, put: Put) -> None:
        moved = T.shift_left(a, b) if left else T.shift_right(a, b)
        within = T.And(i64(b) >= i64(0), i64(b) < i64(np.iinfo(dtype).bits))
        when(within, lambda: put(moved), lambda: put(T.Cast(dtype, i64(0))))

    return _pairwise(node, shifted)


def power(node: ir.Node) -> StandardCall | None:
    """Pow with an integer on either side, by way of float64, as onnxruntime does it."""
    if all(dtype_of(value).kind == "f" for value in node.inputs[:2]):
        return None
    return _pairwise(node, lambda a, b, _, put: put(T.pow(T.Cast("float64", a), T.Cast("float64", b))))


# TVM's simplifier takes unsigned divisions apart with negative numbers; only for the widest there is no wider type
_SAFE = {"uint8": "int32", "uint16": "int32", "uint32": "int64", "uint64": "uint64"}


def _whole(node: ir.Node) -> bool:
    return dtype_of(node.inputs[0]).kind in "iu"


def _quotient(a: Expr, b: Expr, dtype: str, put: Put) -> None:
    if dtype.startswith("uint"):
        put(T.truncdiv(T.Cast(_SAFE[dtype], a), T.Cast(_SAFE[dtype], b)))
        return
    unsigned = f"u{dtype}"
    negated = T.Cast(dtype, T.Cast(unsigned, T.bitwise_not(a)) + T.Cast(unsigned, i64(1)))
    when(b == T.Cast(dtype, i64(-1)), lambda: put(negated), lambda: put(T.truncdiv(a, b)))


def _remainder(a: Expr, b: Expr, dtype: str, put: Put) -> None:
    if dtype.startswith("uint"):
        put(T.truncmod(T.Cast(_SAFE[dtype], a), T.Cast(_SAFE[dtype], b)))
        return
    when(b == T.Cast(dtype, i64(-1)), lambda: put(T.Cast(dtype, i64(0))), lambda: put(T.truncmod(a, b)))


def _floor_remainder(a: Expr, b: Expr, dtype: str, put: Put) -> None:
    def with_sign_of_divisor(rest: Expr) -> None:
        rest, zero = T.bind(rest), T.Cast(dtype, i64(0))
        across = T.Or(T.And(rest < zero, b > zero), T.And(rest > zero, b < zero))
        put(T.Select(across, rest + b, rest))

    _remainder(a, b, dtype, put if dtype.startswith("uint") else with_sign_of_divisor)


def _float_remainder(a: Expr, b: Expr, dtype: str, put: Put) -> None:
    put(T.call_pure_extern(dtype, "fmod" if dtype == "float64" else "fmodf", a, b))


def _pairwise(node: ir.Node, combine: Combine, by_zero: Fault | None = None) -> StandardCall:
    """combine(a, b) for all elements, broadcast; an item is a row of the output."""
    shape = shape_of(node.outputs[0])
    reads = [operand(value) for value in node.inputs[:2]]
    steps = [_broadcast_strides(shape_of(value), shape) for value in node.inputs[:2]]

    def body(buffers: list[Expr], item: Expr) -> None:
        target = buffers[2]
        row = digits(item, shape[:-1])
        with loop(shape[-1] if shape else 1) as last:
            position = [*row, last] if shape else []
            offsets = [sum((d * s for d, s in zip(position, step, strict=True)), i64(0)) for step in steps]
            a, b = (T.bind(buffer[offset]) for buffer, offset in zip(buffers[:2], offsets, strict=True))
            at = item * (shape[-1] if shape else 1) + last

            def run() -> None:
                combine(a, b, reads[0].dtype, lambda value: write(target, T.Cast(target.dtype, value), at))

            if by_zero is None:
                run()
            else:
                when(i64(b) == i64(0), lambda: fail(buffers[3], by_zero), run)

    faults = [] if by_zero is None else [by_zero]
    return kernel(node, reads, [operand(node.outputs[0])], prod(shape[:-1]), body, faults=faults)


def _broadcast_strides(shape: Sequence[int], full: Sequence[int]) -> list[int]:
    """Elements between neighbours along each axis of `full`; 0 where the operand is repeated."""
    padded = [1] * (len(full) - len(shape)) + list(shape)
    return [0 if extent == 1 else stride for extent, stride in zip(padded, strides_of(padded), strict=True)]
