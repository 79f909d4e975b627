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
from qcompiler.frontend.dialects.canonical_quantizers import codes, numbers
from qcompiler.frontend.dialects.dialect import Dialect, Op
from qcompiler.frontend.dialects.minifloats import float_quant
from qcompiler.frontend.dialects.parameters import (
    FloatArray,
    bits_of,
    is_all,
    latent,
    scale_of,
    value_of,
    zero_point_of,
)
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label
from qcompiler.ir.quantizing import ROUNDINGS, UNBOUNDED, Quantizer


def _bipolar_quant(emitter: Emitter, node: onnx.NodeProto) -> None:
    x, scale = latent(emitter, node, 0), scale_of(emitter, node, 1)
    _scaled_codes(emitter, x, scale, node)


def _quant(emitter: Emitter, node: onnx.NodeProto) -> None:
    x, scale, zero = latent(emitter, node, 0), scale_of(emitter, node, 1), zero_point_of(emitter, node, 2)
    bits = bits_of(emitter, node, 3)
    if bits == 1 and attributes.integer(node, "signed", 1):
        _one_bit_quant(emitter, node, x, scale, zero)
    else:
        numbers(emitter, codes(emitter, x, scale, zero, _quantizer(node, bits, "ROUND")), scale, zero, node.output)


def _one_bit_quant(emitter: Emitter, node: onnx.NodeProto, x: str, scale: str, zero: str) -> None:
    factors = emitter.constant_value(scale)
    has_zero = not is_all(emitter, zero, 0.0)
    # division by 0 < scale <= 1 neither changes a sign nor rounds to zero
    if has_zero or factors is None or not bool(((factors > 0) & (factors <= 1)).all()):
        x = _shifted(emitter, x if is_all(emitter, scale, 1.0) else emitter.op("Div", [x, scale]), zero)
    if has_zero:
        numbers(emitter, emitter.binarize(x), scale, zero, node.output)
    else:
        _scaled_codes(emitter, x, scale, node)


def _trunc(emitter: Emitter, node: onnx.NodeProto) -> None:
    """The codes before are rounded without bounds, those behind without bounds either in version 1."""
    x, scale, zero = latent(emitter, node, 0), scale_of(emitter, node, 1), zero_point_of(emitter, node, 2)
    wide = emitter.op("Round", [_shifted(emitter, emitter.op("Div", [x, scale]), zero)])
    nought = emitter.constant(0.0, "zero")
    if len(node.input) == 5:
        factor = np.float32(2.0 ** (bits_of(emitter, node, 3) - bits_of(emitter, node, 4)))
        unbounded = Quantizer(-UNBOUNDED, UNBOUNDED, _rounding(node, "FLOOR"))
        found = codes(emitter, wide, emitter.constant(factor, "factor"), nought, unbounded)
        numbers(emitter, found, scale, zero, node.output)
        return
    out_scale = scale_of(emitter, node, 4)
    factors = _trunc_factors(emitter, node, scale, out_scale)
    quantizer = _quantizer(node, bits_of(emitter, node, 5), "FLOOR")
    found = codes(emitter, wide, emitter.constant(factors, "factor"), nought, quantizer)
    numbers(emitter, found, out_scale, emitter.constant(value_of(emitter, node, zero) / factors, "zero"), node.output)


def _trunc_factors(emitter: Emitter, node: onnx.NodeProto, scale: str, out_scale: str) -> FloatArray:
    ratio = value_of(emitter, node, out_scale) / value_of(emitter, node, scale)
    return np.asarray(np.exp2(np.round(np.log2(ratio))), np.float32)


def _limits(bits: int, signed: int, narrow: int) -> tuple[float, float]:
    if signed:
        return -(2.0 ** (bits - 1)) + bool(narrow), 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1 - bool(narrow)


def _quantizer(node: onnx.NodeProto, bits: int, usual: str) -> Quantizer:
    low, high = _limits(bits, attributes.integer(node, "signed", 1), attributes.integer(node, "narrow", 0))
    return Quantizer(low, high, _rounding(node, usual))


def _rounding(node: onnx.NodeProto, usual: str) -> str:
    stated = attributes.text(node, "rounding_mode", usual)
    mode = "ROUND" if stated.upper() == "HALF_EVEN" else stated.upper()
    if mode not in ROUNDINGS:
        raise InvalidModel(
            f"rounding mode '{stated}' is unknown", node=label(node), remedy=f"use one of {', '.join(ROUNDINGS)}"
        )
    return mode


def _shifted(emitter: Emitter, x: str, zero: str) -> str:
    return x if is_all(emitter, zero, 0.0) else emitter.op("Add", [x, zero])


def _scaled_codes(emitter: Emitter, x: str, scale: str, node: onnx.NodeProto) -> None:
    if is_all(emitter, scale, 1.0):
        emitter.binarize(x, node.output)
    else:
        emitter.op("Mul", [emitter.binarize(x), scale], node.output)


DIALECT = Dialect(
    "QONNX",
    # exporters have put these ops into all of these domains, the standard one included
    ("", "qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"),
    {
        "Quant": Op(_quant, (4,)),
        "IntQuant": Op(_quant, (4,)),
        "BipolarQuant": Op(_bipolar_quant, (2,)),
        "Trunc": Op(_trunc, (5, 6)),
        "FloatQuant": Op(float_quant, (6,)),
    },
)
