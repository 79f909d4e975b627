"""How many elements each mean and each sum along axes is made of."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from qcompiler.ir.view import constant_of, integer, ints, is_op, static_shape


def mean_count(node: ir.Node) -> int | None:
    """The number of elements, those of a border among them, that every result is the mean of; None if it varies."""
    shape = static_shape(node.inputs[0])
    if shape is None:
        return None
    if is_op(node, "GlobalAveragePool"):
        return prod(shape[2:])
    if is_op(node, "ReduceMean"):
        return reduced_count(node)
    borders = any(ints(node, "pads", ())) and integer(node, "count_include_pad", 0) == 0
    if not is_op(node, "AveragePool") or borders or integer(node, "ceil_mode", 0) or "auto_pad" in node.attributes:
        return None
    return prod(ints(node, "kernel_shape", ()))


def reduced_count(node: ir.Node) -> int | None:
    """The number of elements that a reduction along constant axes makes one of."""
    shape = static_shape(node.inputs[0])
    axes = None if shape is None else _axes(node, len(shape))
    return None if shape is None or axes is None else prod(shape[axis] for axis in axes)


def _axes(node: ir.Node, rank: int) -> tuple[int, ...] | None:
    if len(node.inputs) < 2 or node.inputs[1] is None:
        found = ints(node, "axes", ())
    else:
        constant = constant_of(node.inputs[1])
        if constant is None:
            return None
        found = tuple(int(axis) for axis in constant.reshape(-1))
    if not found:
        return () if integer(node, "noop_with_empty_axes", 0) else tuple(range(rank))
    return found
