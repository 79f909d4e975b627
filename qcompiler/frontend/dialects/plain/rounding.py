"""Rounding of a clipped value to two neighbouring integers: a step function of the value before the chain.

2 * Round(Clip((x + 1) / 2, 0, 1)) - 1 and its relatives are signs up to float32 rounding. Every operator of the chain
is monotone, so the composition is, and bisection over the float32 numbers finds the exact place of the step; the
closed formula would be off by an ulp or two (round half to even included).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.frontend.dialects.plain.known_constants import Array, KnownConstants, apply
from qcompiler.frontend.dialects.plain.step_functions import StepFunction
from qcompiler.ir.ops import DOMAIN

_ROUNDINGS = {"": ("Round", "Floor", "Ceil"), DOMAIN: ("Quantize",)}
_MONOTONE = ("Add", "Sub", "Mul", "Div", "Clip", "Relu", "Max", "Min", "Neg", "Identity", "HardSigmoid")
# A node, its constant operands, and the position of its run-time operand.
_Link = tuple[ir.Node, list[Array | None], int]
_LARGEST = 0x7F800000  # the bits of infinity


def rounded_step(node: ir.Node, constants: KnownConstants) -> StepFunction | None:
    """The step function that a rounding is, by itself or in Quantize; None if it takes other than two neighbours."""
    last = _rounding(node, constants)
    if last is None:
        return None
    source, chain = _chain(last, constants)
    low, high = _apply(chain, np.float32(-np.inf)), _apply(chain, np.float32(np.inf))
    if not (np.isfinite(low) and np.isfinite(high)) or abs(high - low) != 1:
        return None
    before, behind = _bisected(chain, low)
    if not (np.isfinite(before) and np.isfinite(behind)):
        return None
    if _short(before) >= _short(behind):
        return StepFunction(source, np.asarray(before), np.asarray(low), np.asarray(low), np.asarray(high))
    return StepFunction(source, np.asarray(behind), np.asarray(low), np.asarray(high), np.asarray(high))


def _rounding(node: ir.Node, constants: KnownConstants) -> _Link | None:
    """A Round, Floor, Ceil or Quantize of float32 with constant scalars; None for any other node."""
    if node.op_type not in _ROUNDINGS[node.domain] or node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    operands = [constants.of(value) for value in node.inputs[1:]]
    if any(operand is None or operand.size != 1 or not np.isfinite(operand).all() for operand in operands):
        return None
    return node, [None, *(operand.reshape(()) for operand in operands if operand is not None)], 0


def _chain(last: _Link, constants: KnownConstants) -> tuple[ir.Value, list[_Link]]:
    """The monotone operators with constant scalars up to `last`, in order, and the value they start from."""
    chain = [last]
    source = last[0].inputs[0]
    assert source is not None
    while (previous := source.producer()) is not None and (link := _link(previous, constants)) is not None:
        chain.append(link)
        following = previous.inputs[link[2]]
        assert following is not None
        source = following
    return source, chain[::-1]


def _link(node: ir.Node, constants: KnownConstants) -> _Link | None:
    """A monotone float32 operator of one run-time operand and scalar constants; None for any other node."""
    if node.domain != "" or node.op_type not in _MONOTONE or node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    operands = [constants.of(value) for value in node.inputs]
    running = [i for i, value in enumerate(node.inputs) if value is not None and operands[i] is None]
    if len(running) != 1 or any(o is not None and (o.size != 1 or not np.isfinite(o).all()) for o in operands):
        return None
    if node.op_type in ("Clip", "Div") and running != [0]:
        return None
    scalars = [None if operand is None else operand.reshape(()) for operand in operands]
    if node.op_type in ("Mul", "Div") and not scalars[1 - running[0]]:
        return None
    return node, scalars, running[0]


def _apply(chain: list[_Link], x: np.float32) -> np.float32:
    for node, operands, position in chain:
        result = apply(node, [*operands[:position], np.asarray(x), *operands[position + 1 :]])
        assert result is not None
        x = np.float32(result)
    return x


def _bisected(chain: list[_Link], low: np.float32) -> tuple[np.float32, np.float32]:
    """The largest number mapped to `low` and the smallest one that is not."""
    below, above = -_LARGEST, _LARGEST
    while above - below > 1:
        middle = (below + above) // 2
        if _apply(chain, _float_at(middle)) == low:
            below = middle
        else:
            above = middle
    return _float_at(below), _float_at(above)


def _float_at(position: int) -> np.float32:
    """The float32 number at a position of the ordered line; 0 is zero, negative positions are negative numbers."""
    magnitude = np.asarray(abs(position), np.uint32).view(np.float32)
    return np.float32(-magnitude if position < 0 else magnitude)


def _short(number: np.float32) -> int:
    """Trailing zero bits: how short the number is to write."""
    bits = int(np.asarray(number, np.float32).view(np.uint32))
    return 32 if bits & 0x7FFFFFFF == 0 else (bits & -bits).bit_length() - 1
