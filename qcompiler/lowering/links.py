"""Elementwise nodes as operations on a running value: what an epilogue or a map is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir import ops
from qcompiler.ir.view import constant_of, number, shape_of
from qcompiler.targets.problem import ArithmeticName, Scalar, ScalarOperation


@dataclass(frozen=True)
class ChainOperation:
    """v = v op operand; operand is a constant per channel or scalar, a run-time value, or absent.

    through: what a run-time value goes through before it is used. whole: the value that comes of this.
    """

    op: ArithmeticName
    operand: npt.NDArray[np.float32] | ir.Value | None
    through: tuple[ScalarOperation, ...] = ()
    whole: ir.Value | None = None


@dataclass(frozen=True)
class Link:
    """One node of a chain: operations on the running value, or a sign taken from it, giving `value`."""

    node: ir.Node
    value: ir.Value
    operations: tuple[ChainOperation, ...] = ()
    sign: Literal["", "binarize", "threshold"] = ""
    zero_is_positive: bool = True


def link_of(node: ir.Node, value: ir.Value, matrix: bool) -> Link | None:
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


def scalar_operations(node: ir.Node, value: ir.Value) -> tuple[ScalarOperation, ...] | None:
    """The node as operations on `value` without operands or with single numbers."""
    link = link_of(node, value, matrix=True)
    if link is None or link.sign:
        return None
    found = []
    for each in link.operations:
        single = each.operand is None or not isinstance(each.operand, ir.Value) and each.operand.ndim == 0
        if not single:
            return None
        found.append(ScalarOperation(each.op, None if each.operand is None else Scalar(float(each.operand))))
    return tuple(found)


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
