"""Record on every convolution and matrix product that stayed real why it did, for --explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.moves import moves_elements
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir.codes import Codes
from qcompiler.ir.provenance import REASON, label
from qcompiler.ir.traits import weight_axis
from qcompiler.ir.view import constant_of, is_op
from qcompiler.passes.extract_offsets import two_values
from qcompiler.passes.extract_scales import signs_and_scales
from qcompiler.passes.result import PassResult, Refusal

Array = npt.NDArray[Any]

_LAYERS = ("Conv", "MatMul", "Gemm", "ConvTranspose")
_SAMPLE = 1 << 16
_WIDEST = 8
_BINARIZE = "put a sign before it"
# how far from an integer a weight over its scale may be
_PRECISION = 1e-3


@dataclass(frozen=True)
class ExplainRealLayers:
    """Write metadata "qcompiler.reason" on real layers, before what earlier passes noted; changes no node."""

    name: str = "explain-real-layers"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Each reason is a refusal too; nothing is rewritten."""
        ranges = IntegerRanges()
        refusals = []
        for node in model.graph:
            if is_op(node, *_LAYERS):
                reason, found = reason_for(node, ranges), node.metadata_props.get(REASON, "")
                if reason not in found:
                    node.metadata_props[REASON] = "; ".join(filter(None, (reason, found)))
                refusals.append(Refusal(node.name or "", node.metadata_props[REASON]))
        return PassResult(self.name, 0, tuple(refusals))


def reason_for(node: ir.Node, ranges: IntegerRanges) -> str:
    """Why the layer is not binary, and what the user can do."""
    if is_op(node, "ConvTranspose"):
        return "transposed convolutions have no binary kernel; use an upsampling and a convolution"
    if len(node.inputs) > 2 and node.inputs[2] is not None and constant_of(node.inputs[2]) is None:
        return "the bias is computed at run time; make it a constant"
    parts = [part for part in (_about_activations(node, ranges), _about_weights(node)) if part]
    if not parts:
        return "its shape has no binary kernel: only 2-D convolutions and products with a matrix [K, O] have one"
    return "; ".join(parts)


def _about_activations(node: ir.Node, ranges: IntegerRanges) -> str:
    value, pad = node.inputs[0], None
    if constant_of(value) is not None:
        return "the left operand is a constant; put the weights on the right"
    while moves_elements(value.producer()) or is_op(value.producer(), "Pad"):
        pad = value.producer() if is_op(value.producer(), "Pad") else pad
        value = value.producer().inputs[0]
    origin = value.producer()
    if is_op(origin, "Sign"):
        ternary = "activations are ternary: sign(0) = 0; use x >= 0 instead of sign"
        return str(origin.metadata_props.get(REASON, ternary))
    codes = ranges.codes(value)
    if pad is not None and codes is not None and codes.binary:
        mode = pad.attributes.get_string("mode", "constant")
        return f"the signs pass {label(pad)} of mode {mode}; pad them with zeros in the layer, or pad before the sign"
    kind, advice = _kind(node.inputs[0], value, ranges)
    where = f"it reads the graph input '{value.name}'"
    if origin is not None:
        where = f"the input of the node comes from {label(origin)}"
    return f"activations are {kind}: {where}; {advice}" if kind else ""


def _kind(value: ir.Value, origin: ir.Value, ranges: IntegerRanges) -> tuple[str, str]:
    """What the activations are, and what would make them binary; "" for binary codes."""
    codes = ranges.codes(value)
    if codes is not None:
        return ("", "") if codes.binary else (_width(codes), _BINARIZE)
    return _scaled_kind(origin, ranges) or ("real", _BINARIZE)


def _scaled_kind(value: ir.Value, ranges: IntegerRanges) -> tuple[str, str] | None:
    """The same for codes behind products and sums with constants; None for anything else."""
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
    if not codes.binary:
        return kind, _BINARIZE
    return kind, "use activations of -s and +s with one number s, and put scales and offsets behind the layer"


def _width(codes: Codes) -> str:
    return f"{codes.bits}-bit integers ({codes.low} to {codes.high})"


def _about_weights(node: ir.Node) -> str:
    weights = constant_of(node.inputs[1])
    if weights is None:
        return "the weights are computed at run time"
    if weights.dtype != np.float32:
        return f"the weights are {weights.dtype}"
    split = signs_and_scales(weights, weight_axis(node))
    if split is not None and split[0].all():
        return ""
    if two_values(weights, weight_axis(node)) is not None:
        return "the weights of a channel take two values that are no -c and +c; subtract their mean, or use sign(W)"
    if np.unique(weights.reshape(-1)[:_SAMPLE]).size == 3:
        return "the weights are ternary (three values); binarize them with sign(W)"
    bits = _grid_bits(weights, weight_axis(node))
    if bits is not None:
        return f"the weights are {bits}-bit integers with a scale; only 1-bit weights run on bits: use sign(W)"
    return "the weights are real; binarize them with sign(W)"


def _grid_bits(weights: Array, axis: int) -> int | None:
    """Width of integers that are the weights but for one scale per output channel; None if no eight bits hold them."""
    widest = 0
    for channel in np.moveaxis(weights, axis, 0):
        bits = _bits_of(np.unique(channel))
        if bits is None:
            return None
        widest = max(widest, bits)
    return widest


def _bits_of(levels: Array) -> int | None:
    """The same for the different values of one channel: the coarsest grid through zero that has all of them."""
    largest = float(np.abs(levels).max())
    if levels.size > 2**_WIDEST or largest == 0:
        return None if largest else 1
    grids = np.arange(1, 2**_WIDEST)[:, None] * (levels.astype(np.float64) / largest)
    fitting = np.flatnonzero((np.abs(grids - np.rint(grids)) < _PRECISION).all(1))
    if not fitting.size:
        return None
    codes = np.rint(grids[fitting[0]])
    bits = int(np.ceil(np.log2(max(codes[-1], 0) - min(codes[0], 0) + 1)))
    return bits if bits <= _WIDEST else None
