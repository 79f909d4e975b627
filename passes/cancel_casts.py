"""Let integers stay floats: Cast(move(Cast(x))) = move(x) for integers x that the type in between holds.

Files of integer ops say uint8 or int32 between any two of them, while codes and sums here are integers in float32. What
only moves elements in between (reshapes, pools of the largest, concatenations) moves floats instead. Sums of integers
are integers in float32 however they round, so that a sum needs only to stay within the type.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.moves import moves_elements
from qcompiler.analysis.ranges import IntegerRanges, codes_of_type
from qcompiler.ir.traits import LAYER, Trait, has, weight_axis
from qcompiler.ir.view import constant_of, is_op, static_shape
from qcompiler.passes.editing import attributes_of, can_replace, insert, remove_dead, replace
from qcompiler.passes.result import PassResult

# ops in a row that are followed; chosen
_LONGEST = 64


@dataclass(frozen=True)
class CancelCasts:
    """Remove casts of float integers to an integer type and back, and do in floats what lies between."""

    name: str = "cancel-casts"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every Cast to float32 of what was float32 before."""
        twins = _Twins()
        rewrites = 0
        for node in list(model.graph):
            if not is_op(node, "Cast") or node.outputs[0].dtype != ir.DataType.FLOAT:
                continue
            twin = twins.of(node.inputs[0])
            if twin is not None and can_replace(node.outputs[0], twin):
                replace(node.outputs[0], twin, keep_name=False)
                rewrites += 1
        remove_dead(model.graph)
        return PassResult(self.name, rewrites)


@dataclass
class _Twins:
    """Float values that hold the integers of integer values; each is made once."""

    ranges: IntegerRanges = field(default_factory=IntegerRanges)
    made: dict[ir.Value, ir.Value | None] = field(default_factory=dict)

    def of(self, value: ir.Value, depth: int = 0) -> ir.Value | None:
        """The twin of an integer value; None if its integers were never floats."""
        if value not in self.made:
            self.made[value] = None if depth == _LONGEST else self._make(value, depth)
        return self.made[value]

    def _make(self, value: ir.Value, depth: int) -> ir.Value | None:
        node, kind = value.producer(), value.dtype
        if node is None or kind is None or not kind.is_integer() or len(node.outputs) > 1:
            return None
        if is_op(node, "Cast"):
            source = node.inputs[0]
            return source if source.dtype == ir.DataType.FLOAT and self._holds(kind, source) else None
        count = len(node.inputs) if is_op(node, "Concat") else 1
        shape = static_shape(value)
        if shape is None or not (moves_elements(node) or is_op(node, "Concat")):
            return None
        operands = [self.of(operand, depth + 1) for operand in node.inputs[:count]]
        if any(operand is None for operand in operands):
            return None
        settings = attributes_of(node)
        return insert(node, node.op_type, [*operands, *node.inputs[count:]], shape, settings)

    def _holds(self, kind: ir.DataType, value: ir.Value) -> bool:
        """Whether the elements are integers that an integer type holds."""
        held, codes = codes_of_type(kind), self.ranges.codes(value)
        if codes is not None:
            return held.low <= codes.low and codes.high <= held.high
        return self._largest(value) <= min(-held.low, held.high)

    def _largest(self, value: ir.Value, depth: int = 0) -> float:
        """The largest magnitude of a value of integers; infinity where it is not known to be one."""
        codes, node = self.ranges.codes(value), value.producer()
        if codes is not None:
            return max(abs(codes.low), abs(codes.high))
        if node is None or depth == _LONGEST:
            return math.inf
        if has(node, LAYER):
            return self._largest_sum(node, depth)
        if moves_elements(node):
            return self._largest(node.inputs[0], depth + 1)
        if is_op(node, "Add", "Sub", "Mul"):
            left, right = (self._largest(operand, depth + 1) for operand in node.inputs)
            return left * right if node.op_type == "Mul" else left + right
        return math.inf

    def _largest_sum(self, layer: ir.Node, depth: int) -> float:
        weights, shape = constant_of(layer.inputs[1]), static_shape(layer.inputs[1])
        if len(layer.inputs) > 2 or shape is None:
            return math.inf
        inputs = self._largest(layer.inputs[0], depth + 1)
        if weights is None:
            rows = 0 if has(layer, Trait.CONVOLVES) or len(shape) < 2 else shape[-2]
            return inputs * self._largest(layer.inputs[1], depth + 1) * rows if rows else math.inf
        if weights.ndim < 2 or not np.array_equal(weights, np.rint(weights)):
            return math.inf
        channels = np.moveaxis(np.abs(weights).astype(np.float64), weight_axis(layer), 0)
        return inputs * float(channels.reshape(len(channels), -1).sum(axis=1).max())
