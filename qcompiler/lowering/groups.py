"""Which nodes share a kernel: an anchor and the elementwise chain behind it that becomes its epilogue.

Anchors are convolutions, matrix products with constant weights, poolings, and elementwise chains that end in a
binarization. Everything else is generic (Relax) or an alias (Reshape and its kin, which move no element).
A chain never reorders floating-point operations: it is the graph's own, op by op.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import onnx_ir as ir

from qcompiler.analysis.layers import feeds_integer_layer
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir import ops
from qcompiler.ir.axis_order import is_marked, reduced_axes
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, consumers_of, dependency_graph, integer, is_op, is_quantized_op, shape_of
from qcompiler.lowering.code_moves import can_move, moves_codes, stored, trace
from qcompiler.lowering.code_source import CodeSource, code_source, is_storable
from qcompiler.lowering.forms import through_alias
from qcompiler.lowering.group import Group, GroupKind, is_alias
from qcompiler.lowering.links import ChainOperation, Link, link_of, scalar_operations


def partition(graph: ir.Graph, moves_bytes: bool = False) -> list[Group]:
    """Cover every node by one group, in an order in which they can run.

    moves_bytes: whether kernels move codes in bytes.
    """
    return _Partition(graph, moves_bytes).run()


class _Partition:
    """The contracted dependency graph while groups grow."""

    def __init__(self, graph: ir.Graph, moves_bytes: bool) -> None:
        self.moves_bytes = moves_bytes
        self.nodes = list(graph)
        self.outputs = set(graph.outputs)
        self.graph = dependency_graph(graph)
        self.home: dict[ir.Node, Group] = {}
        self.ranges = IntegerRanges()

    def run(self) -> list[Group]:
        for node in reversed(self.nodes) if self.moves_bytes else ():
            if node not in self.home and moves_codes(node, self.ranges):
                self._move(node)
        for node in self.nodes:
            kind = _anchor_kind(node)
            source = self._source(node.inputs[0]) if kind == "pool" or is_global_pool(node) else None
            if is_global_pool(node) and source is not None:
                kind = "pool"
            if kind is not None and node not in self.home:
                self._grow(Group(kind, [node], start=node.outputs[0], source=source))
        for node in self.nodes:
            if node not in self.home:
                self._map_or_generic(node)
        for group in dict.fromkeys(self.home.values()):
            self._drop_unstored(group)
        return self._ordered()

    def _move(self, last: ir.Node) -> None:
        """Gather the nodes that move codes for `last` alone, as long as one kernel can do it."""
        group = self._moving({last})
        if group is None:
            return
        pending = [last]
        while pending:
            producers = (value.producer() for value in pending.pop().inputs if value is not None)
            for node in producers:
                if node is None or not self._moves_for(node, group):
                    continue
                larger = self._moving({*group.nodes, node})
                if larger is not None:
                    group = larger
                    pending.append(node)
        if self._is_worth_moving(group):
            self._settle(group)

    def _moves_for(self, node: ir.Node, group: Group) -> bool:
        """Whether a node moves codes for a group alone."""
        if node in group.nodes or node in self.home or not moves_codes(node, self.ranges):
            return False
        return not any(out.is_graph_output() or set(consumers_of(out)) - set(group.nodes) for out in node.outputs)

    def _moving(self, nodes: set[ir.Node]) -> Group | None:
        """The group of nodes that a kernel for each result can do."""
        group = Group("move", [node for node in self.nodes if node in nodes])
        for result in group.outputs:
            moved = trace(group.nodes, group.inputs, result)
            if moved is None or not can_move(moved, result, self.ranges):
                return None
            group.moved[result] = moved
        return group if group.moved else None

    def _is_worth_moving(self, group: Group) -> bool:
        """Whether codes are stored on one side at least, and more than a name or signs' shape changes."""
        if all(is_alias(node) for node in group.nodes):
            (source,), (result,) = group.inputs, group.outputs
            form = stored(result, self.ranges)
            codes = self.ranges.codes(result)
            if codes is None or codes.bits == 1 or through_alias(form, source) is not None:
                return False
        made = any(_from_quantizer(value) for value in group.inputs)
        return made or any(feeds_integer_layer(result) for result in group.outputs)

    def _feeds_codes(self, value: ir.Value, left: int = 8) -> bool:
        """Whether a layer on integers, a product, a move, a pool or a sum with other codes reads the value as codes.

        left: operations with single numbers that may come before.
        """
        if feeds_integer_layer(value):
            return True
        for node in consumers_of(value):
            home = self.home.get(node)
            kind = _anchor_kind(node) if home is None else home.kind
            if kind in ("move", "pool", "product") or is_global_pool(node):
                return True
            if scalar_operations(node, value) is not None:
                if left and self._feeds_codes(node.outputs[0], left - 1):
                    return True
                continue
            others = [v for v in node.inputs if v is not None and v is not value and constant_of(v) is None]
            if has(node, Trait.POINTWISE) and others and all(self._source(other) for other in others):
                return True
        return False

    def _leads_to_rows(self, value: ir.Value) -> bool:
        """Whether operations with single numbers lead to the left operand of a product, which is read row by row."""
        while len(readers := consumers_of(value)) == 1 and scalar_operations(readers[0], value) is not None:
            value = readers[0].outputs[0]
        return any(is_quantized_op(node, "IntegerProduct") and node.inputs[0] is value for node in readers)

    def _is_code_for_others(self, value: ir.Value) -> bool:
        return feeds_integer_layer(value) or is_storable(value, self.ranges) and self._feeds_codes(value)

    def _map_or_generic(self, node: ir.Node) -> None:
        if is_alias(node):
            self._settle(Group("alias", [node]))
            return
        source = next((v for v in node.inputs if v is not None and constant_of(v) is None), None)
        if source is not None and source.dtype == ir.DataType.FLOAT:
            group = Group("map", [node], start=source, rows=self._leads_to_rows(source))
            first = self._link(node, source, group.is_matrix)
            if first is not None:
                group.links.append(first)
                if not first.sign:
                    self._extend(group, first.value)
                group.source = self._source(source)
                if group.source is not None and not self._is_stored(group.source.value):
                    group.source = None
                if group.source or any(link.sign or self._is_code_for_others(link.value) for link in group.links):
                    self._settle(group)
                    return
        self._settle(Group("generic", [node]))

    def _source(self, value: ir.Value | None) -> CodeSource | None:
        return None if value is None else code_source(value, self.ranges, scalar_operations)

    def _is_stored(self, codes: ir.Value) -> bool:
        """Whether codes that others read are more than a float within a run of standard operators."""
        producer = codes.producer()
        home = None if producer is None else self.home.get(producer)
        return home is None or home.kind != "generic"

    def _drop_unstored(self, group: Group) -> None:
        """Read what comes of codes that are not stored, instead of them."""
        if group.source is not None and not self._is_stored(group.source.value):
            group.source = None
        for index, link in enumerate(group.links):
            operations = [
                ChainOperation(each.op, each.whole)
                if each.whole is not None and isinstance(each.operand, ir.Value) and not self._is_stored(each.operand)
                else each
                for each in link.operations
            ]
            group.links[index] = replace(link, operations=tuple(operations))

    def _link(self, node: ir.Node, value: ir.Value, matrix: bool) -> Link | None:
        """The node as a link, whose run-time operands are read as codes where they are made of some."""
        link = link_of(node, value, matrix)
        if link is None:
            return None
        return replace(link, operations=tuple(self._on_codes(each, link.value) for each in link.operations))

    def _on_codes(self, operation: ChainOperation, result: ir.Value) -> ChainOperation:
        operand = operation.operand
        if not isinstance(operand, ir.Value) or shape_of(operand) != shape_of(result):
            return operation
        source = self._source(operand)
        return operation if source is None else ChainOperation(operation.op, source.value, source.operations, operand)

    def _grow(self, group: Group) -> None:
        assert group.start is not None
        if not (group.kind == "pool" and group.anchor.domain == ops.DOMAIN):
            self._extend(group, group.start)
        self._settle(group)

    def _extend(self, group: Group, value: ir.Value) -> None:
        """Absorb consumers of `value`: every sign of it, then at most one arithmetic link, and so on."""
        while True:
            candidates = [node for node in consumers_of(value) if node not in self.home and node not in group.nodes]
            arithmetic: list[Link] = []
            for node in candidates:
                link = self._link(node, value, group.is_matrix)
                if link is None or (link.sign == "threshold" and not self._may_threshold(group, value)):
                    continue
                if link.sign:
                    self._add(group, link)
                elif self._is_acyclic(group, link, value):
                    arithmetic.append(link)
            if group.links and group.links[-1].sign == "threshold" or len(arithmetic) != 1:
                return
            self._add(group, arithmetic[0])
            value = arithmetic[0].value

    def _may_threshold(self, group: Group, value: ir.Value) -> bool:
        """A threshold ends the kernel, so it must be the only reader of the anchor's accumulator."""
        alone = len(consumers_of(value)) == 1 and value not in self.outputs
        return group.kind == "conv" and value is group.start and alone

    def _add(self, group: Group, link: Link) -> None:
        group.links.append(link)
        group.nodes.append(link.node)

    def _is_acyclic(self, group: Group, link: Link, value: ir.Value) -> bool:
        """Whether the operands of the link besides `value` can be ready before the group runs."""
        others = [operand for operand in link.node.inputs if operand is not None and operand is not value]
        producers = [producer for operand in others if (producer := operand.producer()) is not None]
        return not any(self._depends(producer, group) for producer in producers)

    def _depends(self, producer: ir.Node, group: Group) -> bool:
        """Whether `producer`, with all it must run together with, needs a result of the group."""
        seen: set[ir.Node] = set()
        pending = [producer]
        while pending:
            node = pending.pop()
            if node in group.nodes:
                return True
            if node in seen:
                continue
            seen.add(node)
            together = self.home[node].nodes if node in self.home else [node]
            pending.extend(n for n in together if n not in seen)
            pending.extend(self.graph.predecessors(node))
        return False

    def _settle(self, group: Group) -> None:
        for node in group.nodes:
            self.home[node] = group

    def _ordered(self) -> list[Group]:
        """Groups in topological order, the first in the file first."""
        contracted: nx.DiGraph[Any] = nx.DiGraph()
        order = {group: index for index, group in enumerate(dict.fromkeys(self.home[node] for node in self.nodes))}
        contracted.add_nodes_from(order)
        for a, b in self.graph.edges:
            if self.home[a] is not self.home[b]:
                contracted.add_edge(self.home[a], self.home[b])
        ordered = nx.lexicographical_topological_sort(contracted, key=lambda group: order[group])
        return _merge_generic(list(ordered))


