"""Leave out zero points that are subtracted again.

Quantize<low, high>(x, s, z) - z = Quantize<low - z, high - z>(x, s, 0) in the order ROUND_SHIFT, where whole numbers
are added and bounded, so that nothing is rounded. What only moves elements in between moves the codes less their zero
point. Layers then read what the quantizer makes, and pools, moves and residual connections work on the same codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.moves import moves_elements
from qcompiler.ir.numerics import EXACT
from qcompiler.ir.ops import quantizer_of
from qcompiler.ir.quantizing import ROUND_SHIFT
from qcompiler.ir.view import is_op, is_quantized_op, single_number, static_shape, text
from qcompiler.passes.editing import attributes_of, can_replace, insert, remove_dead, replace
from qcompiler.passes.result import PassResult


@dataclass(frozen=True)
class CentreQuantizers:
    """Rewrite quantizers with one zero point that is not 0, where it is subtracted again."""

    name: str = "centre-quantizers"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite in one walk; counts subtractions that went."""
        centred = _Centred()
        rewrites = sum(centred.visit(node) for node in list(model.graph))
        for value, (codes, zero) in centred.quantizers.items():
            if codes.uses() and (value.uses() or value.is_graph_output()):
                shape = static_shape(value) or ()
                replace(value, insert(value.producer(), "Add", [codes, np.float32(zero)], shape))
        remove_dead(model.graph)
        return PassResult(self.name, rewrites)


@dataclass
class _Centred:
    """Values that hold codes, each with the same codes less their zero point."""

    known: dict[ir.Value, tuple[ir.Value, float]] = field(default_factory=dict)
    quantizers: dict[ir.Value, tuple[ir.Value, float]] = field(default_factory=dict)

    def visit(self, node: ir.Node) -> int:
        """Take note of what the node makes; 1 if it is a subtraction that went."""
        if is_quantized_op(node, "Quantize"):
            self._quantizer(node)
        elif is_op(node, "Sub"):
            return self._subtraction(node)
        elif is_op(node, "Pad"):
            self._pad(node)
        elif is_op(node, "Concat"):
            self._concat(node)
        elif moves_elements(node):
            self._move(node)
        return 0

    def _quantizer(self, node: ir.Node) -> None:
        zero, quantizer = _number(node.inputs[2]), quantizer_of(node)
        shape = static_shape(node.outputs[0])
        largest = max(abs(quantizer.low), abs(quantizer.high))
        if not zero or shape is None or quantizer.order != ROUND_SHIFT or largest + abs(zero) >= EXACT:
            return
        if not _is_subtracted(node.outputs[0], zero):
            return
        bounds = {"low": quantizer.low - zero, "high": quantizer.high - zero}
        operands = [*node.inputs[:2], np.zeros((), np.float32)]
        found = insert(node, "Quantize", operands, shape, {**attributes_of(node), **bounds}, origins=(node,))
        self.known[node.outputs[0]] = self.quantizers[node.outputs[0]] = found, zero

    def _subtraction(self, node: ir.Node) -> int:
        codes, zero = self.known.get(node.inputs[0], (None, 0.0))
        same_shape = static_shape(node.inputs[0]) == static_shape(node.outputs[0])
        if codes is None or _number(node.inputs[1]) != zero or not same_shape:
            return 0
        if not can_replace(node.outputs[0], codes):
            return 0
        replace(node.outputs[0], codes)
        return 1

    def _pad(self, node: ir.Node) -> None:
        fill = _number(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else 0.0
        codes, zero = self.known.get(node.inputs[0], (None, 0.0))
        if codes is not None and fill is not None and text(node, "mode", "constant") == "constant":
            self._again(node, [codes, node.inputs[1], np.float32(fill - zero), *node.inputs[3:]], zero)

    def _concat(self, node: ir.Node) -> None:
        found = [self.known.get(value) for value in node.inputs]
        zeros = {None if each is None else each[1] for each in found}
        if len(zeros) == 1 and None not in zeros:
            self._again(node, [each[0] for each in found if each is not None], zeros.pop() or 0.0)

    def _move(self, node: ir.Node) -> None:
        codes, zero = self.known.get(node.inputs[0], (None, 0.0))
        if codes is not None and len(node.outputs) == 1:
            self._again(node, [codes, *node.inputs[1:]], zero)

    def _again(self, node: ir.Node, operands: list[ir.Value | np.float32 | None], zero: float) -> None:
        shape = static_shape(node.outputs[0])
        if shape is None or not _is_subtracted(node.outputs[0], zero):
            return
        found = insert(node, node.op_type, operands, shape, attributes_of(node), origins=(node,))
        self.known[node.outputs[0]] = found, zero


def _is_subtracted(value: ir.Value, zero: float) -> bool:
    """Whether the number is subtracted from the value, or from what is moved of it."""
    pending, seen = [value], set()
    while pending:
        current = pending.pop()
        for usage in current.uses():
            reader = usage.node
            if is_op(reader, "Sub") and usage.idx == 0 and _number(reader.inputs[1]) == zero:
                return True
            if reader not in seen and (is_op(reader, "Pad", "Concat") or moves_elements(reader)):
                seen.add(reader)
                pending += reader.outputs
    return False


def _number(value: ir.Value | None) -> float | None:
    """A constant of one element that is whole."""
    number = single_number(value)
    return number if number is not None and number == np.rint(number) else None
