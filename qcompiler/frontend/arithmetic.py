"""Arithmetic that code generation lacks or rounds badly, by operators that it has."""

from __future__ import annotations

import math

import numpy as np
import onnx

from qcompiler.errors import UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label

_T = onnx.TensorProto
_REALS = (_T.FLOAT, _T.DOUBLE)


def power(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Pow whose exponent is of another type than its base, which the result has.

    A constant exponent is converted; any other power is taken in float64, as onnxruntime does.
    """
    base, exponent = node.input[:2]
    kind = emitter.element_type(base)
    if emitter.element_type(exponent) == kind:
        emitter.place(node)
        return
    value = emitter.constant_value(exponent)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    if value is not None and np.array_equal(value.astype(dtype).astype(value.dtype), value):
        node.input[1] = emitter.constant(value.astype(dtype), "exponent", dtype)
        emitter.place(node)
        return
    wide = [emitter.op("Cast", [name], to=_T.DOUBLE) for name in (base, exponent)]
    emitter.op("Cast", [emitter.op("Pow", wide)], node.output, to=kind)


def softplus(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """log(1 + exp(x)) = max(x, 0) + log(1 + u) with u = exp(-|x|), whose digits 1 + u would lose.

    log(1 + u) = 2 artanh(s) = 2 s (1 + s^2/3 + s^4/5 + ...) with s = u / (2 + u) <= 1/3, so each term is less than a
    ninth of the one before.
    """
    x = node.input[0]
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(emitter.element_type(x)))

    def constant(value: float) -> str:
        return emitter.constant(value, "constant", dtype)

    u = emitter.op("Exp", [emitter.op("Neg", [emitter.op("Abs", [x])])])
    s = emitter.op("Div", [u, emitter.op("Add", [u, constant(2)])])
    square = emitter.op("Mul", [s, s])
    terms = math.ceil(math.log(np.finfo(dtype).eps) / math.log(1 / 9)) + 1
    series = constant(2 / (2 * terms - 1))
    for index in range(terms - 2, -1, -1):
        series = emitter.op("Add", [emitter.op("Mul", [series, square]), constant(2 / (2 * index + 1))])
    emitter.op("Add", [emitter.op("Max", [x, constant(0)]), emitter.op("Mul", [s, series])], node.output)


def modulo(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Mod of floats with the divisor's sign, of opset 28: C's remainder, and a divisor more where the signs differ."""
    kind = emitter.element_type(node.input[0])
    if attributes.integer(node, "fmod", 0) or kind not in _REALS:
        emitter.place(node)
        return
    zero = emitter.constant(0, "zero", onnx.helper.tensor_dtype_to_np_dtype(kind))
    rest = emitter.op("Mod", node.input, fmod=1)
    negative = [emitter.op("Less", [name, zero]) for name in (rest, node.input[1])]
    whole = emitter.op("Equal", [rest, zero])
    moves = emitter.op("And", [emitter.op("Xor", negative), emitter.op("Not", [whole])])
    emitter.op("Where", [moves, emitter.op("Add", [rest, node.input[1]]), rest], node.output)


def lp_normalization(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Each row over its norm along an axis; a row of norm 0 stays 0."""
    x = node.input[0]
    order = attributes.integer(node, "p", 2)
    if order not in (1, 2):
        raise UnsupportedModel(f"LpNormalization of order {order}", node=label(node), remedy="use the order 1 or 2")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(emitter.element_type(x))
    axis = emitter.constant([attributes.integer(node, "axis", -1)], "axis", np.int64)
    norm = emitter.op(f"ReduceL{order}", [x, axis])
    zero, one = (emitter.constant(value, "constant", dtype) for value in (0, 1))
    emitter.op("Div", [x, emitter.op("Where", [emitter.op("Equal", [norm, zero]), one, norm])], node.output)
