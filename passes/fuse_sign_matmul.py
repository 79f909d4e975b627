"""MatMul with -1/+1 activations and constant -1/+1 weights becomes BinaryMatMul."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.ranges import EXACT, IntegerRanges
from qcompiler.ir.view import constant_of, is_op, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult


@dataclass(frozen=True)
class FuseSignMatmul:
    """Rewrite binary MatMul with weights [K, O] on the right."""

    name: str = "fuse-sign-matmul"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every binary MatMul; the sum of its codes is exact in float32, so no bit changes."""
        ranges = IntegerRanges()
        found = [node for node in model.graph if is_op(node, "MatMul") and _is_binary(node, ranges)]
        for node in found:
            shape = static_shape(node.outputs[0]) or ()
            replace(node.outputs[0], insert(node, "BinaryMatMul", node.inputs, shape))
        remove_dead(model.graph)
        return PassResult(self.name, len(found))


def _is_binary(node: ir.Node, ranges: IntegerRanges) -> bool:
    weights, shape = constant_of(node.inputs[1]), static_shape(node.inputs[0])
    if weights is None or weights.ndim != 2 or weights.shape[0] >= EXACT or not shape:
        return False
    return ranges.binary(node.inputs[0]) and bool((np.abs(weights) == 1).all())
