"""Functions of single elements that TVM has no code for, or whose attributes it does not read."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

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


def _mapped(node: ir.Node, function: Function) -> StandardCall:
    """function(x) for every element; an item is a row."""
    x, out = operand(node.inputs[0]), operand(node.outputs[0])
    shape = shape_of(node.outputs[0])
    width = shape[-1] if shape else 1

    def body(buffers: list[Expr], item: Expr) -> None:
        with loop(width) as i:
            write(buffers[1], T.Cast(out.dtype, function(buffers[0][item * width + i])), item * width + i)

    return kernel(node, [x], [out], prod(shape[:-1]), body)
