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
MultiThreshold<out_scale = 1, out_bias = 0, data_layout>(x, thresholds [C or 1, B]):
    y = out_scale * #(x >= thresholds of the channel) + out_bias
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.emit import Emitter
from qcompiler.frontend.structure import label
from qcompiler.ir.plausible import REMEDY, not_finite, not_positive

# Exporters have put these operators into all of these domains, the standard one included.
_DOMAINS = ("", "ai.onnx", "qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")

_FloatArray = npt.NDArray[np.float32]


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
    x, scale = _floats(emitter, node, 0), _scale(emitter, node, 1)
    _scaled_codes(emitter, x, scale, node)


def _quant(emitter: Emitter, node: onnx.NodeProto) -> None:
    x, scale, zero = _floats(emitter, node, 0), _scale(emitter, node, 1), _zero_point(emitter, node, 2)
    bits = _bits(emitter, node, 3)
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
    has_zero = not _is_all(emitter, zero, 0.0)
    # Division by 0 < scale <= 1 neither changes a sign nor rounds to zero.
    if has_zero or factors is None or not bool(((factors > 0) & (factors <= 1)).all()):
        x = _shifted(emitter, _divided(emitter, x, scale), zero, "Add")
    if has_zero:
        _finish(emitter, _shifted(emitter, emitter.binarize(x), zero, "Sub"), scale, node)
    else:
        _scaled_codes(emitter, x, scale, node)


def _trunc(emitter: Emitter, node: onnx.NodeProto) -> None:
    x, scale, zero = _floats(emitter, node, 0), _scale(emitter, node, 1), _zero_point(emitter, node, 2)
    mode = attributes.text(node, "rounding_mode", "FLOOR")
    value = emitter.op("Round", [_shifted(emitter, _divided(emitter, x, scale), zero, "Add")])
    if len(node.input) == 5:
        factor = np.float32(2.0 ** (_bits(emitter, node, 3) - _bits(emitter, node, 4)))
        value = _divided(emitter, value, emitter.constant(factor, "factor"))
        value = _shifted(emitter, _rounded(emitter, node, value, mode), zero, "Sub")
        _finish(emitter, value, scale, node)
        return
    out_scale = _scale(emitter, node, 4)
    factors = _trunc_factors(emitter, node, scale, out_scale)
    value = _divided(emitter, value, emitter.constant(factors, "factor"))
    signed, narrow = attributes.integer(node, "signed", 1), attributes.integer(node, "narrow", 0)
    value = _clipped(emitter, value, _limits(_bits(emitter, node, 5), signed, narrow))
    value = _rounded(emitter, node, value, mode)
    out_zero = emitter.constant(_value(emitter, node, zero) / factors, "zero")
    _finish(emitter, _shifted(emitter, value, out_zero, "Sub"), out_scale, node)


def _trunc_factors(emitter: Emitter, node: onnx.NodeProto, scale: str, out_scale: str) -> _FloatArray:
    ratio = _value(emitter, node, out_scale) / _value(emitter, node, scale)
    return np.asarray(np.exp2(np.round(np.log2(ratio))), np.float32)


def _multi_threshold(emitter: Emitter, node: onnx.NodeProto) -> None:
    x, thresholds = _floats(emitter, node, 0), _floats(emitter, node, 1)
    axis, shape = _channel_axis(emitter, node), emitter.shape(thresholds)
    if len(shape) != 2 or shape[0] not in (1, emitter.shape(x)[axis]):
        raise InvalidModel(
            f"MultiThreshold has thresholds {list(shape)}, expected [{emitter.shape(x)[axis]} or 1, levels]",
            node=label(node),
            remedy="export the model again",
        )
    _check_thresholds(emitter, node, thresholds)
    count = _reached(emitter, x, thresholds, axis)
    scale = emitter.constant(attributes.real(node, "out_scale", 1.0), "out_scale")
    bias = emitter.constant(attributes.real(node, "out_bias", 0.0), "out_bias")
    scaled = count if _is_all(emitter, scale, 1.0) else emitter.op("Mul", [count, scale])
    if _is_all(emitter, bias, 0.0):
        emitter.op("Identity", [scaled], node.output)
    else:
        emitter.op("Add", [scaled, bias], node.output)


def _check_thresholds(emitter: Emitter, node: onnx.NodeProto, thresholds: str) -> None:
    """Refuse NaN; an infinite threshold is one that everything or nothing reaches."""
    value = emitter.computed_value(thresholds)
    numbers = [attributes.real(node, name, 1.0) for name in ("out_scale", "out_bias")]
    if (value is not None and bool(np.isnan(value).any())) or not bool(np.isfinite(numbers).all()):
        raise InvalidModel("MultiThreshold has numbers that are NaN or infinite", node=label(node), remedy=REMEDY)


