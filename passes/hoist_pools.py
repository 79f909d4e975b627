"""Pool before a costly monotone function: MaxPool(tanh(x)) = tanh(MaxPool(x)), with fewer values to compute.

MaxPool picks one of its inputs, and a function that never falls keeps their order. LeNet's tanh, for example, stands
before a 2x2 pool: a quarter of its values is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import is_op, only_consumer, static_shape
from qcompiler.passes.editing import attributes_of, insert, remove_dead, replace
from qcompiler.passes.result import PassResult


@dataclass(frozen=True)
class HoistPools:
    """Move MaxPool in front of the function of one argument whose result it alone reads."""

    name: str = "hoist-pools"
    bound: float = 1e-6
    """A runtime may compute the same value a rounding apart at another place in a tensor."""

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every such MaxPool of one output."""
        rewrites = 0
        for node in list(model.graph):
            if is_op(node, "MaxPool") and len(node.outputs) == 1 and _hoist(node):
                rewrites += 1
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, ())


def _hoist(pool: ir.Node) -> bool:
    value, shape = pool.inputs[0], static_shape(pool.outputs[0])
    function = value.producer() if value is not None else None
    if function is None or shape is None or not has(function, Trait.RISES):
        return False
    reader = only_consumer(function.outputs[0])
    if reader is None or reader is not pool:
        return False
    attributes = attributes_of(reader)
    pooled = insert(reader, "MaxPool", [function.inputs[0]], shape, attributes)
    replace(reader.outputs[0], insert(reader, function.op_type, [pooled], shape, origins=(function,)))
    return True
