"""Remove nodes that pass their input through unchanged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.ir.view import constant_of, integer, ints, is_op, static_shape
from qcompiler.passes.editing import can_replace, insert, remove_dead, replace
from qcompiler.passes.result import PassResult


@dataclass(frozen=True)
class EliminateIdentities:
    """Remove no-ops, and merge chains of Reshape, of Transpose and of Cast where the first does nothing lasting."""

    name: str = "eliminate-identities"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite to the fixed point."""
        rewrites = 0
        while count := sum(_merge(node) + _eliminate(node) for node in list(model.graph)):
            rewrites += count
            remove_dead(model.graph)
        remove_dead(model.graph)
        return PassResult(self.name, rewrites)


def _eliminate(node: ir.Node) -> int:
    if node.graph is None or not node.inputs or node.inputs[0] is None:
        return 0
    source, output = node.inputs[0], node.outputs[0]
    if not output.uses() and not output.is_graph_output():
        return 0
    if any(extra.uses() or extra.is_graph_output() for extra in node.outputs[1:]):
        return 0
    if not _passes_through(node, source, output):
        return 0
    if not can_replace(output, source):
        return _spell_copy(node, source, output)
    replace(output, source, keep_name=False)
    return 1


def _spell_copy(node: ir.Node, source: ir.Value, output: ir.Value) -> int:
    """Between an input and an output of the graph, a copy remains: it is an Identity, whatever it was."""
    shape = static_shape(output)
    if node.op_type == "Identity" or source.dtype is None or shape is None or shape != static_shape(source):
        return 0
    replace(output, insert(node, "Identity", [source], shape, dtype=source.dtype))
    return 1


def _passes_through(node: ir.Node, source: ir.Value, output: ir.Value) -> bool:
    match node.op_type if node.domain in ("", "ai.onnx") else "":
        case "Identity":
            return True
        case "Dropout":
            training = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
            return len(node.inputs) < 3 or node.inputs[2] is None or (training is not None and not training.any())
        case "Cast":
            return source.dtype is not None and integer(node, "to", 0) == source.dtype.value
        case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Expand" | "Tile" | "Slice":
            return _same_shape(source, output) and _forward(node)
        case "Transpose":
            perm = _perm(node)
            return perm is not None and perm == tuple(range(len(perm)))
        case "Pad":
            pads = constant_of(node.inputs[1])
            return pads is not None and not pads.any()
        case "Clip":
            return all(bound is None for bound in node.inputs[1:])
        case "Concat" | "Sum" | "Max" | "Min" | "Mean":
            return len(node.inputs) == 1
    return False


def _same_shape(source: ir.Value, output: ir.Value) -> bool:
    return static_shape(source) is not None and static_shape(source) == static_shape(output)


def _forward(node: ir.Node) -> bool:
    """A Slice of the full shape is the identity unless it walks backwards."""
    if node.op_type != "Slice" or len(node.inputs) < 5 or node.inputs[4] is None:
        return True
    steps = constant_of(node.inputs[4])
    return steps is not None and bool((steps > 0).all())


def _perm(node: ir.Node) -> tuple[int, ...] | None:
    shape = None if node.inputs[0] is None else static_shape(node.inputs[0])
    return None if shape is None else ints(node, "perm", tuple(reversed(range(len(shape)))))


def _merge(node: ir.Node) -> int:
    if node.graph is None or not node.inputs or node.inputs[0] is None:
        return 0
    before, shape = node.inputs[0].producer(), static_shape(node.outputs[0])
    if before is None or shape is None or before.inputs[0] is None:
        return 0
    if is_op(node, "Reshape") and is_op(before, "Reshape"):
        return _merge_reshapes(node, before, shape)
    if is_op(node, "Transpose") and is_op(before, "Transpose"):
        return _merge_transposes(node, before, shape)
    return 0


def _merge_reshapes(node: ir.Node, before: ir.Node, shape: tuple[int, ...]) -> int:
    if 0 in shape:
        return 0
    target = np.asarray(shape, dtype=np.int64)
    merged = insert(node, "Reshape", [before.inputs[0], target], shape, origins=(before, node), dtype=_dtype(node))
    replace(node.outputs[0], merged)
    return 1


def _merge_transposes(node: ir.Node, before: ir.Node, shape: tuple[int, ...]) -> int:
    first, second = _perm(before), _perm(node)
    if first is None or second is None:
        return 0
    perm = [first[axis] for axis in second]
    merged = insert(
        node, "Transpose", [before.inputs[0]], shape, {"perm": perm}, origins=(before, node), dtype=_dtype(node)
    )
    replace(node.outputs[0], merged)
    return 1


def _dtype(node: ir.Node) -> ir.DataType:
    return node.outputs[0].dtype or ir.DataType.FLOAT
