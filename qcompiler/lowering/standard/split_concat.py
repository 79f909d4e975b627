"""Split and Concat where a part is empty, as rotary embeddings over whole heads write them: TVM divides by its size."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from qcompiler.ir.view import integer, shape_of
from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard.skeleton import kernel, loop, moved
from qcompiler.targets.vector.emit import Expr, write


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
    axis = integer(node, "axis", 0) % len(shape_of(node.outputs[0]))
    widths, outer = _widths(node.inputs, axis)
    if all(widths):
        return None

    def body(buffers: list[Expr], item: Expr) -> None:
        *sources, target = buffers
        for index, (source, width) in enumerate(zip(sources, widths, strict=True)):
            with loop(width) as i:
                write(target, source[item * width + i], item * sum(widths) + sum(widths[:index]) + i)

    return kernel(node, [moved(value) for value in node.inputs], [moved(node.outputs[0])], outer, body)


def _widths(parts: Sequence[ir.Value], axis: int) -> tuple[list[int], int]:
    """Elements of each part in one stretch, and how many stretches there are."""
    return [prod(shape_of(part)[axis:]) for part in parts], prod(shape_of(parts[0])[:axis])
