"""Codes behind an activation: x = scale * codes + offset, with factors and a zero point known at run time only.

What lies between quantizer and layer is made again on the codes: what moves elements, pools, sums of codes of one grid,
means (of n codes: their sum over n), and what keeps levels levels. Scales may differ between channels; where a Concat
joins codes of scales that are multiples of one, all codes are counted in that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.facts import Facts
from qcompiler.analysis.moves import moves_elements
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.analysis.weights import WIDEST
from qcompiler.analysis.windows import mean_count
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, integer, ints, is_op, static_shape, text
from qcompiler.passes.common_scale import counted, per_part
from qcompiler.passes.editing import Operand, add_constant, again, insert
from qcompiler.passes.peeled import Factor, Peeled, aligned, moved_by, times, transposed, whole

_THROUGH = ("Add", "Sub", "Mul", "Div", "Concat", "Where", "Pad", "Split", "Neg", "Abs", "Relu", "Clip")


class Peeler(Facts[Peeled | None]):
    """The codes behind scaled activations, known to be integers; None where there are none.

    Finding them re-makes the ops in between, once per value.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ranges = IntegerRanges()

    def _operands(self, value: ir.Value) -> list[ir.Value]:
        node = value.producer()
        if node is None or self._narrow(Peeled(value, np.asarray(1.0))) is not None:
            return []
        through = is_op(node, *_THROUGH) or has(node, Trait.AVERAGES) or moves_elements(node)
        return [each for each in node.inputs if each is not None and constant_of(each) is None] if through else []

    def _computed(self, value: ir.Value) -> Peeled | None:
        codes = self.ranges.codes(value)
        found = None if codes is not None and codes.bits <= WIDEST else self._peel(value)
        return Peeled(value, np.asarray(1.0)) if found is None and codes is not None else found

    def _peel(self, value: ir.Value) -> Peeled | None:
        node = value.producer()
        if is_op(node, "Split"):
            return self._slice(node, value)
        if node is None or static_shape(value) is None or len(node.outputs) != 1:
            return None
        if is_op(node, "Mul", "Div"):
            return self._scaled(node) or self._narrow(self._multiplied(node))
        if is_op(node, "Add", "Sub"):
            return self._narrow(self._shifted(node) or self._shifted_later(node) or self._summed(node))
        if is_op(node, "Concat", "Where"):
            return self._joined(node)
        if is_op(node, "Pad"):
            return self._padded(node)
        if is_op(node, "Neg", "Abs", "Relu", "Clip"):
            return self._clipped(node)
        if has(node, Trait.AVERAGES):
            return self._narrow(self._averaged(node))
        return self._moved(node) if moves_elements(node) else None

    def _narrow(self, found: Peeled | None) -> Peeled | None:
        """Codes that a layer on integers reads; None for wider ones."""
        codes = None if found is None else self.ranges.codes(found.codes)
        return found if codes is not None and codes.bits <= WIDEST else None

    def _scaled(self, node: ir.Node) -> Peeled | None:
        for position, other in ((0, 1), (1, 0)) if is_op(node, "Mul") else ((0, 1),):
            operand, factor = node.inputs[position], node.inputs[other]
            inner = self.of(operand) if static_shape(operand) == static_shape(node.outputs[0]) else None
            if inner is None:
                continue
            constant = constant_of(factor)
            if constant is not None:
                return times(inner, constant, node)
            if _repeats(factor, operand):
                return replace(inner, factors=(*inner.factors, Factor(factor, is_op(node, "Div"))))
        return None

    def _multiplied(self, node: ir.Node) -> Peeled | None:
        """Products of codes."""
        inner = [self.of(value) for value in node.inputs]
        left, right = inner
        if is_op(node, "Div") or left is None or right is None or not (left.uniform and right.uniform):
            return None
        factors = (*left.factors, *right.factors)
        return Peeled(again(node, [left.codes, right.codes]), left.scale * right.scale, factors)

    def _shifted(self, node: ir.Node) -> Peeled | None:
        """Codes plus a constant of whole steps."""
        for position, other in ((0, 1), (1, 0)):
            constant = constant_of(node.inputs[other])
            if constant is None or static_shape(node.inputs[position]) != static_shape(node.outputs[0]):
                continue
            inner = self.of(node.inputs[position])
            if inner is None or not inner.settled or constant.dtype != np.float32:
                return None
            steps = whole(constant / inner.scale) if inner.pure else None
            if steps is None:
                return moved_by(inner, constant, node, swapped=position == 1)
            if not steps.any() and position == 0:
                return inner
            operands: list[Operand] = [inner.codes, steps]
            return replace(inner, codes=again(node, operands if position == 0 else operands[::-1]))
        return None

    def _shifted_later(self, node: ir.Node) -> Peeled | None:
        """Codes less a zero point of dynamic quantizers."""
        operand, zero = node.inputs
        if is_op(node, "Add") or static_shape(operand) != static_shape(node.outputs[0]) or not _repeats(zero, operand):
            return None
        inner = self.of(operand)
        plain = inner is not None and inner.uniform and inner.settled and inner.scale == 1
        return replace(inner, zero=zero) if inner is not None and plain and self._narrow(inner) else None

    def _rising(self, inner: Peeled) -> bool:
        """Whether larger codes are larger numbers everywhere."""
        factors = [self.ranges.interval(factor.value) for factor in inner.factors]
        return inner.zero is None and bool((inner.scale > 0).all()) and all(each.low >= 0 for each in factors)

    def _summed(self, node: ir.Node) -> Peeled | None:
        """Sums of codes, counted in the smaller scale."""
        inner = [self.of(value) for value in node.inputs]
        found = [each for each in inner if each is not None]
        together = counted(node, found) if len(found) == len(inner) else None
        return None if together is None else replace(together[1], codes=again(node, together[0]))

    def _joined(self, node: ir.Node) -> Peeled | None:
        """Codes of several operands, in one scale if that leaves few bits; else of one scale for each part."""
        first = 1 if is_op(node, "Where") else 0
        inner = self._parts(node, node.inputs[first:])
        if inner is None:
            return None
        joined = counted(node, inner)
        if joined is not None:
            found = replace(joined[1], codes=again(node, [*node.inputs[:first], *joined[0]]))
            if self._narrow(found) is not None or len({float(each.scale) for each in inner}) == 1:
                return found
        return per_part(node, inner) if is_op(node, "Concat") else None

    def _parts(self, node: ir.Node, values: Sequence[ir.Value]) -> list[Peeled] | None:
        """The operands of a Concat or Where; constants are multiples of the scale of another one."""
        inner = [None if constant_of(value) is not None else self.of(value) for value in values]
        model = next((each for each in inner if each is not None and each.uniform and _fits(node, each)), None)
        found = []
        for value, peeled in zip(values, inner, strict=True):
            each, constant = peeled, constant_of(value)
            if constant is not None and model is not None and constant.dtype == np.float32:
                steps = whole(constant / model.scale) if model.settled or not constant.any() else None
                each = None if steps is None else replace(model, codes=self._stored(node, steps))
            if each is None or not each.pure or not _fits(node, each):
                return None
            found.append(each)
        return found

    def _stored(self, node: ir.Node, steps: npt.NDArray[np.float32]) -> ir.Value:
        assert isinstance(node.graph, ir.Graph)
        return add_constant(node.graph, steps, f"{node.name}.codes")

    def _padded(self, node: ir.Node) -> Peeled | None:
        inner = self.of(node.inputs[0])
        given = len(node.inputs) > 2 and node.inputs[2] is not None
        fill = constant_of(node.inputs[2]) if given else np.zeros((), np.float32)
        if inner is None or not inner.moves or not inner.pure or fill is None:
            return None
        if text(node, "mode", "constant") != "constant" or not fill.any():
            steps: Operand = node.inputs[2] if given else None
            return None if inner.scale.ndim else replace(inner, codes=again(node, _inputs(node, inner.codes, steps)))
        steps = whole(fill / inner.scale) if inner.uniform and inner.settled else None
        return None if steps is None else replace(inner, codes=again(node, _inputs(node, inner.codes, steps)))

    def _clipped(self, node: ir.Node) -> Peeled | None:
        inner = self.of(node.inputs[0])
        if inner is None or is_op(node, "Neg"):
            return None if inner is None else replace(inner, scale=-inner.scale, offset=-inner.offset)
        inner = _upright(inner, node)
        if not (self._rising(inner) and inner.pure):
            return None
        operands: list[Operand] = [inner.codes]
        if is_op(node, "Clip"):
            bounds = [self._bound(node, position, inner) for position in (1, 2)]
            if any(bound is None for bound in bounds):
                return None
            operands += bounds
        return replace(inner, codes=again(node, operands))

    def _bound(self, node: ir.Node, position: int, inner: Peeled) -> Operand:
        """A bound of a Clip in steps, or beyond all codes; None where it lies between two."""
        value = node.inputs[position] if position < len(node.inputs) else None
        codes, side = self.ranges.codes(inner.codes), (-1, 1)[position - 1]
        bound = np.asarray(side * np.inf) if value is None else constant_of(value)
        if bound is None or bound.size != 1 or inner.scale.ndim or codes is None or np.isnan(bound).any():
            return None
        if inner.factors and np.isfinite(bound).all() and bound.any():
            return None
        steps = float(bound.reshape(())) / float(inner.scale)
        end = codes.low if side < 0 else codes.high
        if (steps - end) * side >= 0:
            return np.float32(end)
        found = whole(np.asarray(steps))
        return None if found is None else np.float32(found)

    def _averaged(self, node: ir.Node) -> Peeled | None:
        """Means of n codes are their sum over n, and n times the mean is next to the sum."""
        inner, count = self.of(node.inputs[0]), mean_count(node)
        if inner is None or count is None or not (inner.moves and inner.pure and _stays(inner, node)):
            return None
        shape = static_shape(node.outputs[0]) or ()
        mean = again(node, [inner.codes, *node.inputs[1:]])
        total = insert(node, "Round", [insert(node, "Mul", [mean, np.float32(count)], shape)], shape)
        return replace(inner, codes=total, scale=inner.scale / count)

    def _moved(self, node: ir.Node) -> Peeled | None:
        inner = self.of(node.inputs[0])
        if inner is None or not inner.moves:
            return None
        if is_op(node, "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin"):
            inner = _upright(inner, node)
            if not self._rising(inner):
                return None
        found = replace(inner, codes=again(node, [inner.codes, *node.inputs[1:]]))
        if is_op(node, "Transpose") and not inner.even:
            order = ints(node, "perm", range(len(static_shape(node.outputs[0]) or ()))[::-1])
            return replace(found, scale=transposed(inner.scale, order), offset=transposed(inner.offset, order))
        return found if _stays(inner, node) else None

    def _slice(self, split: ir.Node, value: ir.Value) -> Peeled | None:
        """One part of a Split."""
        inner = self.of(split.inputs[0])
        shapes = [static_shape(output) for output in split.outputs]
        if inner is None or not (inner.moves and inner.even) or any(shape is None for shape in shapes):
            return None
        axis = integer(split, "axis", 0) % len(shapes[0] or ())
        ends = np.cumsum([(shape or ())[axis] for shape in shapes])
        part = list(split.outputs).index(value)
        bounds = [np.asarray([bound]) for bound in ((0, *ends)[part], ends[part], axis)]
        return replace(inner, codes=insert(split, "Slice", [inner.codes, *bounds], shapes[part] or ()))


