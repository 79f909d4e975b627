"""Multiply-adds of layers, whatever computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import onnx_ir as ir

from qcompiler.ir.ops import ROUNDED
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import integer, is_op, is_quantized_op, static_shape

Shape = tuple[int, ...]


def macs_of(node: ir.Node) -> int:
    """Multiply-adds of one run of a layer; 0 for other ops and where a shape is not known."""
    count = _COUNTS.get(node.op_type)
    ours = is_quantized_op(node, "IntegerProduct", ROUNDED) or has(node, Trait.CONVOLVES, Trait.MULTIPLIES)
    if count is None or not (is_op(node, node.op_type) or ours):
        return 0
    shapes = [static_shape(value) for value in (*node.inputs[:2], node.outputs[0])]
    if any(shape is None for shape in shapes):
        return 0
    return count(node, *(shape for shape in shapes if shape is not None))


def _conv(node: ir.Node, x: Shape, w: Shape, y: Shape) -> int:
    return prod(y) * prod(w[1:])


def _transposed(node: ir.Node, x: Shape, w: Shape, y: Shape) -> int:
    return prod(x) * prod(w[1:])


def _matmul(node: ir.Node, x: Shape, w: Shape, y: Shape) -> int:
    return prod(y) * (x[-1] if x else 1)


def _gemm(node: ir.Node, x: Shape, w: Shape, y: Shape) -> int:
    return prod(y) * x[0 if integer(node, "transA", 0) else 1]


def _recurrent(node: ir.Node, x: Shape, w: Shape, y: Shape) -> int:
    """Every step multiplies the input and the state, of `hidden` numbers, with weights [directions, rows, ...]."""
    steps_and_batch = prod(x[:2])
    return steps_and_batch * prod(w[:2]) * (w[2] + integer(node, "hidden_size", 0))


_COUNTS: Mapping[str, Callable[[ir.Node, Shape, Shape, Shape], int]] = {
    "Conv": _conv,
    "IntegerConv": _conv,
    "ConvTranspose": _transposed,
    "MatMul": _matmul,
    "IntegerMatMul": _matmul,
    "IntegerProduct": _matmul,
    ROUNDED: _matmul,
    "Gemm": _gemm,
    "RNN": _recurrent,
    "GRU": _recurrent,
    "LSTM": _recurrent,
}
