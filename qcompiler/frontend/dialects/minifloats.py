"""QONNX's quantizer to floats of few bits, of stored numbers; its results are real numbers to everything that follows.

FloatQuant<rounding_mode = "ROUND", has_inf, has_nan, has_subnormal, saturation>(x, scale, exponent_bits, mantissa_bits,
exponent_bias, max_val), by the reference implementation, qonnx 1.0:
    v = x / scale; ulp = 2**max(floor(log2 |v|) - mantissa_bits, 1 - exponent_bias - mantissa_bits)
    y = clip(round(v / ulp) * ulp, -max, max) * scale
    max = min(max_val, (2 - 2**-mantissa_bits) * 2**(2**exponent_bits - 1 - exponent_bias))
"""

from __future__ import annotations

import numpy as np
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.parameters import FloatArray, latent, scale_of, value_of
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label

_ROUNDINGS = {"ROUND": np.rint, "CEIL": np.ceil, "FLOOR": np.floor}
# of the wider half of float32, which no minifloat needs; chosen
_WIDEST = {"exponent bits": 8, "mantissa bits": 23, "exponent bias": 2**8, "largest number": float("inf")}


def float_quant(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the quantized numbers of a FloatQuant of stored ones."""
    stored = emitter.computed_value(latent(emitter, node, 0))
    if stored is None:
        raise UnsupportedModel(
            "FloatQuant of activations has minifloat codes, expected integers",
            node=label(node),
            remedy="quantize activations with Quant; FloatQuant may quantize stored weights",
        )
    mode = attributes.text(node, "rounding_mode", "ROUND").upper()
    if mode not in _ROUNDINGS:
        raise InvalidModel(
            f"rounding mode '{mode}' is unknown", node=label(node), remedy=f"use one of {', '.join(_ROUNDINGS)}"
        )
    scale = value_of(emitter, node, scale_of(emitter, node, 1))
    exponent, mantissa, bias, given = (_number(emitter, node, 2 + i, what) for i, what in enumerate(_WIDEST))
    with np.errstate(over="ignore"):
        largest = min(given, float((2 - 2.0**-mantissa) * np.exp2(2.0**exponent - 1 - bias)))
    scaled = stored.astype(np.float32) / scale
    found = np.exp2(np.maximum(np.frexp(scaled)[1] - 1 - mantissa, 1 - bias - mantissa)).astype(np.float32)
    quantized = found * _ROUNDINGS[mode](scaled / found)
    if not attributes.integer(node, "saturation", 1) and bool((np.abs(quantized) > largest).any()):
        raise UnsupportedModel(
            "FloatQuant makes stored numbers infinite or NaN", node=label(node), remedy="let it saturate"
        )
    result: FloatArray = np.clip(quantized, np.float32(-largest), np.float32(largest)) * scale
    emitter.op("Identity", [emitter.constant(result, "quantized")], node.output)


def _number(emitter: Emitter, node: onnx.NodeProto, position: int, what: str) -> float:
    value = value_of(emitter, node, node.input[position]).reshape(-1)
    if value.size != 1 or not 0 <= value[0] <= _WIDEST[what]:
        raise InvalidModel(
            f"FloatQuant has {what} {value[:4].tolist()}, expected one number from 0 to {_WIDEST[what]}",
            node=label(node),
            remedy="export the model again",
        )
    return float(value[0])