def _repeats(factor: ir.Value, operand: ir.Value) -> bool:
    """Whether one run-time number is repeated along all axes along which a layer may sum."""
    shape, togethershape = static_shape(factor), static_shape(operand)
    if shape is None or togethershape is None or factor.dtype != ir.DataType.FLOAT or not togethershape:
        return False
    return all(extent == 1 for extent in shape) or (len(shape) == len(togethershape) and shape[-1] == 1)


def _fits(node: ir.Node, inner: Peeled) -> bool:
    """Whether factors at run time are those of the same rows behind a node that keeps elements where they are."""
    return inner.moves or is_op(node, "Where")


def _stays(inner: Peeled, node: ir.Node) -> bool:
    """Whether scales of channels are those of the same channels behind the node."""
    rank = len(static_shape(node.inputs[0]) or ())
    parts = [aligned(part, rank).shape for part in (inner.scale, inner.offset)]
    channels = all(extent == 1 for shape in parts for index, extent in enumerate(shape) if index != 1)
    return inner.even or is_op(node, "Identity") or (has(node, Trait.SLIDES) and channels)


def _inputs(node: ir.Node, codes: ir.Value, fill: Operand) -> list[Operand]:
    """The operands of a Pad of codes."""
    return [codes, node.inputs[1], *([fill] if len(node.inputs) > 2 or fill is not None else []), *node.inputs[3:]]


def _upright(inner: Peeled, anchor: ir.Node) -> Peeled:
    """The same with negated codes, if all scales are negative."""
    if inner.zero is not None or not (inner.scale < 0).all():
        return inner
    codes = insert(anchor, "Neg", [inner.codes], static_shape(inner.codes) or ())
    return replace(inner, codes=codes, scale=-inner.scale)
