"""Which nodes share a kernel: an anchor and the elementwise chain behind it that becomes its epilogue.

Anchors are convolutions, matrix products with constant weights, poolings, and elementwise chains that end in a
binarization. Everything else is generic (Relax) or an alias (Reshape and its kin, which move no element).
A chain never reorders floating-point operations: it is the graph's own, op by op.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import networkx as nx
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.layers import feeds_integer_layer
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir import ops
from qcompiler.ir.axis_order import is_marked, reduced_axes
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, consumers_of, dependency_graph, integer, ints, is_op, number, shape_of
from qcompiler.lowering.code_source import CodeSource, code_source, is_storable
from qcompiler.targets.problem import ArithmeticName, Scalar, Step

GroupKind = Literal["conv", "pool", "map", "generic", "alias"]


@dataclass(frozen=True)
class ChainOperation:
    """v = v op operand; operand is a constant per channel or scalar, a run-time value, or absent.

    through: what a run-time value goes through before it is used.
    """

    op: ArithmeticName
    operand: npt.NDArray[np.float32] | ir.Value | None
    through: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Link:
    """One node of a chain: operations on the running value, or a sign taken from it, giving `value`."""

    node: ir.Node
    value: ir.Value
    operations: tuple[ChainOperation, ...] = ()
    sign: Literal["", "binarize", "threshold"] = ""
    zero_is_positive: bool = True


@dataclass(eq=False)
class Group:
    """Nodes computed together; `start` is the value before the chain (the anchor's own result, or a map's input).

    source: the codes that a map or a pool reads instead of its input, if it is made of some.
    """

    kind: GroupKind
    nodes: list[ir.Node]
    start: ir.Value | None = None
    links: list[Link] = field(default_factory=list)
    source: CodeSource | None = None

    @property
    def anchor(self) -> ir.Node:
        """The first node."""
        return self.nodes[0]

    @property
    def inputs(self) -> list[ir.Value]:
        """Values read from outside the group, constants excluded."""
        made = {value for node in self.nodes for value in node.outputs}
        read = [value for node in self.nodes for value in node.inputs if value is not None and value not in made]
        return [value for value in dict.fromkeys(read) if constant_of(value) is None]

    @property
    def outputs(self) -> list[ir.Value]:
        """Values that are read outside of the group, or are the caller's."""
        return escaping(self.nodes)

    @property
    def is_matrix(self) -> bool:
        """Whether a kernel works on rows of a matrix rather than on images."""
        assert self.start is not None
        if self.kind == "conv":
            return has(self.anchor, Trait.MULTIPLIES)
        return self.kind == "map" and len(shape_of(self.start)) != 4

    @property
    def results(self) -> list[tuple[ir.Value, bool]]:
        """Every value that a kernel computes on its way, and whether it is a code."""
        assert self.start is not None
        first = [] if self.kind == "map" else [(self.start, self._pools_codes)]
        return [*first, *((link.value, bool(link.sign)) for link in self.links)]

    def writes_once(self, value: ir.Value) -> bool:
        """Whether the kernel has a single store for a value: pooled codes, and thresholds of integer accumulators."""
        if value is self.start:
            return self._pools_codes
        return any(link.sign == "threshold" for link in self.links if link.value is value)

    @property
    def _pools_codes(self) -> bool:
        return self.kind == "pool" and self.anchor.domain == ops.DOMAIN