def _reached(emitter: Emitter, x: str, thresholds: str, axis: int) -> str:
    """How many thresholds of its channel each element reaches."""
    rank, (channels, levels) = len(emitter.shape(x)), emitter.shape(thresholds)
    aligned = [1] * rank + ([levels] if levels > 1 else [])
    aligned[axis] = channels
    steps = emitter.op("Reshape", [thresholds, emitter.constant(aligned, "levels", np.int64)])
    if levels == 1:
        return emitter.op("Cast", [emitter.op("GreaterOrEqual", [x, steps])], to=onnx.TensorProto.FLOAT)
    last = emitter.constant([rank], "last", np.int64)
    column = emitter.op("Unsqueeze", [x, last])
    reached = emitter.op("Cast", [emitter.op("GreaterOrEqual", [column, steps])], to=onnx.TensorProto.FLOAT)
    return emitter.op("ReduceSum", [reached, last], keepdims=0)


def _channel_axis(emitter: Emitter, node: onnx.NodeProto) -> int:
    """Position of C in the layout; without a layout, qonnx takes three axes as NWC and everything else as NC..."""
    rank = len(emitter.shape(node.input[0]))
    layout = attributes.text(node, "data_layout", "") or ("NWC" if rank == 3 else "NC")
    axis = layout.index("C") if "C" in layout else 1
    if axis >= rank:
        raise InvalidModel(f"layout {layout} for {rank} axes", node=label(node), remedy="export the model again")
    return axis


def _floats(emitter: Emitter, node: onnx.NodeProto, index: int) -> str:
    """An input as float32; parameters are also stored as integers."""
    name = node.input[index]
    if name not in emitter.types:
        raise InvalidModel(f"input '{name}' is defined nowhere", node=label(node), remedy="export the model again")
    if emitter.element_type(name) == onnx.TensorProto.FLOAT:
        return str(name)
    value = emitter.constant_value(name)
    if value is not None:
        return emitter.constant(value, f"parameter{index}")
    return emitter.op("Cast", [name], to=onnx.TensorProto.FLOAT)


def _scale(emitter: Emitter, node: onnx.NodeProto, index: int) -> str:
    """A scale as float32; a constant one must be finite, above 0, and broadcast to the quantized value."""
    return _parameter(emitter, node, index, "a scale", not_positive)


def _zero_point(emitter: Emitter, node: onnx.NodeProto, index: int) -> str:
    """A zero point as float32; a constant one must be finite, and broadcast to the quantized value."""
    return _parameter(emitter, node, index, "a zero point", not_finite)


def _parameter(
    emitter: Emitter, node: onnx.NodeProto, index: int, what: str, check: Callable[[str, _FloatArray], str]
) -> str:
    name = _floats(emitter, node, index)
    shape, wanted = emitter.shape(name), emitter.shape(node.input[0])
    aligned = wanted[len(wanted) - len(shape) :]
    problem = ""
    if len(shape) > len(wanted) or any(size not in (1, to) for size, to in zip(shape, aligned, strict=True)):
        problem = f"{what} of shape {list(shape)} for a value of shape {list(wanted)}"
    value = emitter.computed_value(name)
    if not problem and value is not None:
        problem = check(what, value)
    if problem:
        raise InvalidModel(f"{node.op_type} has {problem}", node=label(node), remedy=REMEDY)
    return name


def _value(emitter: Emitter, node: onnx.NodeProto, name: str) -> _FloatArray:
    value = emitter.computed_value(name)
    if value is None:
        raise UnsupportedModel(
            f"parameter '{name}' of {node.op_type} depends on data", node=label(node), remedy="export it as a constant"
        )
    return value.astype(np.float32)


def _bits(emitter: Emitter, node: onnx.NodeProto, index: int) -> int:
    value = _value(emitter, node, node.input[index]).reshape(-1)
    if value.size == 0 or not bool(np.isfinite(value).all()) or bool((value != np.round(value[0])).any()):
        raise UnsupportedModel("the bit width differs between channels", node=label(node), remedy="use one bit width")
    if not 1 <= value[0] <= 32:
        raise InvalidModel(f"a bit width of {value[0]}, expected 1 to 32", node=label(node), remedy="export it again")
    return int(value[0])


def _limits(bits: int, signed: int, narrow: int) -> tuple[float, float]:
    if signed:
        return -(2.0 ** (bits - 1)) + bool(narrow), 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1 - bool(narrow)


def _is_all(emitter: Emitter, name: str, number: float) -> bool:
    value = emitter.constant_value(name)
    return value is not None and bool((value == number).all()) and value.size == 1


def _divided(emitter: Emitter, x: str, scale: str) -> str:
    return x if _is_all(emitter, scale, 1.0) else emitter.op("Div", [x, scale])


def _shifted(emitter: Emitter, x: str, zero: str, op_type: str) -> str:
    return x if _is_all(emitter, zero, 0.0) else emitter.op(op_type, [x, zero])


def _clipped(emitter: Emitter, x: str, limits: tuple[float, float]) -> str:
    return emitter.op("Clip", [x, emitter.constant(limits[0], "low"), emitter.constant(limits[1], "high")])


def _scaled_codes(emitter: Emitter, x: str, scale: str, node: onnx.NodeProto) -> None:
    if _is_all(emitter, scale, 1.0):
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
    "MultiThreshold": ((2,), _multi_threshold),
}
