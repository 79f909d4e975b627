"""Why a layer does not compute on integers, and what the user can do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.levels import levels_of
from qcompiler.analysis.moves import moves_elements
from qcompiler.analysis.ranges import WIDE, IntegerRanges, padded_codes
from qcompiler.analysis.weights import WIDEST, block_of, two_values, weight_codes
from qcompiler.ir.codes import BYTE, Codes
from qcompiler.ir.numerics import EXACT, fits_byte_sums
from qcompiler.ir.provenance import REASON, label
from qcompiler.ir.traits import LAYER, Trait, channel_axis, has, weight_axis
from qcompiler.ir.view import constant_of, ints, is_op, static_shape

Array = npt.NDArray[Any]

_QUANTIZE = "put a sign before it, or a quantizer"
_QUANTIZE_WEIGHTS = "quantize them to integers times a scale per output channel, or to sign(W)"
_OTHERS = {
    "ConvTranspose": "transposed convolutions have no kernel on integers; use an upsampling and a convolution",
    "RNN": "recurrent layers have no kernel on integers",
    "GRU": "recurrent layers have no kernel on integers",
    "LSTM": "recurrent layers have no kernel on integers",
}


def why_real(node: ir.Node, ranges: IntegerRanges, bits: int | None) -> str:
    """Why a layer cannot compute on integers; "" if it can. bits: of its weights, see `weight_bits`."""
    if not has(node, LAYER):
        return _OTHERS.get(node.op_type, f"{node.op_type} has no kernel on integers")
    if len(node.inputs) > 2 and node.inputs[2] is not None and constant_of(node.inputs[2]) is None:
        return "the bias is computed at run time; make it a constant"
    if constant_of(node.inputs[0]) is not None:
        return "the left operand is a constant; put the weights on the right"
    if _averages(node) and ranges.codes(_moved_from(node.inputs[0])[0]) is None:
        return "it averages windows of real numbers, as XNOR-Net's K map does: its weights are one number; leave it"
    weights = _about_weights(node, bits)
    # one scale is taken out of activations as soon as the weights are integers
    scaled = _scaled_kind(_moved_from(node.inputs[0])[0], ranges) if weights else None
    fine = scaled is not None and scaled[0].endswith("with a scale")
    parts = [part for part in ("" if fine else _about_activations(node, ranges), weights) if part]
    return "; ".join(parts) or _about_shape(node) or _about_sums(node, ranges)


def remark(node: ir.Node) -> str:
    """What would make the inputs of a layer narrower; "" if nothing is known."""
    origin = _moved_from(node.inputs[0])[0].producer()
    if not is_op(origin, "Sign"):
        return ""
    ternary = "activations are ternary: sign(0) = 0; use x >= 0 instead of sign"
    return str(origin.metadata_props.get(REASON, ternary))


def _averages(node: ir.Node) -> bool:
    """Whether a convolution is a mean or a sum of each window, of every channel by itself."""
    weights = constant_of(node.inputs[1])
    if weights is None or not has(node, Trait.CONVOLVES) or weights.shape[1:2] != (1,):
        return False
    return bool(np.unique(weights).size == 1 and weights.flat[0] > 0)


def _about_activations(node: ir.Node, ranges: IntegerRanges) -> str:
    codes = ranges.codes(node.inputs[0])
    if codes is not None:
        return "" if codes.bits <= WIDEST else f"activations are {_width(codes)}, of more than {WIDEST} bits"
    value, pad = _moved_from(node.inputs[0])
    origin = value.producer()
    codes = ranges.codes(value)
    if pad is not None and codes is not None:
        return f"the codes pass {label(pad)}, which adds other numbers; pad them with zeros in the layer"
    kind, advice = _scaled_kind(value, ranges) or _many_levels(node, ranges) or ("real", _QUANTIZE)
    where = f"it reads the graph input '{value.name}'"
    if origin is not None:
        where = f"the input of the node comes from {label(origin)}"
    return f"activations are {kind}: {where}; {advice}"


def _moved_from(value: ir.Value) -> tuple[ir.Value, ir.Node | None]:
    """The value whose elements are only moved and padded on the way to `value`, and the first Pad on it."""
    pad = None
    while moves_elements(value.producer()) or is_op(value.producer(), "Pad"):
        pad = value.producer() if is_op(value.producer(), "Pad") else pad
        value = value.producer().inputs[0]
    return value, pad


def _scaled_kind(value: ir.Value, ranges: IntegerRanges) -> tuple[str, str] | None:
    """What codes behind products and sums with constants are, and what would make them integers; None for others."""
    factors: list[Array] = []
    offsets: list[Array] = []
    while (codes := ranges.codes(value)) is None:
        node = value.producer()
        operands = [] if node is None else [(i, constant_of(i)) for i in node.inputs]
        constants = [constant for _, constant in operands if constant is not None]
        if not is_op(node, "Mul", "Div", "Add", "Sub") or len(constants) != 1:
            return None
        (factors if is_op(node, "Mul", "Div") else offsets).append(constants[0])
        value = next(operand for operand, constant in operands if constant is None)
    scale = "a scale per channel" if any(np.unique(factor).size > 1 for factor in factors) else "a scale"
    parts = [*([scale] if factors else []), *(["an offset"] if offsets else [])]
    kind = f"{_width(codes)} with {' and '.join(parts)}"
    return kind, "use activations of one scale s and no offset, and put scales and offsets behind the layer"


def _many_levels(node: ir.Node, ranges: IntegerRanges) -> tuple[str, str] | None:
    """What means and sums of codes are that take more levels than eight bits tell apart; None for others."""
    shape = static_shape(node.inputs[0])
    levels = None if shape is None else levels_of(node.inputs[0], channel_axis(node, len(shape)), ranges)
    if levels is None or not levels.step.all():
        return None
    count = int(np.rint((levels.high - levels.low) / levels.step).max()) + 1
    kind = f"numbers of {count} levels, more than {2**WIDEST}"
    return (kind, "put a quantizer between them and the layer") if count > 2**WIDEST else None


def _width(codes: Codes) -> str:
    if max(-codes.low, codes.high) >= EXACT:
        return "integers without bounds"
    return f"{codes.bits}-bit integers ({codes.low} to {codes.high})"


def _about_weights(node: ir.Node, bits: int | None) -> str:
    weights = constant_of(node.inputs[1])
    if weights is None:
        return "the weights are computed at run time"
    if weights.dtype != np.float32:
        return f"the weights are {weights.dtype}"
    if weight_codes(weights) is not None or weights.ndim < 2:
        return ""
    if bits is None and (block := block_of(node, weights)) is not None:
        return f"the weights have a scale for every {block} inputs; use one per output channel"
    if bits is None:
        return f"the weights are real, or of more than {WIDEST} bits; {_QUANTIZE_WEIGHTS}"
    if bits == 1 and two_values(weights, weight_axis(node)) is not None:
        return "the weights of a channel take two values that are no -c and +c; subtract their mean, or use sign(W)"
    # scales are taken out of the weights as soon as the activations are integers
    return ""


def _about_shape(node: ir.Node) -> str:
    weights, rank = constant_of(node.inputs[1]), 4 if has(node, Trait.CONVOLVES) else 2
    if weights is None or weights.ndim != rank or static_shape(node.outputs[0]) is None:
        return "only 2-D convolutions and products with a matrix [K, O] have a kernel on integers"
    if weight_codes(weights) is None:
        return "the scale of its weights could not be taken out"
    if has(node, Trait.CONVOLVES) and ("pads" not in node.attributes or min(ints(node, "pads", ())) < 0):
        return "its padding is negative or not spelled out"
    return ""


def _about_sums(node: ir.Node, ranges: IntegerRanges) -> str:
    if ranges.lattice(node) is not None:
        return ""
    if ranges.lattice(node, WIDE) is None:
        return "its sums may be no integers below 2**31"
    if wide_lows(node, ranges) is None:
        return "its sums may pass 2**24, and its inputs and weights are no bytes whose products 32 bits add up"
    return ""


def wide_lows(node: ir.Node, ranges: IntegerRanges) -> tuple[int, int] | None:
    """From where on inputs, border and 0 are bytes, and from where on weights are.

    None where either are no bytes, or 32 bits do not hold the sums of as many products of bytes.
    """
    codes, weights = ranges.codes(node.inputs[0]), constant_of(node.inputs[1])
    if codes is None or weights is None:
        return None
    inputs, low = padded_codes(node, codes).union(Codes(0, 0)), _byte_low(Codes(int(weights.min()), int(weights.max())))
    if inputs.high - inputs.low >= 2**WIDEST or low is None:
        return None
    taps, rows = (weights[0, 0].size, weights.shape[1]) if has(node, Trait.CONVOLVES) else (1, weights.shape[0])
    return (inputs.low, low) if fits_byte_sums(taps, rows, centred=low != BYTE.low) else None


def _byte_low(weights: Codes) -> int | None:
    """From where on weights are bytes: with a sign if they can be, else with 0 among them."""
    if weights.within(BYTE):
        return BYTE.low
    held = weights.union(Codes(0, 0))
    return held.low if held.high - held.low < 2**WIDEST else None
