"""com.microsoft's QLinearSoftmax, as onnxruntime computes it.

QLinearSoftmax<axis, opset>(x, x_scale, x_zero, y_scale, y_zero), for n elements along the axis (before opset 13: of all
axes from it on), and the largest code m of them:

    t[d] = float32(exp(x_scale * (shift - d))), d = 0 .. 255, a table
    y = saturate(half_even(t[m - x] / sum t[m - x] * floor(1 / y_scale)) + y_zero), with a sum of float32, in order

where the shift, max(0, log(largest float32 / n) - 5) / x_scale, keeps the sum from overflowing.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.integer_operands import (
    integers,
    kind_of,
    quantized,
    requantization,
    scales,
    stored,
)
from qcompiler.frontend.dialects.parameters import FloatArray
from qcompiler.frontend.emitter import Emitter

_T = onnx.TensorProto
# numbers that onnxruntime keeps free below the largest sum, as a power of e
_RESERVE = 5
_STEPS = 256


def softmax(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a QLinearSoftmax."""
    kind, x = kind_of(emitter, node, 0), integers(emitter, node, 0, 2).codes
    sizes = emitter.shape(x)
    axis = attributes.axis(node, "axis", -1, len(sizes))
    order = [*range(axis), *range(axis + 1, len(sizes)), axis] if _is_new(node) else list(range(len(sizes)))
    moved = emitter.op("Transpose", [x], perm=order)
    rows = [math.prod(sizes) // sizes[axis], sizes[axis]] if _is_new(node) else [math.prod(sizes[:axis]), -1]
    found = _of_rows(emitter, node, emitter.op("Reshape", [moved, emitter.constant(rows, "rows", np.int64)]))
    whole = emitter.constant([sizes[i] for i in order], "sizes", np.int64)
    back = [order.index(i) for i in range(len(sizes))]
    stored(emitter, emitter.op("Transpose", [emitter.op("Reshape", [found, whole])], perm=back), node.output, kind)


def _is_new(node: onnx.NodeProto) -> bool:
    return attributes.integer(node, "opset", 13) >= 13


def _of_rows(emitter: Emitter, node: onnx.NodeProto, x: str) -> str:
    """The codes of the softmax over the last axis of codes x [N, D]."""
    last, axis = emitter.shape(x)[-1] - 1, emitter.constant([1], "axis", np.int64)
    distance = emitter.op("Sub", [emitter.op("ReduceMax", [x, axis]), x])
    table = emitter.constant(_table(scales(emitter, node, 1), last + 1), "table")
    weights = emitter.op("Gather", [table, emitter.op("Cast", [distance], to=_T.INT32)])
    # a running sum is a sum in order
    sums = emitter.op("CumSum", [weights, emitter.constant(1, "last", np.int64)])
    total = emitter.op("Gather", [sums, emitter.constant([last], "end", np.int64)], axis=1)
    unit = np.asarray(1, np.float32)
    whole = np.floor(requantization(node, unit, unit, scales(emitter, node, 3)))
    value = emitter.op("Mul", [emitter.op("Div", [weights, total]), emitter.constant(whole, "whole")])
    return quantized(emitter, node, value, 4, kind_of(emitter, node, 0))


def _table(scale: FloatArray, count: int) -> FloatArray:
    """What each distance from the largest code weighs: float32 [256]."""
    most = np.log(np.float32(np.finfo(np.float32).max) / np.float32(count))
    shift = max(0.0, float(most) - _RESERVE) / float(scale)
    return np.asarray(np.exp((shift - np.arange(_STEPS)) * float(scale)), np.float32)