def _merge_generic(groups: Sequence[Group]) -> list[Group]:
    """Neighbours in a topological order form a convex region, which Relax can fuse."""
    result: list[Group] = []
    for group in groups:
        last = result[-1] if result else None
        both = last is not None and group.kind == last.kind == "generic"
        if last is not None and both and is_marked(group.anchor) == is_marked(last.anchor):
            last.nodes.extend(group.nodes)
        else:
            result.append(group)
    return result


def _from_quantizer(value: ir.Value) -> bool:
    """Whether an op of ours or a rounding makes the codes."""
    node = value.producer()
    for _ in range(3):
        if node is None or node.domain == ops.DOMAIN or is_op(node, "Round"):
            return node is not None
        if not is_op(node, "Add", "Sub", "Clip") or node.inputs[0] is None:
            return False
        node = node.inputs[0].producer()
    return False


def is_global_pool(node: ir.Node) -> bool:
    """Whether the node is an average or a sum over whole images [N, C, H, W] that keeps the rank."""
    value = node.inputs[0] if node.inputs else None
    if node.domain != "" or value is None or value.dtype != ir.DataType.FLOAT or len(shape_of(value)) != 4:
        return False
    if node.op_type in ("ReduceMean", "ReduceSum"):
        return reduced_axes(node) == (2, 3) and integer(node, "keepdims", 1) == 1
    return is_op(node, "GlobalAveragePool")


_ANCHORS: dict[str, GroupKind] = {
    "IntegerConv": "conv",
    "IntegerMatMul": "conv",
    "IntegerProduct": "product",
    ops.ROUNDED: "conv",
    "IntegerMaxPool": "pool",
}


def _anchor_kind(node: ir.Node) -> GroupKind | None:
    if node.domain == ops.DOMAIN:
        return _ANCHORS.get(node.op_type)
    if node.domain != "" or not node.inputs or node.inputs[0] is None or constant_of(node.inputs[0]) is not None:
        return None
    if node.op_type == "Conv":
        return "conv" if len(shape_of(node.outputs[0])) == 4 else None
    if node.op_type == "MatMul":
        weight = constant_of(node.inputs[1])
        return "conv" if weight is not None and weight.ndim == 2 and weight.dtype == np.float32 else None
    if node.op_type in ("MaxPool", "AveragePool"):
        value = node.inputs[0]
        alone = not any(extra.uses() or extra.is_graph_output() for extra in node.outputs[1:])
        image = value is not None and value.dtype == ir.DataType.FLOAT and len(shape_of(value)) == 4
        return "pool" if image and alone else None
    return None
