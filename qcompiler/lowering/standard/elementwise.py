"""Functions of single elements that TVM has no code for, or whose attributes it does not read."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import onnx_ir as ir
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.view import dtype_of, integer, number, shape_of
from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard.skeleton import kernel, loop, operand, refuse
from qcompiler.targets.vector.emit import Expr, write

Function = Callable[[Expr], Expr]
_SUFFIX = {"float32": "f", "float64": ""}


def libm(node: ir.Node) -> StandardCall:
    """A function of the C library that is called as the operator."""
    dtype = dtype_of(node.inputs[0]).name
    if dtype not in _SUFFIX:
        raise refuse(node, f"of {dtype} has no function in libm", "cast the input to float32")
    return _mapped(node, lambda x: T.call_pure_extern(dtype, node.op_type.lower() + _SUFFIX[dtype], x))


def is_inf(node: ir.Node) -> StandardCall:
    """IsInf, of either sign or of one."""
    dtype = dtype_of(node.inputs[0]).name
    if dtype not in _SUFFIX:
        raise refuse(node, f"of {dtype} is not known", "cast the input to float32")
    signs = [sign for sign, name in ((1, "detect_positive"), (-1, "detect_negative")) if integer(node, name, 1)]

    def detected(x: Expr) -> Expr:
        found = T.bool(False)
        for sign in signs:
            found = T.Or(found, x > T.max_value(dtype)) if sign > 0 else T.Or(found, x < T.min_value(dtype))
        return found

    return _mapped(node, detected)


def thresholded_relu(node: ir.Node) -> StandardCall:
    """ThresholdedRelu: a choice, where TVM multiplies infinities by 0."""
    dtype = dtype_of(node.inputs[0]).name
    if dtype not in _SUFFIX:
        raise refuse(node, f"of {dtype} is not known", "cast the input to float32")
    threshold = T.Cast(dtype, T.float32(number(node, "alpha", 1.0)))
    return _mapped(node, lambda x: T.Select(x > threshold, x, T.Cast(dtype, T.float32(0))))


def round_to(node: ir.Node) -> StandardCall:
    """RoundTo: the bits that the type has not are rounded away, half to even; a carry makes the exponent grow.

    Below its smallest normal number, all numbers of float16 are multiples of its smallest one; bfloat16 ends with
    float32.
    """
    half = integer(node, "to", 0) == ir.DataType.FLOAT16.value
    lost = 13 if half else 16

    def rounded(x: Expr) -> Expr:
        bits = T.reinterpret("uint32", x)
        magnitude = bits & _u32(2**31 - 1)
        grown = magnitude + _u32(2 ** (lost - 1) - 1) + (T.shift_right(magnitude, _u32(lost)) & _u32(1))
        result = grown & _u32(2**32 - 2**lost)
        if half:
            small = T.nearbyint(T.reinterpret("float32", magnitude) * T.float32(2.0**24)) * T.float32(2.0**-24)
            result = T.Select(result >= _bits(2.0**16), _bits(np.inf), result)
            result = T.Select(magnitude < _bits(2.0**-14), T.reinterpret("uint32", small), result)
        result = T.Select(magnitude > _bits(np.inf), magnitude, result)
        return T.reinterpret("float32", result | (bits & _u32(2**31)))

    return _mapped(node, rounded)


def _u32(number: int) -> Expr:
    return T.uint32(number)


def _bits(number: float) -> Expr:
    """The bits of a float32."""
    return _u32(int(np.float32(number).view(np.uint32)))


def _mapped(node: ir.Node, function: Function) -> StandardCall:
    """function(x) for every element; an item is a row."""
    x, out = operand(node.inputs[0]), operand(node.outputs[0])
    shape = shape_of(node.outputs[0])
    width = shape[-1] if shape else 1

    def body(buffers: list[Expr], item: Expr) -> None:
        with loop(width) as i:
            write(buffers[1], T.Cast(out.dtype, function(buffers[0][item * width + i])), item * width + i)

    return kernel(node, [x], [out], prod(shape[:-1]), body)
