"""Decide what Binarize<zero = 0>, which is ONNX Sign, means for each value.

Where 0 cannot be reached (an integer accumulator, searched through its float32 chain), or is reached only by the
rounding of a real computation, zero = 1 is the same function and the layer stays binary. Where 0 has a probability,
the value is ternary: it becomes Sign again and its consumers stay real, with the reason on record.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.analysis.thresholds import finite_at_ends
from qcompiler.analysis.zero_mass import ZeroMass
from qcompiler.ir.provenance import NOTE, REASON, label
from qcompiler.ir.view import is_quantized_op, number, static_shape
from qcompiler.passes.editing import insert, replace
from qcompiler.passes.result import PassResult, Refusal

_BY_ROUNDING = "sign(0) = 0 is taken as +1: 0 is reached only by rounding of real numbers"


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


def _decide(node: ir.Node, mass: ZeroMass) -> tuple[str, str]:
    """(why 0 must stay distinct, or "", and a note on what was assumed)."""
    source = node.inputs[0]
    atoms = mass.atoms(source)
    if atoms.lattice is not None and finite_at_ends(atoms.ops, atoms.lattice):
        attained = atoms.zero_channels()
        if not attained.any():
            return "", _BY_ROUNDING if np.any(atoms.slack) else ""
        channels = np.flatnonzero(attained)
        return (
            f"sign(0) = 0 is attained: the sums of {label(atoms.origin)} reach 0 in {len(channels)} of "
            f"{attained.size} channels (first: {channels[0]}); use x >= 0 instead of sign, or an odd number of inputs",
            "",
        )
    if atoms.zero:
        return (
            f"sign(0) = 0 may be attained: the input of the sign comes from {label(source.producer())}, which can be "
            "exactly 0; use x >= 0 instead of sign",
            "",
        )
    return "", _BY_ROUNDING


def _restore_sign(node: ir.Node, reason: str) -> None:
    shape = static_shape(node.outputs[0]) or ()
    output = insert(node, "Sign", [node.inputs[0]], shape)
    output.producer().metadata_props[REASON] = reason
    replace(node.outputs[0], output)
    node.graph.remove(node, safe=True)
