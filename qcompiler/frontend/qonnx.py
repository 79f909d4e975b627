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
MultiThreshold and XnorPopcountMatMul come from FINN: see finn.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.emit import Emitter
from qcompiler.frontend.finn import multi_threshold, xnor_popcount_matmul
from qcompiler.frontend.parameters import FloatArray, bits_of, is_all, latent, scale_of, value_of, zero_point_of
from qcompiler.frontend.structure import label

# Exporters have put these operators into all of these domains, the standard one included.
_DOMAINS = ("", "ai.onnx", "qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")


def handles(node: onnx.NodeProto) -> bool:
    """Whether `lower` can lower the node."""
    return node.domain in _DOMAINS and node.op_type in _LOWERINGS


def owns(node: onnx.NodeProto) -> bool:
    """Whether the node is of this dialect, which nobody else can lower."""
    return node.domain in _DOMAINS and (node.domain not in ("", "ai.onnx") or node.op_type == "FloatQuant")


def lower(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the standard form of `node` to the graph.

    Raises UnsupportedModel for operators without one, InvalidModel for missing or impossible parameters.
    """
    if node.op_type not in _LOWERINGS:
        codes = "has minifloat codes, expected integers" if node.op_type == "FloatQuant" else "is not supported"
        raise UnsupportedModel(
            f"operator {node.op_type} of domain '{node.domain}' {codes}",
            node=label(node),
            remedy=f"of this dialect, use {', '.join(_LOWERINGS)}",
        )
    arities, lowering = _LOWERINGS[node.op_type]
    if len(node.input) not in arities or not all(node.input) or len(node.output) != 1:
        expected = " or ".join(map(str, arities))
        raise InvalidModel(
            f"{node.op_type} has {len(node.input)} inputs, expected {expected}, and one output",
            node=label(node),
            remedy="export the model again",
        )
    lowering(emitter, node)


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

_LOWERINGS: dict[str, tuple[tuple[int, ...], Callable[[Emitter, onnx.NodeProto], None]]] = {
    "Quant": ((4,), _quant),
    "IntQuant": ((4,), _quant),
    "BipolarQuant": ((2,), _bipolar_quant),
    "Trunc": ((5, 6), _trunc),
    "MultiThreshold": ((2,), multi_threshold),
    "XnorPopcountMatMul": ((2,), xnor_popcount_matmul),
}
