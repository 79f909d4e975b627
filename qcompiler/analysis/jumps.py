"""Where a graph jumps, and rounding errors alone may decide to which side.

A jump is an op whose result changes all at once where its operand passes some number: a sign, a rounding, a comparison,
an index of the largest. Correct code may land on either side where the operand is a sum of real numbers, for the order
of the terms is not defined. It may not where the operand is exact: integers, and what single operations of IEEE
arithmetic, each rounded once, make of exact values. A value behind a jump is exact again, given the side it took.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir.traits import LAYER, Trait, has
from qcompiler.ir.view import constant_of, dtype_of, is_op, is_quantized_op

_FIRST = (0,)
_BOTH = (0, 1)


def sources(graph: ir.Graph, *, exact: bool) -> dict[str, ir.Value]:
    """The operands of jumps that rounding errors may carry to the other side; with `exact`, also the exact ones."""
    exactness = Exactness()
    operands = {str(value.name): value for node in graph for value in jumping_operands(node)}
    return {name: value for name, value in operands.items() if exact or not exactness.holds(value)}


def jumping_operands(node: ir.Node) -> list[ir.Value]:
    """The real operands at which the result of `node` jumps."""
    jumps = has(node, Trait.JUMPS) or _truncates(node) or _gives_positions(node)
    positions = _BOTH if has(node, Trait.COMPARES) else _FIRST if jumps else ()
    operands = [node.inputs[position] for position in positions if position < len(node.inputs)]
    return [each for each in operands if each is not None and constant_of(each) is None and _is_real(each)]


def steps(graph: ir.Graph) -> dict[str, float]:
    """How far apart the numbers are at which an operand of a jump jumps: infinite where there is one of them."""
    found: dict[str, float] = {}
    for node in graph:
        step = _step(node)
        for value in jumping_operands(node):
            found[str(value.name)] = min(step, found.get(str(value.name), step))
    return found


def _step(node: ir.Node) -> float:
    """The step of a rounding; infinite for other ops, and where it is known at run time only."""
    if is_quantized_op(node, "Quantize") or is_op(node, "QuantizeLinear"):
        scale = constant_of(node.inputs[1])
        return math.inf if scale is None else float(np.min(scale))
    return 1.0 if is_op(node, "Round", "Floor", "Ceil") or _truncates(node) else math.inf


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
        if node is None or not _is_real(value) or has(node, Trait.LANDS):
            return True
        if self._ranges.codes(value) is not None:
            return True
        if has(node, LAYER):
            return self._ranges.lattice(node) is not None
        kept = has(node, Trait.ROUNDED_ONCE, Trait.MOVES, Trait.JOINS)
        return kept and all(self._known[each] for each in node.inputs if each is not None)


def _truncates(node: ir.Node) -> bool:
    return is_op(node, "Cast") and not _is_real(node.outputs[0])


def _gives_positions(node: ir.Node) -> bool:
    return is_op(node, "MaxPool") and len(node.outputs) > 1


def _is_real(value: ir.Value) -> bool:
    return bool(np.issubdtype(dtype_of(value), np.floating))
