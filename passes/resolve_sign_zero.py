"""Decide what Binarize<zero = 0>, which is ONNX Sign, means for each value.

Where 0 cannot be reached (an integer accumulator, searched through its float32 chain), or is reached only by the
rounding of a real computation, zero = 1 is the same function and the layer stays binary. Where 0 has a probability,
the value is ternary: it becomes Sign again and its consumers stay real, with the reason on record.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.ir.provenance import NOTE, REASON, label
from qcompiler.ir.view import constant_of, number
from qcompiler.passes.editing import insert, is_op, is_quantized_op, replace, static_shape
from qcompiler.passes.elementwise import Step, step_of
from qcompiler.passes.ranges import IntegerRanges, Lattice
from qcompiler.passes.result import PassResult, Refusal
from qcompiler.passes.thresholds import attains_zero, finite_at_ends
from qcompiler.passes.zero_mass import ZeroMass

_THROUGH = ("MaxPool", "Reshape", "Transpose", "Identity")


@dataclass(frozen=True)
class ResolveSignZero:
    """Turn Binarize<zero = 0> into Binarize where that is exact, and back into Sign where it is not."""

    name: str = "resolve-sign-zero"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Decide in topological order, so that each decision can rely on those before it."""
        rewrites, refusals = 0, []
        if not any(_is_undecided(node) for node in model.graph):
            return PassResult(self.name, 0)
        mass = ZeroMass(IntegerRanges())
        for node in list(model.graph):
            if not _is_undecided(node):
                mass.atoms(node.outputs[0])
                continue
            problem, note = _decide(node, mass)
            if problem:
                _restore_sign(node, problem)
                refusals.append(Refusal(node.name or "", problem))
                continue
            node.attributes["zero"] = ir.AttrFloat32("zero", 1.0)
            if note:
                node.metadata_props[NOTE] = note
            rewrites += 1
        return PassResult(self.name, rewrites, tuple(refusals))


def _is_undecided(node: ir.Node) -> bool:
    return is_quantized_op(node, "Binarize") and number(node, "zero", 1.0) == 0


def accumulator_of(value: ir.Value, ranges: IntegerRanges) -> tuple[ir.Node, tuple[Step, ...], Lattice] | None:
    """The integer accumulator behind `value`, and the chain from it; looks through pools and layout changes."""
    path: list[ir.Node] = []
    node = value.producer()
    while node is not None and not _accumulates(node):
        operands = [i for i in node.inputs if i is not None and constant_of(i) is None]
        if len(operands) != 1:
            return None
        path.append(node)
        node = operands[0].producer()
    if node is None or (lattice := ranges.lattice(node)) is None:
        return None
    steps = _steps(node, path)
    return None if steps is None else (node, steps, lattice)


def _accumulates(node: ir.Node) -> bool:
    return is_op(node, "Conv", "MatMul") or is_quantized_op(node, "BinaryConv", "BinaryMatMul")


def _steps(start: ir.Node, path: list[ir.Node]) -> tuple[Step, ...] | None:
    """Steps of the path from the accumulator on; layout changes must keep the channel axis where it is."""
    value = start.outputs[0]
    axis = 1 if "Conv" in start.op_type else -1
    steps = []
    for node in reversed(path):
        if is_op(node, *_THROUGH):
            before, after = static_shape(value), static_shape(node.outputs[0])
            if before is None or after is None or len(after) < 2:
                return None
            if before[0] != after[0] or before[axis] != after[axis]:
                return None
            if is_op(node, "Transpose") or (is_op(node, "Reshape") and len(before) > 2 and len(after) > 2):
                return None
        else:
            step = step_of(node, value, axis)
            if isinstance(step, str):
                return None
            steps.append(step)
        value = node.outputs[0]
    return tuple(steps)


def _decide(node: ir.Node, mass: ZeroMass) -> tuple[str, str]:
    """(why 0 must stay distinct, or "", and a note on what was assumed)."""
    source = node.inputs[0]
    found = accumulator_of(source, mass.ranges)
    if found is not None and finite_at_ends(found[1], found[2]):
        attained = attains_zero(found[1], found[2])
        if not attained.any():
            return "", ""
        channels = np.flatnonzero(attained)
        return (
            f"sign(0) = 0 is attained: the integer sums of {label(found[0])} reach 0 in {len(channels)} of "
            f"{attained.size} channels (first: {channels[0]}); use x >= 0 instead of sign, or an odd number of inputs",
            "",
        )
    if mass.atoms(source).zero:
        return (
            f"sign(0) = 0 may be attained: the input of the sign comes from {label(source.producer())}, which can be "
            "exactly 0; use x >= 0 instead of sign",
            "",
        )
    return "", "sign(0) = 0 is taken as +1: 0 is reached only by rounding of real numbers"


def _restore_sign(node: ir.Node, reason: str) -> None:
    shape = static_shape(node.outputs[0]) or ()
    output = insert(node, "Sign", [node.inputs[0]], shape)
    output.producer().metadata_props[REASON] = reason
    replace(node.outputs[0], output)
    node.graph.remove(node, safe=True)
