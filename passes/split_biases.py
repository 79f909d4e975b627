"""Separate the exact part of a layer from its float part: Gemm -> MatMul + Add, Conv with bias -> Conv + Add.

Of an integer convolution the sum is exact and the bias is not, so each has its own node. The reference adds the bias
either before or after its partial sums, so its last bits are not defined by the graph; the bound says by how much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.ir.matrices import transposed
from qcompiler.ir.view import constant_of, integer, is_op, number, static_shape
from qcompiler.passes.editing import attributes_of, insert, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal


@dataclass(frozen=True)
class SplitBiases:
    """Rewrite Gemm, and Conv with a constant bias."""

    name: str = "split-biases"
    bound: float = 1e-5

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every Gemm and biased Conv."""
        rewrites, refusals = 0, []
        for node in list(model.graph):
            if is_op(node, "Gemm"):
                rewrites += _split_gemm(node)
            elif is_op(node, "Conv") and len(node.inputs) > 2 and node.inputs[2] is not None:
                if constant_of(node.inputs[2]) is None:
                    refusals.append(Refusal(node.name or "", "the bias is not a constant"))
                    continue
                rewrites += _split_conv(node)
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


def _split_conv(node: ir.Node) -> int:
    shape, bias = static_shape(node.outputs[0]), constant_of(node.inputs[2])
    if shape is None or bias is None or bias.dtype != np.float32:
        return 0
    attributes = attributes_of(node)
    value = insert(node, "Conv", node.inputs[:2], shape, attributes)
    if bias.any():
        value = insert(node, "Add", [value, bias.reshape(1, -1, *(1,) * (len(shape) - 2))], shape)
    replace(node.outputs[0], value)
    return 1


def _split_gemm(node: ir.Node) -> int:
    shape = static_shape(node.outputs[0])
    if shape is None or node.outputs[0].dtype != ir.DataType.FLOAT:
        return 0
    left, right = _transposed(node, 0, "transA"), _transposed(node, 1, "transB")
    value = insert(node, "MatMul", [left, right], shape)
    if (alpha := number(node, "alpha", 1.0)) != 1.0:
        value = insert(node, "Mul", [value, np.float32(alpha).reshape(1)], shape)
    replace(node.outputs[0], _add_bias(node, value, shape))
    return 1


def _transposed(node: ir.Node, position: int, flag: str) -> ir.Value | np.ndarray:
    operand = node.inputs[position]
    if not integer(node, flag, 0):
        return operand
    constant = constant_of(operand)
    if constant is not None:
        return transposed(constant)
    return insert(node, "Transpose", [operand], (static_shape(operand) or ())[::-1], {"perm": [1, 0]})


def _add_bias(node: ir.Node, value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    beta = np.float32(number(node, "beta", 1.0))
    if bias is None or beta == 0:
        return value
    constant = constant_of(bias)
    if constant is None:
        scaled = bias if beta == 1 else insert(node, "Mul", [bias, beta.reshape(1)], static_shape(bias) or ())
        return insert(node, "Add", [value, scaled], shape)
    constant = (constant * beta).astype(np.float32)
    if constant.ndim == 2 and constant.shape[0] == 1:
        constant = constant[0]
    return insert(node, "Add", [value, constant], shape) if constant.any() else value
