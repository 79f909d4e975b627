"""The standard's own quantizers.

QuantizeLinear<axis = 1, block_size = 0, output_dtype>(x, scale, zero) -> y, an integer:
    y = saturate(half_even(x / scale) + zero)
DequantizeLinear<axis = 1, block_size = 0>(x, scale, zero) -> y:
    y = (x - zero) * scale
DynamicQuantizeLinear(x) -> y, scale, zero: to uint8, by the smallest and the largest x.

Scales and zero points are numbers, [C] along the axis, or one per block of `block_size` elements along it. A Clip
between both narrows the codes. What quantizes and what dequantizes meet on codes in float32: integers of the file's
type are made only where something else reads them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.canonical_quantizers import codes, codes_of, numbers
from qcompiler.frontend.dialects.dialect import Dialect, Op
from qcompiler.frontend.dialects.parameters import floats, latent, reshaped
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.stored_tensors import TWO_BIT_RANGES
from qcompiler.frontend.structure import label
from qcompiler.ir.plausible import REMEDY, not_positive
from qcompiler.ir.quantizing import ROUND_SHIFT, Quantizer

_T = onnx.TensorProto
# The types that stand for two-bit ones.
_WIDE = {_T.INT2: _T.INT8, _T.UINT2: _T.UINT8}
_RANGES = TWO_BIT_RANGES | {
    _T.INT4: (-8, 7),
    _T.UINT4: (0, 15),
    _T.INT8: (-128, 127),
    _T.UINT8: (0, 255),
    _T.INT16: (-(2**15), 2**15 - 1),
    _T.UINT16: (0, 2**16 - 1),
}


def quantize(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a QuantizeLinear."""
    scale, zero = _parameters(emitter, node)
    kind, (low, high) = _type(emitter, node)
    x = latent(emitter, node, 0)
    found = codes(emitter, x, scale, zero, Quantizer(low, high, order=ROUND_SHIFT))
    emitter.op("Cast", [found], node.output, to=kind)


def _type(emitter: Emitter, node: onnx.NodeProto) -> tuple[int, tuple[int, int]]:
    """The element type of what QuantizeLinear makes, and its range."""
    declared = attributes.integer(node, "output_dtype", 0)
    kind = declared or (emitter.element_type(node.input[2]) if len(node.input) > 2 else _T.UINT8)
    limits = emitter.two_bit_range(node.input[2]) if len(node.input) > 2 else None
    if kind not in _RANGES:
        found = _T.DataType.Name(kind) if kind in _T.DataType.values() else f"type {kind}"
        raise UnsupportedModel(
            f"QuantizeLinear to {found}, expected integers of at most 16 bits",
            node=label(node),
            remedy="use float32 or integer tensors",
        )
    return _WIDE.get(kind, kind), limits or _RANGES[kind]


