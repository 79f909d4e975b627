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
    shapes = [None if value is None else static_shape(value) for value in node.inputs]
    if len(shapes) < 2 or node.outputs[0].dtype != ir.DataType.FLOAT:
        return 0
    total, shape = node.inputs[0], shapes[0]
    for value, other in zip(node.inputs[1:], shapes[1:], strict=True):
        if shape is None or other is None:
            return 0
        shape = np.broadcast_shapes(shape, other)
        total = insert(node, "Add", [total, value], shape)
    assert total is not None
    replace(node.outputs[0], total)
    return 1
