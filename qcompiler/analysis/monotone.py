"""Elementwise ops with constants, emulated in float32 exactly as the reference runs them: one rounding per op, no FMA.

Every op here is monotone in its input for each channel, whatever the constants, because float32 rounding is
monotone; so any chain of ops is monotone per channel, and its sign changes at most once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.ops import quantizer_of
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, is_op, is_quantized_op, number, static_shape

FloatArray = npt.NDArray[np.float32]

VARIES = "the constant of {} varies within a channel"
_UNARY = ("Relu", "LeakyRelu", "Clip", "Neg", "Identity")


@dataclass(frozen=True)
class MonotoneOp:
    """One elementwise op on a running value x.

    constants: float32 arrays, each a scalar or one value per channel [C]. `swapped`: the constant is the left operand.
    """

    node: ir.Node
    op: str
    constants: tuple[FloatArray, ...]
    swapped: bool = False

    def __call__(self, x: FloatArray) -> FloatArray:
        """x: float32 [..., C]; result: float32 [..., C]."""
        with np.errstate(all="ignore"):
            return np.asarray(self._apply(x), dtype=np.float32)

    def exactly(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """x: float64 [..., C]; result: float64 [..., C], without float32's rounding."""
        with np.errstate(all="ignore"):
            return np.asarray(self._apply(x), dtype=np.float64)

    def of_channels(self, count: int) -> MonotoneOp:
        """The op on the first channels."""
        constants = tuple(each[:count] if each.ndim == 1 else each for each in self.constants)
        return MonotoneOp(self.node, self.op, constants, self.swapped)

    def minus(self, numbers: FloatArray) -> MonotoneOp:
        """The subtraction of numbers from the result, as an op; they are broadcast against [..., C]."""
        return MonotoneOp(self.node, "Sub", (numbers,))

    def _apply(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        match self.op:
            case "Relu":
                return np.asarray(np.maximum(x, np.float32(0)))
            case "Neg":
                return np.asarray(-x)
            case "Round" | "Floor" | "Ceil" | "Sign":
                return np.asarray(_LANDING[self.op](x))
            case "Identity":
                return x
            case "Quantize":
                return quantizer_of(self.node)(x, *self.constants)
            case "Clip":
                low, high = self.constants
                return np.asarray(np.minimum(np.maximum(x, low), high))
            case "LeakyRelu" | "PRelu":
                return np.where(x < 0, x * self.constants[0], x)
        left, right = (self.constants[0], x) if self.swapped else (x, self.constants[0])
        return np.asarray(_FUNCTIONS[self.op](left, right))


_LANDING = {"Round": np.rint, "Floor": np.floor, "Ceil": np.ceil, "Sign": np.sign}
_FUNCTIONS = {
    "Mul": np.multiply,
    "Add": np.add,
    "Sub": np.subtract,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
}


def landing_op(node: ir.Node, x: ir.Value, axis: int) -> MonotoneOp | str | None:
    """A rounding, Sign or Quantize as an op, which is monotone too, or why it is none; None for other ops."""
    if is_op(node, *_LANDING):
        return MonotoneOp(node, node.op_type, ())
    return _quantizing(node, x, axis) if is_quantized_op(node, "Quantize") else None


def _quantizing(node: ir.Node, x: ir.Value, axis: int) -> MonotoneOp | str:
    out = static_shape(node.outputs[0])
    if out is None or out != static_shape(x) or node.inputs[0] is not x:
        return "Quantize changes the shape"
    scale, zero = (_along(node, position, out, axis) for position in (1, 2))
    if isinstance(scale, str) or isinstance(zero, str):
        return scale if isinstance(scale, str) else str(zero)
    if not (np.isfinite(scale) & (scale != 0)).all() or not np.isfinite(zero).all():
        return "a constant of Quantize is not finite, or its scale is 0"
    return MonotoneOp(node, "Quantize", (scale, zero))


def _along(node: ir.Node, position: int, shape: tuple[int, ...], axis: int) -> FloatArray | str:
    """An operand that is one number, or one per channel [C] of a value of `shape`; or why it is neither."""
    constant = constant_of(node.inputs[position])
    if constant is None:
        return f"the other operand of {node.op_type} is not a constant"
    channel = per_channel(constant, shape, axis % max(1, len(shape)))
    return VARIES.format(node.op_type) if channel is None else channel


def per_channel(constant: npt.NDArray[Any], shape: tuple[int, ...], axis: int) -> FloatArray | None:
    """A constant that broadcasts against `shape` as a scalar or as [C] along `axis`; None if it varies elsewhere."""
    if constant.dtype != np.float32 or constant.ndim > len(shape):
        return None
    full = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
    for position, (size, have) in enumerate(zip(shape, full.shape, strict=True)):
        if have not in (1, size):
            return None
        if have != 1 and position != axis:
            first = full.take([0], axis=position)
            if not np.array_equal(np.broadcast_to(first, full.shape), full):
                return None
            full = first
    flat: FloatArray = full.reshape(-1)
    return flat.reshape(()) if flat.size == 1 else flat


def monotone_op(node: ir.Node, x: ir.Value, axis: int, *, broadcast: bool = False) -> MonotoneOp | str:
    """Read `node` as an op on its input `x`, whose channels lie along `axis`, or say why it is none.

    broadcast: the constant may repeat `x` along axes of extent 1; `axis` must then be negative.
    """
    if is_op(node, *_UNARY):
        return _unary(node, x)
    if not has(node, Trait.CHAINS) or len(node.inputs) != 2:
        return f"{node.op_type} is not an elementwise op that keeps order"
    position = 0 if node.inputs[0] is x else 1
    shape, out = static_shape(x), static_shape(node.outputs[0])
    if shape is None or out is None or (out != shape and not broadcast):
        return f"{node.op_type} changes the shape"
    channel = _along(node, 1 - position, out, axis)
    if isinstance(channel, str):
        return channel
    op = MonotoneOp(node, node.op_type, (channel,), swapped=position == 1)
    return _objection(op) or op


def _unary(node: ir.Node, x: ir.Value) -> MonotoneOp | str:
    if node.op_type == "LeakyRelu":
        op = MonotoneOp(node, "LeakyRelu", (np.asarray(number(node, "alpha", 0.01), dtype=np.float32),))
        return _objection(op) or op
    if node.op_type != "Clip":
        return MonotoneOp(node, node.op_type, ())
    bounds = []
    for position, default in ((1, np.finfo(np.float32).min), (2, np.finfo(np.float32).max)):
        value = node.inputs[position] if position < len(node.inputs) else None
        bound = np.float32(default) if value is None else constant_of(value)
        if bound is None or np.size(bound) != 1:
            return "the bounds of Clip are not constants"
        bounds.append(np.asarray(bound, dtype=np.float32).reshape(()))
    return MonotoneOp(node, "Clip", tuple(bounds))


def _objection(op: MonotoneOp) -> str:
    constant = op.constants[0]
    if not np.isfinite(constant).all():
        return f"a constant of {op.op} is not finite"
    if op.op in ("PRelu", "LeakyRelu") and (constant < 0).any():
        return f"{op.op} with a negative slope does not keep order"
    if op.op == "PRelu" and op.swapped:
        return "the input of PRelu is a constant"
    if op.op == "Div" and (op.swapped or (constant == 0).any()):
        return "Div is by zero or by the value itself"
    return ""


def run_chain(ops: tuple[MonotoneOp, ...], x: FloatArray) -> FloatArray:
    """Apply the ops in order. x: float32 [..., C]."""
    for op in ops:
        x = op(x)
    return x
