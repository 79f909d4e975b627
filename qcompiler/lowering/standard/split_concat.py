"""Concat, and Split where a part is empty, as rotary embeddings over whole heads write it: TVM divides by its size."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.axis_order import AXIS, channels_last_shape, is_marked
from qcompiler.ir.view import constant_of, dtype_of, integer, shape_of
from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard.runs import copy_run
from qcompiler.lowering.standard.skeleton import digits, kernel, loop, moved, operand
from qcompiler.targets.standard_op import Apart
from qcompiler.targets.vector.emit import Expr, i64, write


def split(node: ir.Node) -> StandardCall | None:
    """An item is one stretch of the input along the axis and those behind it."""
    axis = integer(node, "axis", 0) % len(shape_of(node.inputs[0]))
    widths, outer = _widths(node.outputs, axis)
    if all(widths):
        return None

    def body(buffers: list[Expr], item: Expr) -> None:
        source, *targets = buffers
        for index, (target, width) in enumerate(zip(targets, widths, strict=True)):
            with loop(width) as i:
                write(target, source[item * sum(widths) + sum(widths[:index]) + i], item * width + i)

    return kernel(node, [moved(node.inputs[0])], [moved(value) for value in node.outputs], outer, body)


def concat(node: ir.Node) -> StandardCall | None:
    """An item is one stretch of the output along the axis and those behind it."""
    marked = is_marked(node)
    shapes = [channels_last_shape(shape_of(part)) if marked else shape_of(part) for part in node.inputs]
    axis = integer(node, "axis", 0) % len(shapes[0])
    axis = AXIS[axis] if marked else axis
    widths, outer = [prod(shape[axis:]) for shape in shapes], prod(shapes[0][:axis])
    floats = dtype_of(node.outputs[0]) == "float32"
    if (all(widths) and not floats) or (marked and any(constant_of(part) is not None for part in node.inputs)):
        return None

    def body(buffers: list[Expr], item: Expr) -> None:
        *sources, target = buffers
        for index, (source, width) in enumerate(zip(sources, widths, strict=True)):
            at = item * sum(widths) + sum(widths[:index])
            if floats:
                copy_run(source, T.bind(item * width), target, T.bind(at), width)
                continue
            with loop(width) as i:
                write(target, source[item * width + i], at + i)

    def one(buffers: list[Expr], element: Expr) -> None:
        *sources, target = buffers
        item, place = digits(element, (outer, sum(widths)))
        for index, (source, width) in enumerate(zip(sources, widths, strict=True)):
            within = T.bind(place - i64(sum(widths[:index])))
            with T.If(T.And(within >= 0, within < width)), T.Then():
                write(target, source[item * width + within], element)

    view = operand if floats else moved
    apart = Apart(outer * sum(widths), one)
    return kernel(node, [view(value) for value in node.inputs], [view(node.outputs[0])], outer, body, apart=apart)


def _widths(parts: Sequence[ir.Value], axis: int) -> tuple[list[int], int]:
    """Elements of each part in one stretch, and how many stretches there are."""
    return [prod(shape_of(part)[axis:]) for part in parts], prod(shape_of(parts[0])[:axis])
