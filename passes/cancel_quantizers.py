"""Quantize what is on the grid already: Quantize((q - z) * s, s, z) = q for codes q within its bounds.

Files with a quantizer behind every op repeat those of equal parameters behind reshapes, transpositions and pools of the
largest. (q - z) * s / s is q - z but for two roundings, each of which changes it by less than 2**-23 of itself: less
than a half for the magnitudes allowed here, so that the nearest integer is q - z again. What only moves elements in
between moves codes instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.moves import moves_elements
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir.view import constant_of, is_op, is_quantized_op, number, static_shape, text
from qcompiler.passes.editing import attributes_of, can_replace, insert, remove_dead, replace
from qcompiler.passes.result import PassResult

_TO_NEAREST = ("ROUND", "HALF_UP", "HALF_DOWN")
# distances from the zero point, and scales, for which neither product nor quotient is rounded far; chosen
_FARTHEST = 2**20
_SMALLEST, _LARGEST = 2.0**-60, 2.0**60
# ops in a row that are followed; chosen
_LONGEST = 64


@dataclass(frozen=True)
class CancelQuantizers:
    """Replace a Quantize of numbers that codes with its scale and zero point stand for, by these codes."""

    name: str = "cancel-quantizers"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every such Quantize, from the inputs of the graph on."""
        finder = _Finder()
        rewrites = sum(finder.rewrite(node) for node in list(model.graph) if is_quantized_op(node, "Quantize"))
        remove_dead(model.graph)
        return PassResult(self.name, rewrites)


@dataclass
class _Finder:
    """Finds codes behind numbers."""

    ranges: IntegerRanges = field(default_factory=IntegerRanges)

    def rewrite(self, quantize: ir.Node) -> int:
        value, scale, zero = quantize.inputs[0], _constant(quantize.inputs[1]), _constant(quantize.inputs[2])
        if scale is None or zero is None or text(quantize, "rounding", "ROUND") not in _TO_NEAREST:
            return 0
        moves: list[ir.Node] = []
        while moves_elements(node := value.producer()) and len(node.outputs) == 1 and len(moves) < _LONGEST:
            moves.append(node)
            value = node.inputs[0]
        found = _codes_of(value, scale, zero)
        if found is None or not self._fits(found, quantize, scale, zero):
            return 0
        for move in reversed(moves):
            settings = attributes_of(move)
            shape = static_shape(move.outputs[0]) or ()
            found = insert(quantize, move.op_type, [found, *move.inputs[1:]], shape, settings, origins=(move,))
        if not can_replace(quantize.outputs[0], found):
            return 0
        replace(quantize.outputs[0], found, keep_name=False)
        return 1

    def _fits(self, value: ir.Value, quantize: ir.Node, scale: float, zero: float) -> bool:
        """Whether the value holds codes between the bounds of the quantizer, close enough to its zero point."""
        codes = self.ranges.codes(value)
        if codes is None or not _SMALLEST <= scale <= _LARGEST:
            return False
        farthest = max(abs(codes.low - zero), abs(codes.high - zero), abs(zero))
        inside = number(quantize, "low", 0.0) <= codes.low and codes.high <= number(quantize, "high", 0.0)
        return inside and zero == np.rint(zero) and farthest <= _FARTHEST


def _codes_of(value: ir.Value, scale: float, zero: float) -> ir.Value | None:
    """q, where a value is (q - zero) * scale; None where it is not."""
    product = value.producer()
    if not is_op(product, "Mul"):
        return None
    for position, other in ((0, 1), (1, 0)):
        inner = product.inputs[position]
        if _constant(product.inputs[other]) == scale and static_shape(inner) == static_shape(value):
            return inner if zero == 0 else _unshifted(inner, zero)
    return None


def _unshifted(value: ir.Value, zero: float) -> ir.Value | None:
    node = value.producer()
    if not is_op(node, "Sub") or _constant(node.inputs[1]) != zero:
        return None
    inner: ir.Value = node.inputs[0]
    return inner if static_shape(inner) == static_shape(value) else None


def _constant(value: ir.Value | None) -> float | None:
    """A constant of one element."""
    array = constant_of(value)
    return None if array is None or array.size != 1 else float(array.reshape(()))
