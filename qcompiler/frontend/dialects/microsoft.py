"""onnxruntime's own ops, domain com.microsoft: products of quantized operands here, the others in their files.

QGemm<alpha, transA, transB>(a, a_scale, a_zero, b, b_scale, b_zero, c int32, y_scale, y_zero):
    y = saturate(half_even(float32(a * b + c) * (alpha * a_scale * b_scale / y_scale)) + y_zero)
    a and b less their zero points; without y_scale and y_zero, y = float32(a * b + c) * (alpha * a_scale * b_scale).
MatMulIntegerToFloat(a, b, a_scale, b_scale, a_zero, b_zero, bias):
    y = float32(a * b) * (a_scale * b_scale) + bias
DynamicQuantizeMatMul(a, b, b_scale, b_zero, bias): the same, of what DynamicQuantizeLinear makes of a.
QuantizeLinear and DequantizeLinear are the standard's, for older opsets of it.

onnxruntime's products of uint8 with int8 saturate on processors without VNNI (sums of two products in 16 bits); here
they are exact, as they are on all others.
"""

from __future__ import annotations

import numpy as np
import onnx

from qcompiler.frontend import attributes
from qcompiler.frontend.dialects import fused, qlinear_add, qlinear_elementwise, qlinear_pools, qlinear_softmax
from qcompiler.frontend.dialects.dialect import Dialect, Op
from qcompiler.frontend.dialects.integer_operands import (
    Integers,
    integers,
    is_given,
    kind_of,
    product,
    quantized,
    requantization,
    scale_at_run_time,
    scales,
    stored,
)
from qcompiler.frontend.dialects.integer_sums import biased, multiplied
from qcompiler.frontend.dialects.matmul_nbits import matmul_nbits
from qcompiler.frontend.dialects.parameters import floats
from qcompiler.frontend.dialects.qdq import dequantize, dynamic_codes, quantize
from qcompiler.frontend.emitter import Emitter


def _qgemm(emitter: Emitter, node: onnx.NodeProto) -> None:
    a, b = _transposed(emitter, node, 0, "transA"), _transposed(emitter, node, 3, "transB")
    sums = multiplied(emitter, a, b)
    columns = emitter.shape(sums)[-1]
    if is_given(node, 6):
        sums = biased(emitter, node, sums, 6)
    alpha, unit = np.asarray(attributes.real(node, "alpha", 1.0), np.float32), np.asarray(1, np.float32)
    result = scales(emitter, node, 7) if is_given(node, 7) else unit
    factors = requantization(node, alpha * scales(emitter, node, 1), scales(emitter, node, 4, columns), result)
    value = product(emitter, sums, factors, (columns,))
    if not is_given(node, 7):
        emitter.op("Identity", [value], node.output)
        return
    kind = kind_of(emitter, node, 0)
    stored(emitter, quantized(emitter, node, value, 8, kind), node.output, kind)


def _transposed(emitter: Emitter, node: onnx.NodeProto, index: int, attribute: str) -> Integers:
    """Operand `index` of a QGemm; the zero points of a stored b are one for each column of the product."""
    swap = bool(attributes.integer(node, attribute, 0))
    channels = None if index == 0 else (0 if swap else -1)
    found = integers(emitter, node, index, index + 2, axis=channels)
    if not swap:
        return found
    zero = found.zero if not emitter.shape(found.zero) else emitter.op("Transpose", [found.zero], perm=[1, 0])
    return Integers(emitter.op("Transpose", [found.codes], perm=[1, 0]), zero)


def _to_float(emitter: Emitter, node: onnx.NodeProto) -> None:
    a, b = integers(emitter, node, 0, 4), integers(emitter, node, 1, 5, axis=-1)
    scale = scale_at_run_time(emitter, node, 2)
    _scaled(emitter, node, multiplied(emitter, a, b), scale, 3, 6)


def _dynamic(emitter: Emitter, node: onnx.NodeProto) -> None:
    found, scale, zero = dynamic_codes(emitter, floats(emitter, node, 0))
    sums = multiplied(emitter, Integers(found, zero), integers(emitter, node, 1, 3, axis=-1))
    _scaled(emitter, node, sums, scale, 2, 4)


def _scaled(emitter: Emitter, node: onnx.NodeProto, sums: str, scale: str, other: int, bias: int) -> None:
    """The sums times the scale and the scales of operand `other`, and a bias of real numbers."""
    factors = scales(emitter, node, other, emitter.shape(sums)[-1])
    value = emitter.op("Mul", [sums, emitter.op("Mul", [scale, emitter.constant(factors, "scale")])])
    if is_given(node, bias):
        value = emitter.op("Add", [value, floats(emitter, node, bias)])
    emitter.op("Identity", [value], node.output)


DIALECT = Dialect(
    "com.microsoft",
    ("com.microsoft",),
    {
        "QuantizeLinear": Op(quantize, (2, 3)),
        "DequantizeLinear": Op(dequantize, (2, 3)),
        "QGemm": Op(_qgemm, (6, 7, 9), optional=True),
        "MatMulIntegerToFloat": Op(_to_float, (4, 5, 6, 7), optional=True),
        "DynamicQuantizeMatMul": Op(_dynamic, (3, 4, 5), optional=True),
        "MatMulNBits": Op(matmul_nbits, (3, 4, 5, 6), optional=True),
        "QLinearAdd": Op(qlinear_add.add, (7, 8), optional=True),
        "QLinearMul": Op(qlinear_elementwise.multiply, (7, 8), optional=True),
        # without the last zero point, onnxruntime ends the process
        "QLinearSigmoid": Op(qlinear_elementwise.sigmoid, (5,), optional=True),
        "QLinearLeakyRelu": Op(qlinear_elementwise.leaky_relu, (5,), optional=True),
        "QLinearConcat": Op(qlinear_elementwise.concat, range(5, 2**16, 3)),
        "QLinearWhere": Op(qlinear_elementwise.where, (9,)),
        "QLinearSoftmax": Op(qlinear_softmax.softmax, (5,), optional=True),
        "QLinearAveragePool": Op(qlinear_pools.average, (4, 5), optional=True),
        "QLinearGlobalAveragePool": Op(qlinear_pools.global_average, (5,)),
        "FusedMatMul": Op(fused.matmul, (2,)),
        "FusedConv": Op(fused.conv, (2, 3, 4), optional=True),
        "FusedGemm": Op(fused.gemm, (2, 3), optional=True),
        "Gelu": Op(fused.gelu, (1,)),
        "BiasGelu": Op(fused.gelu, (2,)),
        "QuickGelu": Op(fused.quick_gelu, (1,)),
    },
)
