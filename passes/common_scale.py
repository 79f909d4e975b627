"""Codes of several streams in one: counted in the smallest of their scales, or with a scale for each part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qcompiler.ir.view import static_shape
from qcompiler.passes.editing import Operand, again, insert
from qcompiler.passes.peeled import Peeled, aligned, whole


def counted(node: ir.Node, inner: Sequence[Peeled]) -> tuple[list[Operand], Peeled] | None:
    """Codes of all operands counted in the smallest of their scales, and the operand that has it."""
    if not inner or not all(each.uniform and each.factors == inner[0].factors for each in inner):
        return None
    smallest = min(inner, key=lambda each: float(abs(each.scale)))
    multiples = [whole(each.scale / smallest.scale) for each in inner]
    operands: list[Operand] = []
    for each, multiple in zip(inner, multiples, strict=True):
        if multiple is None:
            return None
        shape = static_shape(each.codes) or ()
        operands.append(each.codes if multiple == 1 else insert(node, "Mul", [each.codes, multiple], shape))
    return operands, smallest


def per_part(node: ir.Node, inner: Sequence[Peeled]) -> Peeled | None:
    """A Concat of codes, each part of the result with the scale of its operand."""
    shape = static_shape(node.outputs[0]) or ()
    axis = node.attributes["axis"].as_int() % len(shape)
    scales = []
    if not all(each.settled for each in inner):
        return None
    for each in inner:
        spread = aligned(each.scale, len(shape))
        if any(extent != 1 for index, extent in enumerate(spread.shape) if index != axis):
            return None
        extent = (static_shape(each.codes) or ())[axis]
        scales.append(np.broadcast_to(spread, tuple(extent if i == axis else 1 for i in range(len(shape)))))
    return Peeled(again(node, [each.codes for each in inner]), np.concatenate(scales, axis))
