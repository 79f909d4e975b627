"""Sum of several operands -> Add of two, from left to right: the order in which the reference adds.

Layers end in additions, and streams branch into them, however a file spells them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.ir.view import is_op, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult


@dataclass(frozen=True)
class SpellOutSums:
    """Rewrite Sum of two operands and more."""

    name: str = "spell-out-sums"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every Sum."""
        rewrites = sum(_spell(node) for node in list(model.graph) if is_op(node, "Sum"))
        remove_dead(model.graph)
        return PassResult(self.name, rewrites)


def _spell(node: ir.Node) -> int:
    shapes = [(value, static_shape(value)) for value in node.inputs if value is not None]
    operands = [(value, shape) for value, shape in shapes if shape is not None]
    if len(node.inputs) < 2 or len(operands) < len(node.inputs) or node.outputs[0].dtype != ir.DataType.FLOAT:
        return 0
    total, shape = operands[0]
    for value, other in operands[1:]:
        shape = np.broadcast_shapes(shape, other)
        total = insert(node, "Add", [total, value], shape)
    replace(node.outputs[0], total)
    return 1
