"""Operands of ops that compute with integers: 8-bit values, their scales and zero points, checked before use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend.dialects.canonical_quantizers import codes, codes_of, shifted
from qcompiler.frontend.dialects.parameters import FloatArray, floats, is_all, reshaped, value_of
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label
from qcompiler.ir.plausible import REMEDY, not_positive
from qcompiler.ir.quantizing import ROUND_SHIFT, Quantizer

_T = onnx.TensorProto
RANGES = {_T.INT8: (-128, 127), _T.UINT8: (0, 255)}


@dataclass(frozen=True)
class Integers:
    """An operand: its codes, and its zero point, which broadcasts against them; names of float32 values."""

    codes: str
    zero: str

    def centred(self, emitter: Emitter) -> str:
        """The codes without their zero point."""
        return shifted(emitter, self.codes, self.zero)


def is_given(node: onnx.NodeProto, index: int) -> bool:
    """Whether a node has an optional input."""
    return index < len(node.input) and bool(node.input[index])


def integers(emitter: Emitter, node: onnx.NodeProto, value: int, zero: int, axis: int | None = None) -> Integers:
    """The 8-bit input `value` with the zero point `zero`, if given: one number, or one for each index of `axis`."""
    kind, found = kind_of(emitter, node, value), codes_of(emitter, node.input[value])
    one = axis is None or not emitter.shape(found) or not is_given(node, zero)
    if one or math.prod(emitter.shape(node.input[zero])) == 1:
        return Integers(found, zero_point(emitter, node, zero, kind))
    return Integers(found, _zeros(emitter, node, value, zero, axis or 0))


def kind_of(emitter: Emitter, node: onnx.NodeProto, index: int) -> int:
    """The element type of an input that must be int8 or uint8."""
    kind = emitter.element_type(node.input[index])
    if kind not in RANGES:
        raise UnsupportedModel(
            f"input '{node.input[index]}' of {node.op_type} is of type {_name(kind)}, expected int8 or uint8",
            node=label(node),
            remedy="quantize it to 8 bits",
        )
    return kind


def scales(emitter: Emitter, node: onnx.NodeProto, index: int, count: int = 1) -> FloatArray:
    """A constant scale, float32: [] for one number, [count] for one of each channel."""
    _check_type(emitter, node, index, _T.FLOAT)
    _check_shape(emitter, node, "a scale", index, count)
    found = value_of(emitter, node, node.input[index])
    if problem := not_positive("a scale", found):
        raise InvalidModel(f"{node.op_type} has {problem}", node=label(node), remedy=REMEDY)
    return found.reshape(()) if found.size == 1 else found.reshape(-1)


def scale_at_run_time(emitter: Emitter, node: onnx.NodeProto, index: int) -> str:
    """A scale as float32 that need be no constant, one number; a constant one must be finite and above 0."""
    _check_type(emitter, node, index, _T.FLOAT)
    _check_shape(emitter, node, "a scale", index, 1)
    if emitter.computed_value(node.input[index]) is not None:
        return emitter.constant(scales(emitter, node, index), "scale")
    return reshaped(emitter, node.input[index], ())


def requantization(node: onnx.NodeProto, left: FloatArray, right: FloatArray, result: FloatArray) -> FloatArray:
    """The factor left * right / result in float32; neither it nor the product may overflow."""
    with np.errstate(over="ignore"):
        products = left * right
        factors = np.asarray(products / result, np.float32)
    if not bool((np.isfinite(factors) & np.isfinite(products) & np.isfinite(result)).all()):
        raise InvalidModel(
            f"{node.op_type} has scales whose quotient is no finite number", node=label(node), remedy=REMEDY
        )
    return factors


def quantized(
    emitter: Emitter,
    node: onnx.NodeProto,
    value: str,
    zero: int,
    kind: int,
    scale: float | FloatArray = 1.0,
    order: str = ROUND_SHIFT,
) -> str:
    """The codes of a real value in the integer type `kind`, with the zero point `zero` of the node."""
    low, high = RANGES[kind]
    operands = emitter.constant(scale, "scale"), zero_point(emitter, node, zero, kind)
    return codes(emitter, value, *operands, Quantizer(low, high, order=order))


def stored(emitter: Emitter, found: str, outputs: Sequence[str], kind: int) -> None:
    """Make codes the output of a node, in the type of the file."""
    emitter.op("Cast", [found], outputs, to=kind)


def product(emitter: Emitter, value: str, factors: FloatArray, shape: tuple[int, ...]) -> str:
    """The value times factors [C] in the given shape, or times one number."""
    name = emitter.constant(factors.reshape(shape) if factors.ndim else factors, "scale")
    return value if is_all(emitter, name, 1.0) else emitter.op("Mul", [value, name])


def zero_point(emitter: Emitter, node: onnx.NodeProto, index: int, kind: int) -> str:
    """A zero point of the type `kind` as float32, one number; 0 where it is absent."""
    if not is_given(node, index):
        return emitter.constant(0.0, "zero")
    _check_type(emitter, node, index, kind)
    _check_shape(emitter, node, "a zero point", index, 1)
    return reshaped(emitter, floats(emitter, node, index), ())


def _zeros(emitter: Emitter, node: onnx.NodeProto, value: int, index: int, axis: int) -> str:
    """Zero points for each index of an axis of the input `value`, in a shape that broadcasts against it."""
    _check_type(emitter, node, index, emitter.element_type(node.input[value]))
    sizes = emitter.shape(node.input[value])
    _check_shape(emitter, node, "a zero point", index, sizes[axis])
    return reshaped(emitter, floats(emitter, node, index), (-1, *(1,) * (len(sizes) - 1 - axis % len(sizes))))


def _check_type(emitter: Emitter, node: onnx.NodeProto, index: int, expected: int) -> None:
    kind = emitter.element_type(node.input[index])
    if kind != expected:
        raise InvalidModel(
            f"parameter '{node.input[index]}' of {node.op_type} is of type {_name(kind)}, expected {_name(expected)}",
            node=label(node),
            remedy="export the model again",
        )


def _check_shape(emitter: Emitter, node: onnx.NodeProto, what: str, index: int, count: int) -> None:
    """Refuse a parameter that is neither one number nor one for each of `count` channels."""
    found = emitter.shape(node.input[index])
    if found in ((), (1,)) or (math.prod(found) == count and found and max(found) == count):
        return
    expected = f"[{count}] or one number" if count != 1 else "one number"
    raise InvalidModel(
        f"{node.op_type} has {what} of shape {list(found)}, expected {expected}", node=label(node), remedy=REMEDY
    )


def _name(kind: int) -> str:
    return str(_T.DataType.Name(kind)).lower() if kind in _T.DataType.values() else f"type {kind}"
