"""Choose packed (channels-last) or dense (as ONNX lays it out) for every op that can run in both, by minimum cut.

Kernels of ours read and write images channels-last, with binary codes packed; the caller's tensors and ops without a
kernel are dense. What lies between, such as concatenations, reductions and activation functions, runs in either
layout. Every value that crosses from one side to the other is converted, which costs its bytes. So the cheapest
assignment is a minimum cut: kernels at the source, the caller at the sink, an edge of the value's bytes between each
producer and consumer.

The graph itself does not change: nodes on the packed side are marked in their metadata, and lowering reads the mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, prod
from typing import Any

import networkx as nx
import onnx_ir as ir

from qcompiler.ir import ops
from qcompiler.ir.axis_order import CHANNELS_LAST, LAYOUT, can_be_channels_last, is_flexible
from qcompiler.ir.view import constant_of, static_shape
from qcompiler.passes.result import PassResult

PACKED, DENSE = "packed", "dense"
KERNELS = ("Conv", "MaxPool", "AveragePool")
# ops in a row that are told apart by less than a number
_LONGEST = 15


@dataclass(frozen=True)
class ChooseLayouts:
    """Mark the nodes that run channels-last."""

    name: str = "choose-layouts"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Mark in place; counts changed marks."""
        graph = model.graph
        packed = packed_side(graph)
        changed = 0
        for node in graph:
            wanted = is_flexible(node) and node in packed
            marked = node.metadata_props.get(LAYOUT) == CHANNELS_LAST
            if wanted and not marked:
                node.metadata_props[LAYOUT] = CHANNELS_LAST
            elif marked and not wanted:
                del node.metadata_props[LAYOUT]
            changed += wanted != marked
        return PassResult(self.name, changed)


def packed_side(graph: ir.Graph) -> set[ir.Node]:
    """The nodes on the packed side of the minimum cut."""
    network = _network(graph)
    if PACKED not in network or DENSE not in network:
        return {node for node in graph if PACKED in network and node in network}
    _, (packed, _) = nx.minimum_cut(network, PACKED, DENSE)
    return {node for node in packed if node != PACKED}


def _network(graph: ir.Graph) -> nx.DiGraph[Any]:
    network: nx.DiGraph[Any] = nx.DiGraph()
    haste = _haste(graph)
    for value in (*graph.inputs, *(v for node in graph for v in node.outputs)):
        producer = value.producer()
        if constant_of(value) is not None:
            continue
        readers: list[Any] = list(dict.fromkeys(usage.node for usage in value.uses()))
        if value.is_graph_output():
            readers.append(DENSE)
        for reader in readers:
            _connect(network, DENSE if producer is None else producer, reader, _cost(value) + haste.get(value, 0))
    for node in graph:
        side = _forced(node)
        # an edge that is there already keeps its capacity unless told otherwise
        if side == PACKED:
            network.add_edge(PACKED, node, capacity=inf)
        elif side == DENSE:
            network.add_edge(node, DENSE, capacity=inf)
    return network


def _haste(graph: ir.Graph) -> dict[ir.Value, int]:
    """A few bytes for converting early what has met ops of any layout alone since it came in.

    Between equal costs, such ops then run as the caller has it: an image of three channels fills no vector otherwise.
    """
    result = dict.fromkeys(graph.inputs, _LONGEST)
    for node in graph:
        operands = [value for value in node.inputs if value is not None and constant_of(value) is None]
        if operands and all(value in result for value in operands) and _forced(node) is None:
            result |= dict.fromkeys(node.outputs, max(min(result[value] for value in operands) - 1, 0))
    return result


def _connect(network: nx.DiGraph[Any], a: Any, b: Any, cost: int) -> None:
    """An edge in both directions, since a conversion costs the same either way."""
    for tail, head in ((a, b), (b, a)):
        if tail != DENSE and head != PACKED:
            known = network.get_edge_data(tail, head, {"capacity": 0})["capacity"]
            network.add_edge(tail, head, capacity=known + cost)


def _forced(node: ir.Node) -> str | None:
    """Where a node must run; None if it can run in both."""
    if node.domain == ops.DOMAIN or node.op_type in KERNELS:
        rank_four = len(static_shape(node.outputs[0]) or ()) == 4
        return PACKED if rank_four else None
    return None if can_be_channels_last(node) else DENSE


def _cost(value: ir.Value) -> int:
    """Bytes to convert a value; nothing where both layouts are the same bytes."""
    shape = static_shape(value)
    if shape is None or len(shape) != 4 or shape[2] * shape[3] == 1 or shape[1] == 1:
        return 0
    return prod(shape) * 4
