"""The QONNX dialect, lowered to standard operators and qcompiler::Binarize.

Semantics are those of the reference implementation, qonnx 1.0.

Quant, IntQuant<signed = 1, narrow = 0, rounding_mode = "ROUND">(x, scale, zeropt, bits):
    y = (round(clip(x / scale + zeropt, lo, hi)) - zeropt) * scale
    lo, hi = -2**(bits - 1) + narrow, 2**(bits - 1) - 1 if signed, else 0, 2**bits - 1 - narrow.
    bits = 1 and signed: round and clip become +1 where the operand is >= 0, else -1.
BipolarQuant(x, scale): y = scale where x >= 0, else -scale.
Trunc<rounding_mode = "FLOOR">(x, scale, zeropt, in_bits, out_bits):
    y = (round(half_even(x / scale + zeropt) / 2**(in_bits - out_bits)) - zeropt) * scale
Trunc<signed = 1, narrow = 0, rounding_mode = "FLOOR">(x, scale, zeropt, in_bits, out_scale, out_bits):
    t = 2**half_even(log2(out_scale / scale))
    y = (round(clip(half_even(x / scale + zeropt) / t, lo, hi)) - zeropt / t) * out_scale
"""

from __future__ import annotations

import numpy as np
import onnx

from qcompiler.errors import InvalidModel
from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.dialect import Dialect, Op
from qcompiler.frontend.dialects.parameters import (
    FloatArray,
    bits_of,
    is_all,
    latent,
    scale_of,
    value_of,
    zero_point_of,
)
from qcompiler.frontend.emit import Emitter
from qcompiler.frontend.structure import label


def _bipolar_quant(emitter: Emitter, node: onnx.NodeProto) -> None:
    x, scale = latent(emitter, node, 0), scale_of(emitter, node, 1)
    _scaled_codes(emitter, x, scale, node)


def _quant(emitter: Emitter, node: onnx.NodeProto) -> None:
    x, scale, zero = latent(emitter, node, 0), scale_of(emitter, node, 1), zero_point_of(emitter, node, 2)
    bits = bits_of(emitter, node, 3)
    signed = attributes.integer(node, "signed", 1)
    if bits == 1 and signed:
        _one_bit_quant(emitter, node, x, scale, zero)
        return
    value = _shifted(emitter, _divided(emitter, x, scale), zero, "Add")
    value = _clipped(emitter, value, _limits(bits, signed, attributes.integer(node, "narrow", 0)))
    value = _rounded(emitter, node, value, attributes.text(node, "rounding_mode", "ROUND"))
    value = _shifted(emitter, value, zero, "Sub")
    _finish(emitter, value, scale, node)


def _one_bit_quant(emitter: Emitter, node: onnx.NodeProto, x: str, scale: str, zero: str) -> None:
    factors = emitter.constant_value(scale)
    has_zero = not is_all(emitter, zero, 0.0)
    # Division by 0 < scale <= 1 neither changes a sign nor rounds to zero.
    if has_zero or factors is None or not bool(((factors > 0) & (factors <= 1)).all()):
        x = _shifted(emitter, _divided(emitter, x, scale), zero, "Add")
    if has_zero:
        _finish(emitter, _shifted(emitter, emitter.binarize(x), zero, "Sub"), scale, node)
    else:
        _scaled_codes(emitter, x, scale, node)