def dequantize(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a DequantizeLinear."""
    scale, zero = _parameters(emitter, node)
    numbers(emitter, codes_of(emitter, node.input[0]), scale, zero, node.output)


def _parameters(emitter: Emitter, node: onnx.NodeProto) -> tuple[str, str]:
    """Scale and zero point as float32 that broadcast against the value."""
    along = _Along.of(emitter, node)
    problem = along.misfit(emitter, node) or _other_types(emitter, node)
    value = emitter.computed_value(node.input[1])
    if not problem and value is not None:
        problem = not_positive("a scale", value)
    if problem:
        raise InvalidModel(f"{node.op_type} has {problem}", node=label(node), remedy=REMEDY)
    scale = along.spread(emitter, floats(emitter, node, 1))
    zero = along.spread(emitter, floats(emitter, node, 2)) if len(node.input) > 2 else emitter.constant(0.0, "zero")
    return scale, zero


def _other_types(emitter: Emitter, node: onnx.NodeProto) -> str:
    """Why the types of scale and zero point are not those that the standard allows; "" if they are."""
    names = [_T.DataType.Name(emitter.element_type(name)).lower() for name in node.input]
    if names[1] != "float":
        return f"a scale of type {names[1]}, expected float"
    declared = attributes.integer(node, "output_dtype", 0)
    expected = names[0]
    if node.op_type == "QuantizeLinear":
        expected = _T.DataType.Name(_WIDE.get(declared, declared)).lower() if declared else names[-1]
    zero = names[2] if len(names) > 2 else expected
    return "" if zero == expected else f"a zero point of type {zero}, expected {expected}"


@dataclass(frozen=True)
class _Along:
    """How the parameters of a value of `shape` lie along an axis; block: 0 for one per element of the axis."""

    shape: tuple[int, ...]
    axis: int
    block: int

    @classmethod
    def of(cls, emitter: Emitter, node: onnx.NodeProto) -> _Along:
        shape, axis = emitter.shape(node.input[0]), attributes.integer(node, "axis", 1)
        return cls(shape, axis + len(shape) * (axis < 0), attributes.integer(node, "block_size", 0))

    def misfit(self, emitter: Emitter, node: onnx.NodeProto) -> str:
        """Why scale and zero point do not fit the value or each other; "" if they do."""
        scale, *zero = (emitter.shape(name) for name in node.input[1:])
        if self.block < 0:
            return f"blocks of {self.block}, expected a size above 0, or 0 for none"
        if zero and zero[0] != scale and (math.prod(zero[0]), math.prod(scale)) != (1, 1):
            return f"a scale of shape {list(scale)} and a zero point of shape {list(zero[0])}, expected equal ones"
        if self.block == 0 and scale in ((), (1,)):
            return ""
        if not 0 <= self.axis < len(self.shape):
            return f"axis {self.axis} for a value of shape {list(self.shape)}"
        expected = self._blocks if self.block > 0 else (self.shape[self.axis],)
        alone = "" if self.block else " or one"
        return "" if scale == expected else f"a scale of shape {list(scale)}, expected {list(expected)}{alone}"

    @property
    def _blocks(self) -> tuple[int, ...]:
        return (*self.shape[: self.axis], -(-self.shape[self.axis] // self.block), *self.shape[self.axis + 1 :])

    def spread(self, emitter: Emitter, name: str) -> str:
        """A parameter in a shape that broadcasts against the value."""
        found = emitter.shape(name)
        if found in ((), (1,)) and self.block == 0:
            return name if len(found) <= len(self.shape) else reshaped(emitter, name, ())
        if self.block == 0:
            return reshaped(emitter, name, (-1, *(1,) * (len(self.shape) - self.axis - 1)))
        before, after = self.shape[: self.axis], self.shape[self.axis + 1 :]
        blocks, size = self._blocks[self.axis], min(self.block, self.shape[self.axis])
        column = reshaped(emitter, name, (*before, blocks, 1, *after))
        repeats = emitter.constant((*before, blocks, size, *after), "blocks", np.int64)
        row = reshaped(emitter, emitter.op("Expand", [column, repeats]), (*before, blocks * size, *after))
        start, end, axis = ([value] for value in (0, self.shape[self.axis], self.axis))
        bounds = [emitter.constant(value, "bound", np.int64) for value in (start, end, axis)]
        return emitter.op("Slice", [row, *bounds])


def _dynamic_quantize(emitter: Emitter, node: onnx.NodeProto) -> None:
    quantized, scale, zero = [*node.output, "", ""][:3]
    found, _, level = dynamic_codes(emitter, node.input[0], scale)
    emitter.op("Cast", [level], _wanted(zero), to=_T.UINT8)
    emitter.op("Cast", [found], _wanted(quantized), to=_T.UINT8)


def dynamic_codes(emitter: Emitter, x: str, output: str = "") -> tuple[str, str, str]:
    """Codes of DynamicQuantizeLinear, their scale, called `output` if given, and their zero point; all float32.

    By its definition in the standard, which leaves 0 / 0 for an operand that is 0 everywhere. onnxruntime's scale is 1
    there, and so is ours.
    """
    zero, one, steps = (emitter.constant(value, "constant") for value in (0, 1, 255))
    low = emitter.op("Min", [emitter.op("ReduceMin", [x], keepdims=0), zero])
    high = emitter.op("Max", [emitter.op("ReduceMax", [x], keepdims=0), zero])
    extent = emitter.op("Sub", [high, low])
    quotient = emitter.op("Div", [extent, steps])
    scale = emitter.op("Where", [emitter.op("Equal", [extent, zero]), one, quotient], _wanted(output))
    level = emitter.op("Sub", [zero, emitter.op("Div", [low, scale])])
    rounded = emitter.op("Round", [emitter.op("Clip", [level, zero, steps])])
    return codes(emitter, x, scale, rounded, Quantizer(0, 255, order=ROUND_SHIFT)), scale, rounded


def _wanted(name: str) -> list[str]:
    """Names for the output of a node; none where nobody wants it under its own."""
    return [name] if name else []


DIALECT = Dialect(
    "QDQ",
    ("",),
    {
        "QuantizeLinear": Op(quantize, (2, 3)),
        "DequantizeLinear": Op(dequantize, (2, 3)),
        "DynamicQuantizeLinear": Op(_dynamic_quantize, (1,), outputs=(1, 2, 3)),
    },
)
