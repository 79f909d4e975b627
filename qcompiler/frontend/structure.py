"""The graph as a graph: every value defined once, no cycles, nodes in an order in which they can run."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import onnx

from qcompiler.errors import InvalidModel


def label(node: onnx.NodeProto) -> str:
    """The name under which the user knows a node: its own, or that of its first output."""
    return str(node.name or next((name for name in node.output if name), node.op_type))


def check_definitions(graph: onnx.GraphProto) -> None:
    """Refuse values that are defined twice: inputs, initializers and node outputs share one name space."""
    defined: dict[str, str] = {}
    for value in graph.input:
        _define(defined, value.name, "a graph input")
    inputs = set(defined)
    for tensor in graph.initializer:
        if tensor.name in inputs:
            inputs.remove(tensor.name)  # older files list initializers among the inputs
            continue
        _define(defined, tensor.name, "an initializer")
    for node in graph.node:
        for name in node.output:
            if name:
                _define(defined, name, f"node '{label(node)}'")


def sorted_nodes(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """`nodes` in topological order, otherwise in the order given; a cycle is an InvalidModel that names its nodes."""
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{producer[name] for name in references(node) if name in producer} for node in nodes]
    users: list[list[int]] = [[] for _ in nodes]
    for index, sources in enumerate(needs):
        for source in sources:
            users[source].append(index)
    waiting = [len(sources) for sources in needs]
    ready = [index for index, count in enumerate(waiting) if count == 0]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(nodes[index])
        for user in users[index]:
            waiting[user] -= 1
            if waiting[user] == 0:
                heapq.heappush(ready, user)
    if len(order) < len(nodes):
        _refuse_cycle(nodes, needs, waiting)
    return order


def references(node: onnx.NodeProto) -> Iterator[str]:
    """Names of all values a node reads, those its subgraphs take from outside included."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        inner = {name for part in graph.node for name in part.output} | {value.name for value in graph.input}
        inner |= {tensor.name for tensor in graph.initializer}
        for part in graph.node:
            yield from (name for name in references(part) if name not in inner)
        yield from (value.name for value in graph.output if value.name not in inner)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _define(defined: dict[str, str], name: str, by: str) -> None:
    if not name:
        raise InvalidModel(f"{by} has no name", remedy="the file is damaged; export it again")
    if name in defined:
        raise InvalidModel(
            f"value '{name}' is defined by {defined[name]} and again by {by}", remedy="give every value one definition"
        )
    defined[name] = by


def _refuse_cycle(nodes: Sequence[onnx.NodeProto], needs: Sequence[set[int]], waiting: Sequence[int]) -> None:
    index = next(index for index, count in enumerate(waiting) if count)
    path: list[int] = []
    while index not in path:
        path.append(index)
        index = next(source for source in needs[index] if waiting[source])
    cycle = [label(nodes[step]) for step in reversed(path[path.index(index) :])]
    shown = " -> ".join(cycle[:8])
    raise InvalidModel(f"the graph has a cycle: {shown}", node=cycle[0], remedy="an ONNX graph has no cycles")
