"""Convolutions and pools over [N, C, L] become those over [N, C, 1, L], the only kind that kernels exist for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.ir.view import constant_of, integer, ints, is_op, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult


@dataclass(frozen=True)
class Lift1dConvs:
    """Give Conv, MaxPool and AveragePool of rank 3 a height of 1."""

    name: str = "lift-1d-convs"
    bound: float = 1e-6

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every window of rank 3."""
        rewrites = 0
        for node in list(model.graph):
            if is_op(node, "Conv", "MaxPool", "AveragePool") and len(node.outputs) == 1:
                rewrites += _lift(node)
        remove_dead(model.graph)
        return PassResult(self.name, rewrites)


def _lift(node: ir.Node) -> int:
    shape, out = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if shape is None or out is None or len(shape) != 3 or "pads" not in node.attributes:
        return 0
    x = _reshape(node, node.inputs[0], (*shape[:2], 1, shape[2]))
    operands = [x, *([_lift_weights(node)] if node.op_type == "Conv" else []), *node.inputs[2:]]
    dtype = node.outputs[0].dtype or ir.DataType.FLOAT
    lifted = insert(node, node.op_type, operands, (*out[:2], 1, out[2]), _attributes(node), dtype=dtype)
    replace(node.outputs[0], _reshape(node, lifted, out))
    return 1


def _attributes(node: ir.Node) -> dict[str, object]:
    before, after = ints(node, "pads", (0, 0))
    attributes: dict[str, object] = {
        name: [1, *ints(node, name, (1,))] for name in ("kernel_shape", "strides", "dilations")
    }
    attributes["pads"] = [0, before, 0, after]
    for name in ("group", "ceil_mode", "count_include_pad", "storage_order"):
        if name in node.attributes:
            attributes[name] = integer(node, name, 0)
    return attributes


def _lift_weights(node: ir.Node) -> ir.Value | np.ndarray:
    weights = constant_of(node.inputs[1])
    if weights is not None:
        return np.expand_dims(weights, 2)
    out, inner, length = static_shape(node.inputs[1]) or (0, 0, 0)
    return _reshape(node, node.inputs[1], (out, inner, 1, length))


def _reshape(anchor: ir.Node, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    dtype = x.dtype or ir.DataType.FLOAT
    return insert(anchor, "Reshape", [x, np.asarray(shape, dtype=np.int64)], shape, dtype=dtype)
