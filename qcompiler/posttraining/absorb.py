"""Scales and offsets behind a layer become part of its weights and of one bias, before weights are quantized.

BatchNorm and biases of exporters are such chains. In exact arithmetic nothing changes; in float32 a few ulp do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.traits import channel_axis, weight_axis
from qcompiler.ir.view import constant_of, is_op, only_consumer, static_shape
from qcompiler.passes.editing import attributes_of, insert, replace

DoubleArray = npt.NDArray[np.float64]


@dataclass
class _Affine:
    """factor * sum + offset, both float64 [O]."""

    factor: DoubleArray
    offset: DoubleArray

    def follow(self, node: ir.Node, operand: DoubleArray, first: bool) -> None:
        """Append one op with a constant [O]; first: the constant is its left operand."""
        if node.op_type == "Mul":
            self.factor, self.offset = self.factor * operand, self.offset * operand
        elif node.op_type == "Div":
            self.factor, self.offset = self.factor / operand, self.offset / operand
        elif node.op_type == "Add":
            self.offset = self.offset + operand
        else:
            self.factor = -self.factor if first else self.factor
            self.offset = operand - self.offset if first else self.offset - operand


def absorb(layer: ir.Node, channels: int) -> ir.Node:
    """The layer with what was behind it in its weights; an Add of a bias [O] follows it, even if that is 0.

    layer: Conv or MatMul with constant weights and no bias.
    """
    shape = static_shape(layer.outputs[0])
    weights = constant_of(layer.inputs[1])
    assert shape is not None and weights is not None
    axis = channel_axis(layer, len(shape))
    affine = _Affine(np.ones(channels), np.zeros(channels))
    value = layer.outputs[0]
    while (found := _next(value, axis, channels, shape)) is not None:
        reader, operand, first = found
        affine.follow(reader, operand, first)
        value = reader.outputs[0]
    along = [1] * weights.ndim
    along[weight_axis(layer)] = channels
    scaled = (weights.astype(np.float64) * affine.factor.reshape(along)).astype(np.float32)
    attributes = attributes_of(layer)
    result = insert(layer, str(layer.op_type), [layer.inputs[0], scaled], shape, attributes)
    place = [1] * len(shape)
    place[axis] = channels
    replace(value, insert(layer, "Add", [result, affine.offset.astype(np.float32).reshape(place)], shape))
    made = result.producer()
    assert made is not None
    return made


def _next(
    value: ir.Value, axis: int, channels: int, shape: tuple[int, ...]
) -> tuple[ir.Node, DoubleArray, bool] | None:
    """The only reader of a value, if it is arithmetic with a finite constant per channel, and that constant [O]."""
    reader = only_consumer(value)
    if reader is None or not is_op(reader, "Mul", "Div", "Add", "Sub") or static_shape(reader.outputs[0]) != shape:
        return None
    first = reader.inputs[0] is not value
    constant = constant_of(reader.inputs[0 if first else 1])
    if constant is None or constant.dtype != np.float32 or not np.isfinite(constant).all():
        return None
    if is_op(reader, "Div") and (first or not constant.all()):
        return None
    aligned = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
    others = np.delete(np.asarray(aligned.shape), axis)
    if aligned.ndim != len(shape) or (others != 1).any():
        return None
    return reader, np.broadcast_to(aligned.reshape(-1), (channels,)).astype(np.float64), first
