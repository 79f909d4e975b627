"""com.microsoft's ops on 8-bit integers that work element by element, as onnxruntime computes them.

QLinearMul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
    y = saturate(half_even((a - a_zero) * (b - b_zero) * (a_scale * b_scale / y_scale) + y_zero))
QLinearLeakyRelu<alpha>, QLinearSigmoid(x, x_scale, x_zero, y_scale, y_zero):
    y = quantize(f((x - x_zero) * x_scale))
QLinearConcat<axis>(y_scale, y_zero, x, x_scale, x_zero, ...), and
QLinearWhere(condition, x, x_scale, x_zero, y, y_scale, y_zero, z_scale, z_zero):
    codes of other scales or zero points are quantized again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.canonical_quantizers import numbers
from qcompiler.frontend.dialects.integer_operands import (
    RANGES,
    integers,
    kind_of,
    product,
    quantized,
    requantization,
    scales,
    stored,
    zero_point,
)
from qcompiler.frontend.dialects.parameters import FloatArray, value_of
from qcompiler.frontend.emitter import Array, Emitter
from qcompiler.frontend.structure import label
from qcompiler.ir import oracle
from qcompiler.ir.quantizing import SHIFT_ROUND

_T = onnx.TensorProto


def multiply(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a QLinearMul."""
    left, right, kind = integers(emitter, node, 0, 2), integers(emitter, node, 3, 5), kind_of(emitter, node, 0)
    factor = requantization(node, *(scales(emitter, node, index) for index in (1, 4, 6)))
    value = emitter.op("Mul", [left.centred(emitter), right.centred(emitter)])
    value = product(emitter, value, factor, ())
    stored(emitter, quantized(emitter, node, value, 7, kind, order=SHIFT_ROUND), node.output, kind)


def leaky_relu(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a QLinearLeakyRelu."""
    alpha, kind = attributes.real(node, "alpha", 0.01), kind_of(emitter, node, 0)
    value = emitter.op("LeakyRelu", [_numbers(emitter, node, 0)], alpha=alpha)
    stored(emitter, quantized(emitter, node, value, 4, kind, scales(emitter, node, 3)), node.output, kind)


def sigmoid(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a QLinearSigmoid: onnxruntime's own table of all codes, made by its exponential."""
    kind = kind_of(emitter, node, 0)
    operands = {1: scales(emitter, node, 1), 3: scales(emitter, node, 3)}
    operands |= {i: value_of(emitter, node, zero_point(emitter, node, i, kind)) for i in (2, 4)}
    low, high = RANGES[kind]
    table = _evaluated(node, np.arange(low, high + 1).astype(_dtype(kind)), operands)
    position = emitter.op("Sub", [integers(emitter, node, 0, 2).codes, emitter.constant(low, "low")])
    index = emitter.op("Cast", [position], to=_T.INT32)
    stored(emitter, emitter.op("Gather", [emitter.constant(table, "table"), index]), node.output, kind)


def concat(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a QLinearConcat."""
    kind = kind_of(emitter, node, 1)
    parts = [_again(emitter, node, index, (0, 1), kind) for index in range(2, len(node.input), 3)]
    stored(emitter, emitter.op("Concat", parts, axis=attributes.integer(node, "axis", 1)), node.output, kind)


def where(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a QLinearWhere."""
    kind = kind_of(emitter, node, 1)
    parts = [_again(emitter, node, index, (7, 8), kind) for index in (1, 4)]
    stored(emitter, emitter.op("Where", [node.input[0], *parts]), node.output, kind)


def _again(emitter: Emitter, node: onnx.NodeProto, index: int, result: tuple[int, int], kind: int) -> str:
    """The codes of operand `index` with the scale and the zero point of the result."""
    scale, zero = result
    points = [value_of(emitter, node, zero_point(emitter, node, each, kind)) for each in (index + 2, zero)]
    if scales(emitter, node, index + 1) == scales(emitter, node, scale) and points[0] == points[1]:
        return integers(emitter, node, index, index + 2).codes
    return quantized(emitter, node, _numbers(emitter, node, index), zero, kind, scales(emitter, node, scale))


def _numbers(emitter: Emitter, node: onnx.NodeProto, index: int) -> str:
    """What the codes of operand `index` stand for; scale and zero point follow it."""
    x, scale = integers(emitter, node, index, index + 2), scales(emitter, node, index + 1)
    return numbers(emitter, x.codes, emitter.constant(scale, "scale"), x.zero, ())


def _evaluated(node: onnx.NodeProto, inputs: Array, operands: Mapping[int, FloatArray]) -> FloatArray:
    """What onnxruntime makes of `inputs` [N] with these constant operands, float32 [N]."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(inputs.dtype)
    names = [f"operand{index}" for index in range(5)]
    stored_ = [
        onnx.numpy_helper.from_array(value.astype(np.float32 if index % 2 else inputs.dtype), names[index])
        for index, value in operands.items()
    ]
    copy = onnx.helper.make_node(node.op_type, names, ["y"], domain=node.domain, name=label(node))
    copy.attribute.extend(node.attribute)
    x, y = (onnx.helper.make_tensor_value_info(name, kind, inputs.shape) for name in (names[0], "y"))
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid(node.domain, 1)]
    graph = onnx.helper.make_graph([copy], "table", [x], [y], stored_)
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return np.asarray(oracle.run(model, {names[0]: inputs})["y"], np.float32)


def _dtype(kind: int) -> np.dtype[Any]:
    return np.dtype(np.int8 if kind == _T.INT8 else np.uint8)