def escaping(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    """Values made by the nodes and read outside of them, or outputs of the graph."""
    inside = set(nodes)
    made = [value for node in nodes for value in node.outputs]
    return [
        value
        for value in made
        if value.is_graph_output() or any(consumer not in inside for consumer in consumers_of(value))
    ]


def is_alias(node: ir.Node) -> bool:
    """Whether the node only renames its first input: same elements in the same order."""
    return has(node, Trait.RENAMES) or node.domain == "" and node.op_type == "Transpose" and _moves_nothing(node)


def _moves_nothing(transpose: ir.Node) -> bool:
    """Whether a Transpose moves axes of extent 1 only."""
    shape = shape_of(transpose.inputs[0])
    perm = ints(transpose, "perm", tuple(reversed(range(len(shape)))))
    moved = [axis % max(len(shape), 1) for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)


def partition(graph: ir.Graph) -> list[Group]:
    """Cover every node by one group, in an order in which they can run."""
    return _Partition(graph).run()


class _Partition:
    """The contracted dependency graph while groups grow."""

    def __init__(self, graph: ir.Graph) -> None:
        self.nodes = list(graph)
        self.outputs = set(graph.outputs)
        self.graph = dependency_graph(graph)
        self.home: dict[ir.Node, Group] = {}
        self.ranges = IntegerRanges()

    def run(self) -> list[Group]:
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
        return self._ordered()

    def _map_or_generic(self, node: ir.Node) -> None:
        if is_alias(node):
            self._settle(Group("alias", [node]))
            return
        source = next((v for v in node.inputs if v is not None and constant_of(v) is None), None)
        if source is not None and source.dtype == ir.DataType.FLOAT:
            group = Group("map", [node], start=source)
            first = self._link(node, source, group.is_matrix)
            if first is not None:
                group.links.append(first)
                if not first.sign:
                    self._extend(group, first.value)
                group.source = self._source(source)
                if group.source or any(self._makes_codes(link) for link in group.links):
                    self._settle(group)
                    return
        self._settle(Group("generic", [node]))

    def _makes_codes(self, link: Link) -> bool:
        return bool(link.sign) or feeds_integer_layer(link.value) or is_storable(link.value, self.ranges)

    def _source(self, value: ir.Value | None) -> CodeSource | None:
        return None if value is None else code_source(value, self.ranges, _steps)

    def _link(self, node: ir.Node, value: ir.Value, matrix: bool) -> Link | None:
        """The node as a link, whose run-time operands are read as codes where they are made of some."""
        link = _link(node, value, matrix)
        if link is None:
            return None
        return replace(link, operations=tuple(self._on_codes(each, link.value) for each in link.operations))

    def _on_codes(self, operation: ChainOperation, result: ir.Value) -> ChainOperation:
        operand = operation.operand
        if not isinstance(operand, ir.Value) or shape_of(operand) != shape_of(result):
            return operation
        source = self._source(operand)
        return operation if source is None else ChainOperation(operation.op, source.value, source.steps)

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


def is_global_pool(node: ir.Node) -> bool:
    """Whether the node is an average or a sum over whole images [N, C, H, W] that keeps the rank."""
    value = node.inputs[0] if node.inputs else None
    if node.domain != "" or value is None or value.dtype != ir.DataType.FLOAT or len(shape_of(value)) != 4:
        return False
    if node.op_type in ("ReduceMean", "ReduceSum"):
        return reduced_axes(node) == (2, 3) and integer(node, "keepdims", 1) == 1
    return is_op(node, "GlobalAveragePool")


_ANCHORS: dict[str, GroupKind] = {"IntegerConv": "conv", "IntegerMatMul": "conv", "IntegerMaxPool": "pool"}


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


def _link(node: ir.Node, value: ir.Value, matrix: bool) -> Link | None:
    """The node as a link on the running value `value` of a view; None if it is not elementwise on it."""
    out = node.outputs[0]
    if node.domain == ops.DOMAIN:
        if node.op_type == "Binarize" and number(node, "zero", 1.0) != 0:
            return Link(node, out, sign="binarize", zero_is_positive=number(node, "zero", 1.0) > 0)
        if node.op_type == "Threshold" and node.inputs[0] is value and _fits(node, value, matrix):
            return Link(node, out, sign="threshold")
        return None
    if node.domain != "" or out.dtype != ir.DataType.FLOAT or shape_of(out) != shape_of(value):
        return None
    operations = _operations(node, value, matrix)
    return Link(node, out, operations) if operations is not None else None


def _steps(node: ir.Node, value: ir.Value) -> tuple[Step, ...] | None:
    """The node as operations on `value` without operands or with single numbers."""
    link = _link(node, value, matrix=True)
    if link is None or link.sign:
        return None
    steps = []
    for each in link.operations:
        single = each.operand is None or not isinstance(each.operand, ir.Value) and each.operand.ndim == 0
        if not single:
            return None
        steps.append(Step(each.op, None if each.operand is None else Scalar(float(each.operand))))
    return tuple(steps)


def _fits(threshold: ir.Node, value: ir.Value, matrix: bool) -> bool:
    """Whether the thresholds of every level, and the direction, are constants per channel."""
    levels, direction = (constant_of(each) for each in threshold.inputs[1:])
    if levels is None or direction is None:
        return False
    return all(_constant_operand(part, shape_of(value), matrix) is not None for part in (*levels, direction))


_ALONE: dict[str, ArithmeticName] = {"Round": "round", "Sign": "sign"}
_COMMUTATIVE: dict[str, ArithmeticName] = {"Mul": "mul", "Add": "add", "Max": "max", "Min": "min"}


def _operations(node: ir.Node, value: ir.Value, matrix: bool) -> tuple[ChainOperation, ...] | None:
    kind = node.op_type
    if kind == "Relu":
        return (ChainOperation("max", np.float32(0).reshape(())),)
    if kind == "LeakyRelu":
        return (ChainOperation("prelu", np.float32(number(node, "alpha", 0.01)).reshape(())),)
    if kind in _ALONE:
        return (ChainOperation(_ALONE[kind], None),)
    if kind == "Neg":
        return (ChainOperation("mul", np.float32(-1).reshape(())),)
    if kind == "Clip":
        return _clip(node) if node.inputs[0] is value else None
    if len(node.inputs) != 2:
        return None
    position = 0 if node.inputs[0] is value else 1
    other = node.inputs[1 - position]
    if other is None or other is value:
        return None
    operand = _operand(other, value, matrix)
    if operand is None:
        return None
    if kind in _COMMUTATIVE:
        return (ChainOperation(_COMMUTATIVE[kind], operand),)
    if kind == "Sub" and position == 0:
        return (ChainOperation("sub", operand),)
    if kind == "Sub":
        return (ChainOperation("mul", np.float32(-1).reshape(())), ChainOperation("add", operand))
    if kind == "Div" and position == 0:
        return (ChainOperation("div", operand),)
    if kind == "PRelu" and position == 0 and not isinstance(operand, ir.Value):
        return (ChainOperation("prelu", operand),)
    return None


def _clip(node: ir.Node) -> tuple[ChainOperation, ...] | None:
    result: list[ChainOperation] = []
    bounds: Sequence[tuple[int, ArithmeticName]] = ((1, "max"), (2, "min"))
    for index, op in bounds:
        bound = node.inputs[index] if len(node.inputs) > index else None
        if bound is not None:
            constant = constant_of(bound)
            if constant is None:
                return None
            result.append(ChainOperation(op, constant.astype(np.float32).reshape(())))
    return tuple(result)


def _operand(other: ir.Value, value: ir.Value, matrix: bool) -> npt.NDArray[np.float32] | ir.Value | None:
    """A constant as scalar () or [channels]; a run-time value of the same shape or with one channel; else None.

    Channels are the second axis of an image and the last of a matrix.
    """
    shape = shape_of(value)
    constant = constant_of(other)
    if constant is not None:
        return _constant_operand(constant, shape, matrix)
    channel_axis = len(shape) - 1 if matrix else 1
    if other.dtype != ir.DataType.FLOAT:
        return None
    per_pixel = tuple(1 if axis == channel_axis else extent for axis, extent in enumerate(shape))
    return other if shape_of(other) in (shape, per_pixel) else None


def _constant_operand(
    constant: npt.NDArray[Any], shape: tuple[int, ...], matrix: bool
) -> npt.NDArray[np.float32] | None:
    """A constant as scalar () or [channels]; None where it varies otherwise."""
    if constant.dtype != np.float32:
        return None
    if constant.size == 1:
        return constant.reshape(())
    channel_axis = len(shape) - 1 if matrix else 1
    full = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
    expected = tuple(extent if axis == channel_axis else 1 for axis, extent in enumerate(shape))
    return full.reshape(-1) if full.shape == expected else None
