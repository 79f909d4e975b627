"""The standard's ops on integers, as onnxruntime's quantizer writes them.

ConvInteger(x, w, x_zero, w_zero), MatMulInteger(a, b, a_zero, b_zero) -> y int32, the sums of codes less zero points.
QLinearConv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias int32)
QLinearMatMul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)
    y = saturate(half_even(float32(sum + bias) * (x_scale * w_scale / y_scale)) + y_zero)

The factor is computed in float32, the sum and the bias as integers: this is the arithmetic of onnxruntime's kernels.
Scales and zero points of weights are numbers, or one for each output channel.
"""

from __future__ import annotations

import onnx

from qcompiler.frontend.dialects.dialect import Dialect, Op
from qcompiler.frontend.dialects.integer_operands import (
    integers,
    is_given,
    kind_of,
    product,
    quantized,
    requantization,
    scales,
    stored,
)
from qcompiler.frontend.dialects.integer_sums import biased, convolved, multiplied
from qcompiler.frontend.emitter import Emitter

_T = onnx.TensorProto


def _conv_integer(emitter: Emitter, node: onnx.NodeProto) -> None:
    sums = convolved(emitter, node, integers(emitter, node, 0, 2), integers(emitter, node, 1, 3, axis=0))
    stored(emitter, sums, node.output, _T.INT32)


def _matmul_integer(emitter: Emitter, node: onnx.NodeProto) -> None:
    left, right = integers(emitter, node, 0, 2, axis=_rows(emitter, node, 0)), integers(emitter, node, 1, 3, axis=-1)
    stored(emitter, multiplied(emitter, left, right), node.output, _T.INT32)


def _qlinear_conv(emitter: Emitter, node: onnx.NodeProto) -> None:
    x, w = integers(emitter, node, 0, 2), integers(emitter, node, 3, 5, axis=0)
    sums = convolved(emitter, node, x, w)
    channels, rank = emitter.shape(sums)[1], len(emitter.shape(sums))
    if is_given(node, 8):
        sums = biased(emitter, node, sums, 8, axis=1)
    factors = requantization(
        node, scales(emitter, node, 1), scales(emitter, node, 4, channels), scales(emitter, node, 6)
    )
    _requantized(emitter, node, product(emitter, sums, factors, (channels, *(1,) * (rank - 2))))


def _qlinear_matmul(emitter: Emitter, node: onnx.NodeProto) -> None:
    left, right = integers(emitter, node, 0, 2), integers(emitter, node, 3, 5, axis=-1)
    columns = emitter.shape(node.input[3])[-1:] or (1,)
    factors = requantization(
        node, scales(emitter, node, 1), scales(emitter, node, 4, columns[0]), scales(emitter, node, 6)
    )
    _requantized(emitter, node, product(emitter, multiplied(emitter, left, right), factors, columns))


def _requantized(emitter: Emitter, node: onnx.NodeProto, value: str) -> None:
    """The result in the type of its zero point, the eighth operand."""
    kind = kind_of(emitter, node, 7)
    stored(emitter, quantized(emitter, node, value, 7, kind), node.output, kind)


def _rows(emitter: Emitter, node: onnx.NodeProto, index: int) -> int | None:
    """The axis of a left operand along which its rows lie; None for a vector."""
    return -2 if len(emitter.shape(node.input[index])) > 1 else None


DIALECT = Dialect(
    "QOperator",
    ("",),
    {
        "ConvInteger": Op(_conv_integer, (2, 3, 4), optional=True),
        "MatMulInteger": Op(_matmul_integer, (2, 3, 4), optional=True),
        "QLinearConv": Op(_qlinear_conv, (8, 9)),
        "QLinearMatMul": Op(_qlinear_matmul, (8,)),
    },
)