def _trunc(emitter: Emitter, node: onnx.NodeProto) -> None:
    x, scale, zero = latent(emitter, node, 0), scale_of(emitter, node, 1), zero_point_of(emitter, node, 2)
    mode = attributes.text(node, "rounding_mode", "FLOOR")
    value = emitter.op("Round", [_shifted(emitter, _divided(emitter, x, scale), zero, "Add")])
    if len(node.input) == 5:
        factor = np.float32(2.0 ** (bits_of(emitter, node, 3) - bits_of(emitter, node, 4)))
        value = _divided(emitter, value, emitter.constant(factor, "factor"))
        value = _shifted(emitter, _rounded(emitter, node, value, mode), zero, "Sub")
        _finish(emitter, value, scale, node)
        return
    out_scale = scale_of(emitter, node, 4)
    factors = _trunc_factors(emitter, node, scale, out_scale)
    value = _divided(emitter, value, emitter.constant(factors, "factor"))
    signed, narrow = attributes.integer(node, "signed", 1), attributes.integer(node, "narrow", 0)
    value = _clipped(emitter, value, _limits(bits_of(emitter, node, 5), signed, narrow))
    value = _rounded(emitter, node, value, mode)
    out_zero = emitter.constant(value_of(emitter, node, zero) / factors, "zero")
    _finish(emitter, _shifted(emitter, value, out_zero, "Sub"), out_scale, node)


def _trunc_factors(emitter: Emitter, node: onnx.NodeProto, scale: str, out_scale: str) -> FloatArray:
    ratio = value_of(emitter, node, out_scale) / value_of(emitter, node, scale)
    return np.asarray(np.exp2(np.round(np.log2(ratio))), np.float32)


def _limits(bits: int, signed: int, narrow: int) -> tuple[float, float]:
    if signed:
        return -(2.0 ** (bits - 1)) + bool(narrow), 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1 - bool(narrow)


def _divided(emitter: Emitter, x: str, scale: str) -> str:
    return x if is_all(emitter, scale, 1.0) else emitter.op("Div", [x, scale])


def _shifted(emitter: Emitter, x: str, zero: str, op_type: str) -> str:
    return x if is_all(emitter, zero, 0.0) else emitter.op(op_type, [x, zero])


def _clipped(emitter: Emitter, x: str, limits: tuple[float, float]) -> str:
    return emitter.op("Clip", [x, emitter.constant(limits[0], "low"), emitter.constant(limits[1], "high")])


def _scaled_codes(emitter: Emitter, x: str, scale: str, node: onnx.NodeProto) -> None:
    if is_all(emitter, scale, 1.0):
        emitter.binarize(x, node.output)
    else:
        emitter.op("Mul", [emitter.binarize(x), scale], node.output)


def _finish(emitter: Emitter, codes: str, scale: str, node: onnx.NodeProto) -> None:
    emitter.op("Mul", [codes, scale], node.output)


def _rounded(emitter: Emitter, node: onnx.NodeProto, x: str, mode: str) -> str:
    plain = {"ROUND": "Round", "HALF_EVEN": "Round", "CEIL": "Ceil", "FLOOR": "Floor"}
    if mode.upper() in plain:
        return emitter.op(plain[mode.upper()], [x])
    if mode.upper() not in _ON_MAGNITUDE:
        raise InvalidModel(f"rounding mode '{mode}' is unknown", node=label(node), remedy="use ROUND or another mode")
    offset, op_type = _ON_MAGNITUDE[mode.upper()]
    magnitude = emitter.op("Abs", [x])
    if offset:
        magnitude = emitter.op("Add", [magnitude, emitter.constant(offset, "half")])
    return emitter.op("Mul", [emitter.op("Sign", [x]), emitter.op(op_type, [magnitude])])


# Modes symmetric about zero: sign(x) * round(|x| + offset).
_ON_MAGNITUDE = {
    "UP": (0.0, "Ceil"),
    "DOWN": (0.0, "Floor"),
    "HALF_UP": (0.5, "Floor"),
    "HALF_DOWN": (-0.5, "Ceil"),
}

DIALECT = Dialect(
    "QONNX",
    # exporters have put these ops into all of these domains, the standard one included
    ("", "qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"),
    {
        "Quant": Op(_quant, (4,)),
        "IntQuant": Op(_quant, (4,)),
        "BipolarQuant": Op(_bipolar_quant, (2,)),
        "Trunc": Op(_trunc, (5, 6)),
    },
    refused={"FloatQuant": "has minifloat codes, expected integers"},
)
