"""Where a graph jumps, and rounding errors alone may decide to which side.

A jump is an op whose result changes all at once where its operand passes some number: a sign, a rounding, a comparison,
an index of the largest. Correct code may land on either side where the operand is a sum of real numbers, for the order
of the terms is not defined. It may not where the operand is exact: integers, and what single operations of IEEE
arithmetic, each rounded once, make of exact values. A value behind a jump is exact again, given the side it took.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir.view import constant_of, dtype_of, is_op, is_quantized_op

_FIRST = (0,)
_BOTH = (0, 1)
# the operands at which a standard op jumps
_JUMPING = {
    **dict.fromkeys(("Sign", "Round", "Floor", "Ceil", "QuantizeLinear", "DynamicQuantizeLinear"), _FIRST),
    **dict.fromkeys(("ArgMax", "ArgMin", "Hardmax", "TopK", "NonZero", "Shrink", "ThresholdedRelu", "IsInf"), _FIRST),
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Mod"), _BOTH),
}
_ROUNDED_ONCE = (
    "Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal", "Abs", "Neg", "Relu", "Clip", "Max", "Min", "PRelu", "LeakyRelu",
    "Where", "And", "Or", "Not", "Xor", "Mod", "Cast", "DequantizeLinear",
)  # fmt: skip
_MOVED = (
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather", "Concat", "Split",
    "Expand", "Tile", "Pad", "DepthToSpace", "SpaceToDepth", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin",
)  # fmt: skip


def sources(graph: ir.Graph, *, exact: bool) -> dict[str, ir.Value]:
    """The operands of jumps that rounding errors may carry to the other side; with `exact`, also the exact ones."""
    exactness = Exactness()
    operands = {str(value.name): value for node in graph for value in jumping_operands(node)}
    return {name: value for name, value in operands.items() if exact or not exactness.holds(value)}


def jumping_operands(node: ir.Node) -> list[ir.Value]:
    """The real operands at which the result of `node` jumps."""
    positions = _JUMPING.get(node.op_type, ()) if node.domain == "" else ()
    if is_quantized_op(node, "Binarize", "Threshold") or _truncates(node) or _gives_positions(node):
        positions = _FIRST
    operands = [node.inputs[position] for position in positions if position < len(node.inputs)]
    return [each for each in operands if each is not None and constant_of(each) is None and _is_real(each)]


class Exactness:
    """Which values of a graph the order of sums cannot change; ask in topological order to keep recursion shallow."""

    def __init__(self) -> None:
        self._ranges = IntegerRanges()
        self._known: dict[ir.Value, bool] = {}

    def holds(self, value: ir.Value) -> bool:
        """Whether `value` is exact, given the sides that the jumps before it took."""
        pending = [value]
        while pending:
            current = pending[-1]
            node = current.producer()
            operands = () if node is None else [i for i in node.inputs if i is not None]
            missing = [each for each in operands if each not in self._known]
            if current not in self._known and missing:
                pending.extend(missing)
                continue
            pending.pop()
            self._known.setdefault(current, self._compute(current, node))
        return self._known[value]

    def _compute(self, value: ir.Value, node: ir.Node | None) -> bool:
        if node is None or not _is_real(value) or _lands(node):
            return True
        if self._ranges.codes(value) is not None:
            return True
        if is_op(node, "Conv", "MatMul") or is_quantized_op(node, "BinaryConv", "BinaryMatMul"):
            return self._ranges.lattice(node) is not None
        kept = is_op(node, *_ROUNDED_ONCE, *_MOVED) or is_quantized_op(node, "BinaryMaxPool")
        return kept and all(self._known[each] for each in node.inputs if each is not None)


def _lands(node: ir.Node) -> bool:
    """Whether the result is one of a few numbers, whichever side was taken."""
    return is_op(node, "Sign", "Round", "Floor", "Ceil") or is_quantized_op(node, "Binarize", "Threshold")


def _truncates(node: ir.Node) -> bool:
    return is_op(node, "Cast") and not _is_real(node.outputs[0])


def _gives_positions(node: ir.Node) -> bool:
    return is_op(node, "MaxPool") and len(node.outputs) > 1


def _is_real(value: ir.Value) -> bool:
    return bool(np.issubdtype(dtype_of(value), np.floating))
