"""Between which real numbers the elements of a value lie.

Every operation here is monotone in each operand, and so is its rounding to float32: computed in float32 on the ends of
the operands' intervals, it gives the ends of its own. Functions whose implementations differ by a few ulp, and
averages, which round sums, get that much more room. NaN lies in no interval.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.facts import Facts
from qcompiler.analysis.moves import moves_elements
from qcompiler.ir.ops import quantizer_of
from qcompiler.ir.quantizing import UNBOUNDED
from qcompiler.ir.traits import LAYER, Trait, has
from qcompiler.ir.view import constant_of, integer, is_op, is_quantized_op, number, static_shape, text

# relative: more than sums of thousands of numbers and bounded functions are rounded by; chosen
_ROOM = 1e-6
_INFINITY = np.float32(np.inf)


@dataclass(frozen=True)
class Interval:
    """low <= x <= high, both float32."""

    low: np.float32 = -_INFINITY
    high: np.float32 = _INFINITY

    @property
    def bounded(self) -> bool:
        """Whether both ends are finite."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @classmethod
    def around(cls, *numbers: np.float32) -> Interval:
        """The smallest interval that holds the numbers; all numbers where one is NaN."""
        if not numbers or any(np.isnan(number) for number in numbers):
            return EVERYTHING
        return cls(min(numbers), max(numbers))

    def union(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def roomier(self) -> Interval:
        """With some room for rounding."""
        room = np.float32(_ROOM) * max(abs(self.low), abs(self.high))
        return Interval(np.float32(self.low - room), np.float32(self.high + room)) if self.bounded else self


EVERYTHING = Interval()


class Intervals(Facts[Interval]):
    """The intervals of the values of one graph; ask by `of`."""

    def _operands(self, value: ir.Value) -> list[ir.Value]:
        node = value.producer()
        if node is None or constant_of(value) is not None or is_op(node, "Gemm") or has(node, LAYER):
            return []
        return [i for i in node.inputs if i is not None]

    def _computed(self, value: ir.Value) -> Interval:
        constant = constant_of(value)
        if constant is not None:
            real = constant.dtype.kind in "fiu" and constant.size > 0
            return Interval.around(np.float32(constant.min()), np.float32(constant.max())) if real else EVERYTHING
        node = value.producer()
        if node is None:
            return EVERYTHING
        operands = [EVERYTHING if i is None else self._known.get(i, EVERYTHING) for i in node.inputs]
        with np.errstate(all="ignore"):
            return _of_node(node, operands)


def _of_node(node: ir.Node, operands: list[Interval]) -> Interval:
    if is_quantized_op(node, "Quantize"):
        return _quantized(node, operands)
    if is_quantized_op(node, "Binarize") or is_op(node, "Sign"):
        return Interval(np.float32(-1), np.float32(1))
    if moves_elements(node):
        return operands[0]
    if is_quantized_op(node, "Threshold"):
        return _reached(node)
    if node.domain not in ("", "ai.onnx"):
        return EVERYTHING
    if is_op(node, "Pad"):
        return _padded(node, operands)
    if is_op(node, "Concat", "Where"):
        return _joined(operands[1:] if node.op_type == "Where" else operands)
    if has(node, Trait.AVERAGES):
        return _averaged(node, operands[0])
    if node.op_type in _BOUNDED:
        low, high = _BOUNDED[node.op_type]
        return Interval(np.float32(low), np.float32(high)).roomier()
    if node.op_type in ("Clip", "Max", "Min", "Relu"):
        return _chosen(node, operands)
    if is_op(node, "Cast"):
        return _cast(node, operands[0])
    if node.op_type in _RISING:
        ends = [_RISING[node.op_type](end) for end in (operands[0].low, operands[0].high)]
        return Interval.around(*map(np.float32, ends))
    return _combined(node, operands)


_BOUNDED: Mapping[str, tuple[float, float]] = {
    "Tanh": (-1, 1),
    "Erf": (-1, 1),
    "Softsign": (-1, 1),
    "Sin": (-1, 1),
    "Cos": (-1, 1),
    "Sigmoid": (0, 1),
    "HardSigmoid": (0, 1),
    "Softmax": (0, 1),
    "Hardmax": (0, 1),
}
_RISING: Mapping[str, Callable[[np.float32], np.float32]] = {
    "Round": np.rint,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Identity": lambda x: x,
}
_PAIRS: Mapping[str, Callable[[np.float32, np.float32], np.float32]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
}


def _cast(node: ir.Node, x: Interval) -> Interval:
    """Integers drop what is behind the point; numbers that they cannot hold become anything."""
    to = ir.DataType(integer(node, "to", 0))
    if to.is_floating_point():
        return x if to in (ir.DataType.FLOAT, ir.DataType.DOUBLE) else EVERYTHING
    held = np.iinfo(to.numpy()) if to.is_integer() and to.bitwidth >= 8 else None
    if held is None or not held.min <= float(x.low) <= float(x.high) < held.max:
        return EVERYTHING
    return Interval(np.trunc(x.low), np.trunc(x.high))


def _combined(node: ir.Node, operands: list[Interval]) -> Interval:
    """Arithmetic of two operands, and of one."""
    if is_op(node, "Neg"):
        return Interval(-operands[0].high, -operands[0].low)
    if is_op(node, "Abs"):
        largest = max(abs(operands[0].low), abs(operands[0].high))
        inside = operands[0].low <= 0 <= operands[0].high
        return Interval(np.float32(0) if inside else min(abs(operands[0].low), abs(operands[0].high)), largest)
    function = _PAIRS.get(node.op_type)
    if function is None or len(operands) != 2 or (is_op(node, "Div") and operands[1].low <= 0 <= operands[1].high):
        return EVERYTHING
    a, b = operands
    return Interval.around(*(function(x, y) for x in (a.low, a.high) for y in (b.low, b.high)))


def _chosen(node: ir.Node, operands: list[Interval]) -> Interval:
    """Larger or smaller ones of numbers: Clip takes the larger of x and low, and the smaller of that and high."""
    first = operands[0]
    if is_op(node, "Relu"):
        return Interval(max(first.low, np.float32(0)), max(first.high, np.float32(0)))
    if is_op(node, "Max"):
        return Interval(max(each.low for each in operands), max(each.high for each in operands))
    if is_op(node, "Min"):
        return Interval(min(each.low for each in operands), min(each.high for each in operands))
    for position, choose in ((1, max), (2, min)):
        if position < len(node.inputs) and node.inputs[position] is not None:
            bound = operands[position]
            first = Interval(choose(first.low, bound.low), choose(first.high, bound.high))
    return first


def _joined(operands: list[Interval]) -> Interval:
    result = operands[0]
    for other in operands[1:]:
        result = result.union(other)
    return result


def _padded(node: ir.Node, operands: list[Interval]) -> Interval:
    if text(node, "mode", "constant") != "constant":
        return operands[0]
    given = len(node.inputs) > 2 and node.inputs[2] is not None
    return operands[0].union(operands[2] if given else Interval(np.float32(0), np.float32(0)))


def _averaged(node: ir.Node, x: Interval) -> Interval:
    counts_border = is_op(node, "AveragePool") and integer(node, "count_include_pad", 0) == 1
    return (x.union(Interval(np.float32(0), np.float32(0))) if counts_border else x).roomier()


def _reached(node: ir.Node) -> Interval:
    """From no threshold to all of them."""
    thresholds = static_shape(node.inputs[1])
    if not thresholds:
        return EVERYTHING
    low, step = number(node, "low", -1.0), number(node, "step", 2.0)
    return Interval.around(np.float32(low), np.float32(low + step * thresholds[0]))


def _quantized(node: ir.Node, operands: list[Interval]) -> Interval:
    """Codes between the bounds, or of the ends of x where these are nearer."""
    low, high = (np.float32(number(node, name, 0.0)) for name in ("low", "high"))
    if max(abs(low), abs(high)) < UNBOUNDED:
        return Interval(low, high)
    if not all(each.bounded for each in operands) or operands[1].low <= 0:
        return EVERYTHING
    quantizer = quantizer_of(node)
    ends = itertools.product(*([np.asarray(end) for end in (each.low, each.high)] for each in operands))
    return Interval.around(*(np.float32(quantizer(*each)) for each in ends))
