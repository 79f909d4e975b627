"""Proving a pass on data: the graph before and after it, in onnxruntime, on the same random inputs.

An exact pass must leave every graph output equal, bit for bit up to the sign of zero. A pass with a bound is compared
piece by piece between discontinuous ops, because one rounding can flip a sign and a flip is no small difference: the
outputs of such ops are fed with the values of the graph before, and what goes into them is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import VerificationFailed
from qcompiler.ir import oracle
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import is_quantized_op, number, static_shape

Array = npt.NDArray[Any]
Arrays = dict[str, Array]


def check_exact(name: str, before: Mapping[str, Array], after: Mapping[str, Array]) -> None:
    """Raise VerificationFailed, naming the pass, unless the outputs are equal."""
    for output, expected in before.items():
        found = after[output]
        if not np.array_equal(expected, found, equal_nan=expected.dtype.kind == "f"):
            count = int(np.sum(expected != found)) if expected.shape == found.shape else expected.size
            raise VerificationFailed(
                f"pass '{name}' is exact, but changed {count} of {expected.size} values of output '{output}'",
                remedy="report the model, and compile without --verify to see the graph with --save-ir",
            )


@dataclass(frozen=True)
class Evaluated:
    """A graph, and what it gives on some inputs: its outputs, or all that `watched` names."""

    model: ir.Model
    values: Arrays

    @property
    def outputs(self) -> Arrays:
        """The outputs of the graph, by name."""
        return {str(value.name): self.values[str(value.name)] for value in self.model.graph.outputs}


def watched(model: ir.Model) -> list[str]:
    """The names of outputs, and of what goes into discontinuous ops and comes out of them."""
    jumps = _jumps(model)
    names = [str(value.name) for value in model.graph.outputs]
    return list(dict.fromkeys([*names, *jumps, *(str(node.inputs[0].name) for node in jumps.values())]))


def check_bound(name: str, bound: float, before: Evaluated, after: Evaluated, inputs: Mapping[str, Array]) -> None:
    """Raise VerificationFailed if a value before a jump, or an output, differs by more than `bound` of the largest.

    before, after: the graphs and what they give on `inputs`, all that is `watched`.
    """
    left, right = _pieces(before, after, inputs)
    for key in left.keys() & right.keys():
        expected, found = left[key], right[key]
        if expected.size == 0 or expected.dtype.kind != "f":
            continue
        largest = float(np.nanmax(np.abs(np.where(np.isfinite(expected), expected, 0))))
        with np.errstate(invalid="ignore"):  # equal infinities
            difference = float(np.nanmax(np.abs(expected.astype(np.float64) - found)))
        if difference > bound * max(largest, 1e-30):
            raise VerificationFailed(
                f"pass '{name}' changed '{key}' by {difference:.3g}, more than {bound:g} of its largest {largest:.3g}"
            )


def _pieces(before: Evaluated, after: Evaluated, inputs: Mapping[str, Array]) -> tuple[Arrays, Arrays]:
    """What goes into the jumps of both graphs, and their outputs, on equal results of jumps: those of `before`."""
    old, new = _jumps(before.model), _jumps(after.model)
    jumps = sorted(name for name in old.keys() & new.keys() if _same(old[name], new[name]))
    if not jumps:
        return before.outputs, after.outputs
    given = {name: before.values[name] for name in jumps}
    left = {key: before.values[name] for key, name in _wanted(before.model, old, jumps).items()}
    return left, _run_pieces(after.model, jumps, {**inputs, **given})


def _jumps(model: ir.Model) -> dict[str, ir.Node]:
    """Discontinuous nodes by the name of their output."""
    return {
        str(node.outputs[0].name): node
        for node in model.graph
        if has(node, Trait.JUMPS, Trait.COMPARES) and node.inputs[0] is not None
    }


def _same(before: ir.Node, after: ir.Node) -> bool:
    """Whether two jumps of one name give the same kind of value; a pass may have moved the name to another node."""
    return _kind(before) == _kind(after) and static_shape(before.outputs[0]) == static_shape(after.outputs[0])


def _kind(jump: ir.Node) -> str:
    """The op of a jump; a sign that gives 0 has two."""
    ternary = is_quantized_op(jump, "Binarize") and number(jump, "zero", 1.0) == 0
    return "Sign" if ternary else str(jump.op_type)


def _wanted(model: ir.Model, nodes: Mapping[str, ir.Node], jumps: list[str]) -> dict[str, str]:
    """Names of graph outputs, and of the inputs of `jumps` by the name of the jump."""
    wanted = {str(value.name): str(value.name) for value in model.graph.outputs if str(value.name) not in jumps}
    for name in jumps:
        if nodes[name].inputs[0].producer() is not None:
            wanted[name] = str(nodes[name].inputs[0].name)
    return wanted


def _run_pieces(model: ir.Model, jumps: list[str], fed: Arrays) -> Arrays:
    """Values of graph outputs, and of the inputs of `jumps` by the name of the jump, with the jumps' outputs given."""
    cut = model.clone()
    nodes = _jumps(cut)
    wanted = _wanted(cut, nodes, jumps)
    for name in jumps:
        output = nodes[name].outputs[0]
        given = ir.Value(name=name, shape=output.shape, type=output.type)
        cut.graph.inputs.append(given)
        output.replace_all_uses_with(given, replace_graph_outputs=True)
        cut.graph.remove(nodes[name])
    values = oracle.run(cut, fed, list(wanted.values())) if wanted else {}
    return {key: values[name] for key, name in wanted.items()}
