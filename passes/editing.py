"""Rewriting an onnx_ir graph: new constants and nodes, replacement, removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir import ops, provenance
from qcompiler.ir.view import static_shape

Array = npt.NDArray[Any]
Operand: TypeAlias = ir.Value | Array | np.generic | None

_NAMES = "qcompiler.names"


def forget_names(graph: ir.Graph) -> None:
    """Drop the record of names in use, after someone else may have added some."""
    graph.meta.pop(_NAMES, None)


def _fresh_name(graph: ir.Graph, stem: str) -> str:
    taken: set[str] = graph.meta.setdefault(_NAMES, set())
    if not taken:
        taken.update(graph.initializers, (value.name for value in graph.inputs))
        for node in graph.all_nodes():
            taken.update((node.name, *(output.name for output in node.outputs)))
    name, count = stem, 0
    while name in taken:
        count += 1
        name = f"{stem}.{count}"
    taken.add(name)
    return name


def add_constant(graph: ir.Graph, array: Array, stem: str) -> ir.Value:
    """A new initializer named after `stem`."""
    name = _fresh_name(graph, stem)
    # ascontiguousarray would give a 0-d array one axis
    tensor = ir.tensor(np.asarray(array, order="C"), name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """The attributes of a node as `insert` takes them."""
    return {name: attribute.value for name, attribute in node.attributes.items()}


def insert(
    anchor: ir.Node,
    op: str,
    inputs: Sequence[Operand],
    shape: Sequence[int],
    attributes: Mapping[str, Any] | None = None,
    *,
    origins: Sequence[ir.Node] = (),
    dtype: ir.DataType = ir.DataType.FLOAT,
) -> ir.Value:
    """Insert a node just before `anchor` and return its output.

    Arrays and numpy scalars among the inputs become initializers, None is an absent input; `op` in the `qcompiler::`
    domain is recognised by name. `origins` (default: the anchor) are the nodes whose names and remarks it inherits.
    """
    graph = anchor.graph
    assert isinstance(graph, ir.Graph)
    origins = origins or (anchor,)
    stem = f"{next(iter(provenance.sources(origins[0])), 'node')}.{op.lower()}"
    values = [
        add_constant(graph, np.asarray(i), f"{stem}.constant") if isinstance(i, (np.ndarray, np.generic)) else i
        for i in inputs
    ]
    domain = ops.DOMAIN if op in ops.names() else ""
    name = _fresh_name(graph, stem)
    node = ir.node(op, values, attributes=dict(attributes or {}), domain=domain, name=name)
    output: ir.Value = node.outputs[0]
    output.name = _fresh_name(graph, f"{name}.output")
    output.shape = ir.Shape(shape)
    output.type = ir.TensorType(dtype)
    provenance.add_sources(node, origins)
    provenance.carry_remarks(node, origins)
    graph.insert_before(anchor, node)
    return output


def can_replace(old: ir.Value, new: ir.Value) -> bool:
    """False where both names must survive: `old` is a graph output and `new` an input, constant or output."""
    fixed = new.is_graph_input() or new.is_initializer() or new.is_graph_output()
    return not (old.is_graph_output() and fixed)


def replace(old: ir.Value, new: ir.Value, *, keep_name: bool = True) -> None:
    """Let all readers of `old` read `new`; `new` takes over the name (always, if `old` is a graph output)."""
    assert can_replace(old, new)
    graph = old.graph
    assert isinstance(graph, ir.Graph)
    fixed = new.is_graph_input() or new.is_initializer() or new.is_graph_output()
    takes_name = old.is_graph_output() or (keep_name and not fixed)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if takes_name:
        name = old.name
        old.name = _fresh_name(graph, f"{name}.replaced")
        new.name = name


def remove_dead(graph: ir.Graph) -> int:
    """Remove nodes and initializers that no graph output needs; the number of nodes removed."""
    removed = 0
    for node in reversed(list(graph)):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
            removed += 1
    for value in list(graph.initializers.values()):
        if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
            graph.initializers.pop(value.name)
    return removed


def again(node: ir.Node, operands: Sequence[Operand]) -> ir.Value:
    """The node once more, on other operands."""
    return insert(node, node.op_type, operands, static_shape(node.outputs[0]) or (), attributes_of(node))
