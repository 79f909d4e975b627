"""Nodes that share a kernel, and nodes that only rename a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from qcompiler.ir import ops
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, ints, is_quantized_op, shape_of
from qcompiler.lowering.code_moves import Moved
from qcompiler.lowering.code_source import CodeSource
from qcompiler.lowering.links import Link
from qcompiler.lowering.region_model import escaping

GroupKind = Literal["conv", "product", "pool", "map", "move", "generic", "alias"]


@dataclass(eq=False)
class Group:
    """Nodes computed together; `start` is the value before the chain (the anchor's own result, or a map's input).

    rows: whether a map sees an image as rows of its last axis. source: the codes that a map or a pool reads instead of
    its input, if it is made of some. moved: where the results of a move come from.
    """

    kind: GroupKind
    nodes: list[ir.Node]
    start: ir.Value | None = None
    links: list[Link] = field(default_factory=list)
    source: CodeSource | None = None
    rows: bool = False
    moved: dict[ir.Value, Moved] = field(default_factory=dict)

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
        if self.kind == "product":
            return True
        if self.kind == "conv":
            return has(self.anchor, Trait.MULTIPLIES) or is_quantized_op(self.anchor, ops.ROUNDED)
        return self.kind == "map" and (self.rows or len(shape_of(self.start)) != 4)

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


def is_alias(node: ir.Node) -> bool:
    """Whether the node only renames its first input: same elements in the same order."""
    return has(node, Trait.RENAMES) or node.domain == "" and node.op_type == "Transpose" and _moves_nothing(node)


def _moves_nothing(transpose: ir.Node) -> bool:
    """Whether a Transpose moves axes of extent 1 only."""
    shape = shape_of(transpose.inputs[0])
    perm = ints(transpose, "perm", tuple(reversed(range(len(shape)))))
    moved = [axis % max(len(shape), 1) for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)
