"""What quantizers of all dialects become: codes by qcompiler::Quantize, and the numbers that they stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from qcompiler.frontend.dialects.parameters import is_all
from qcompiler.frontend.emitter import Emitter
from qcompiler.ir.ops import DOMAIN
from qcompiler.ir.quantizing import Quantizer

_T = onnx.TensorProto


def codes(emitter: Emitter, x: str, scale: str, zero: str, quantizer: Quantizer) -> str:
    """The codes of `x` [...]; scale and zero are float32 and broadcast against it."""
    return emitter.op(
        "Quantize",
        [x, scale, zero],
        domain=DOMAIN,
        low=float(quantizer.low),
        high=float(quantizer.high),
        rounding=quantizer.rounding,
        order=quantizer.order,
    )


def numbers(emitter: Emitter, found: str, scale: str, zero: str, outputs: Sequence[str]) -> str:
    """(codes - zero) * scale."""
    return emitter.op("Mul", [shifted(emitter, found, zero), scale], outputs)


def shifted(emitter: Emitter, found: str, zero: str) -> str:
    """The codes without their zero point."""
    return found if is_all(emitter, zero, 0.0) else emitter.op("Sub", [found, zero])


def codes_of(emitter: Emitter, name: str) -> str:
    """The integers of a value in float32: codes, where it is a Quantize cast to its type, or that clipped."""
    bounds = []
    source = emitter.producer(name)
    while source is not None and source.op_type == "Clip" and (clip := _bounds(emitter, source)) is not None:
        bounds.append(clip)
        source = emitter.producer(source.input[0])
    quantize = emitter.producer(source.input[0]) if source is not None and source.op_type == "Cast" else None
    if quantize is None or (quantize.domain, quantize.op_type) != (DOMAIN, "Quantize"):
        return _float(emitter, name)
    if not bounds:
        return str(quantize.output[0])
    settings = {each.name: onnx.helper.get_attribute_value(each) for each in quantize.attribute}
    low, high = settings["low"], settings["high"]
    for least, most in reversed(bounds):
        low, high = (min(max(end, least), most) for end in (low, high))
    narrow = Quantizer(low, high, settings["rounding"].decode(), settings["order"].decode())
    x, scale, zero = quantize.input
    return codes(emitter, x, scale, zero, narrow)


def _bounds(emitter: Emitter, clip: onnx.NodeProto) -> tuple[float, float] | None:
    """The bounds of a Clip by constants."""
    found = [-math.inf, math.inf]
    for position, name in enumerate(clip.input[1:3]):
        bound = emitter.constant_value(name) if name else np.asarray(found[position])
        if bound is None or bound.size != 1:
            return None
        found[position] = float(bound.reshape(()))
    return found[0], found[1]


def _float(emitter: Emitter, name: str) -> str:
    return name if emitter.element_type(name) == _T.FLOAT else emitter.op("Cast", [name], to=_T.FLOAT)
