"""Move codes before they are scaled: move(c * s) = move(c) * s, and likewise for c - z, bit for bit.

What only moves elements (Transpose, Slice, Split, Resize to the nearest, ...), joins them (Concat) or fills in a number
that is itself a code (Pad) then works on codes, which are a byte each, and quantizers behind it meet their own grid
(cancel-quantizers). A pool of the largest does so where s > 0, since rounding keeps order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.moves import moves_elements
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.analysis.weights import WIDEST
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, integer, is_op, single_number, static_shape, text
from qcompiler.passes.editing import Operand, attributes_of, insert, remove_dead, replace
from qcompiler.passes.result import PassResult


@dataclass(frozen=True)
class SinkScales:
    """Move products of codes with a number, and differences, behind what only moves, joins or pads them."""

    name: str = "sink-scales"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite in one walk, in which a scale sinks as far as it can."""
        sinker = _Sinker()
        rewrites = sum(sinker.sink(node) for node in list(model.graph))
        remove_dead(model.graph)
        return PassResult(self.name, rewrites)


@dataclass(frozen=True)
class _Dequantized:
    """codes op number, and what `codes` is made of in turn."""

    codes: ir.Value
    op: str
    number: float


@dataclass
class _Sinker:
    ranges: IntegerRanges = field(default_factory=IntegerRanges)

    def sink(self, node: ir.Node) -> int:
        """1 if a scale or a zero point went behind the node, or both did."""
        if not (moves_elements(node) or is_op(node, "Concat", "Pad")) or is_op(node, "Identity"):
            return 0
        count = len(node.inputs) if is_op(node, "Concat") else 1
        operands = [self._dequantized(value) for value in node.inputs[:count]]
        found = [each for each in operands if each is not None]
        if len(found) < count or len({(each.op, each.number) for each in found}) > 1:
            return 0
        first = found[0]
        picks = has(node, Trait.SLIDES, Trait.REDUCES)
        if picks and (len(node.outputs) > 1 or first.op == "Mul" and first.number < 0):
            return 0
        if any(static_shape(output) is None for output in node.outputs):
            return 0
        rest = list(node.inputs[count:])
        if is_op(node, "Pad"):
            fill = _fill(node, first)
            if fill is None:
                return 0
            rest[1:2] = [fill]
        self._rewrite(node, [each.codes for each in found], rest, first)
        return 1

    def _dequantized(self, value: ir.Value) -> _Dequantized | None:
        node = value.producer()
        if not is_op(node, "Mul", "Sub") or value.dtype != ir.DataType.FLOAT:
            return None
        for position in (0, 1) if node.op_type == "Mul" else (0,):
            codes, number = node.inputs[position], _number(node.inputs[1 - position])
            if number is None or static_shape(codes) != static_shape(value) or constant_of(codes) is not None:
                continue
            held = self.ranges.codes(codes)
            exact = number != 0 if node.op_type == "Mul" else number == np.rint(number)
            if held is not None and held.bits <= WIDEST and exact:
                return _Dequantized(codes, node.op_type, number)
        return None

    def _rewrite(self, node: ir.Node, codes: Sequence[ir.Value], rest: list[Operand], first: _Dequantized) -> None:
        """The move of the codes, one part of a Split at a time, and the operation behind it."""
        for index, output in enumerate(node.outputs):
            shape = static_shape(output) or ()
            if is_op(node, "Split"):
                moved = insert(node, "Slice", [codes[0], *_bounds(node, index)], shape)
            else:
                moved = insert(node, node.op_type, [*codes, *rest], shape, attributes_of(node))
            after = insert(node, first.op, [moved, np.float32(first.number)], shape, origins=(node,))
            if first.op == "Mul":
                # the zero point that came before
                self.sink(moved.producer())
            replace(output, after)


def _bounds(split: ir.Node, index: int) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Starts, ends and axes of a Slice that makes an output of a Split."""
    rank = len(static_shape(split.inputs[0]) or ())
    axis = integer(split, "axis", 0) % rank
    sizes = [(static_shape(output) or ())[axis] for output in split.outputs]
    start = sum(sizes[:index])
    return [np.array([each]) for each in (start, start + sizes[index], axis)]


def _fill(pad: ir.Node, scaled: _Dequantized) -> Operand:
    """The code whose number a Pad fills in; None where there is none."""
    if text(pad, "mode", "constant") != "constant":
        return np.zeros((), np.float32)
    stated = pad.inputs[2] if len(pad.inputs) > 2 else None
    number = 0.0 if stated is None else _number(stated)
    if number is None:
        return None
    if scaled.op == "Sub":
        code = np.float32(number + scaled.number)
        return code if np.float32(code - np.float32(scaled.number)) == number else None
    code = np.rint(np.float32(number / scaled.number))
    return code if np.float32(code * np.float32(scaled.number)) == np.float32(number) else None


def _number(value: ir.Value | None) -> float | None:
    """A finite constant of one element."""
    number = single_number(value)
    return number if number is not None and np.isfinite(number) else None
