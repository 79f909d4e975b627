"""Layers on codes of two to four levels become sums of binary layers.

Codes of L levels are a = m + h * (B1 + ... + B(L-1)) with B -1/+1: Bi says whether a is above the i-th half step, which
is a threshold like any sign. So {0, 1} (one-bit DoReFa, step functions) costs one binary product,

    conv(a, W) = h * conv(B, W) + m * sum(W),

ternary codes (a sign with sign(0) = 0, narrow two-bit quantizers) two, and two bits three. Ternary weights split
likewise, W = (W1 + W2) / 2. Zeros that pad the border are the B for which m + h * (L-1) * B = 0; if there is none, the
layer stays. All numbers are multiples of 1/4 below 2**22, so nothing is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.numerics import WORD_BITS, words_for
from qcompiler.ir.view import constant_of, integer, ints
from qcompiler.passes.editing import insert, is_op, remove_dead, replace, static_shape
from qcompiler.passes.provenance import NOTE
from qcompiler.passes.ranges import Codes, IntegerRanges
from qcompiler.passes.result import PassResult, Refusal

FloatArray = npt.NDArray[np.float32]
_EXACT = 2**22
_MOST_LEVELS = 4
_SPEEDUP = 8
"""Binary products per real product in the same time, at the least: what AVX2 and NEON reach; AVX-512 doubles it."""


@dataclass(frozen=True)
class BinarizeCodes:
    """Rewrite Conv and MatMul on codes of few levels, unless both operands are -1/+1 already."""

    name: str = "binarize-codes"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every such layer; the planes of a value are shared by its layers."""
        splitter = _Splitter()
        rewrites, refusals = 0, []
        for node in [node for node in model.graph if is_op(node, "Conv", "MatMul")]:
            outcome = splitter.split(node)
            if isinstance(outcome, str):
                refusals.append(Refusal(node.name or "", outcome))
            else:
                rewrites += outcome
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


@dataclass(frozen=True)
class _Planes:
    """value = middle + half * sum(signs)."""

    signs: tuple[ir.Value, ...]
    middle: float
    half: float


@dataclass
class _Splitter:
    ranges: IntegerRanges = field(default_factory=IntegerRanges)
    known: dict[ir.Value, _Planes] = field(default_factory=dict)

    def split(self, node: ir.Node) -> int | str:
        """1 if rewritten, 0 if there is nothing to do, or why the layer must stay."""
        weights, source = constant_of(node.inputs[1]), node.inputs[0]
        if weights is None or len(node.inputs) > 2 or constant_of(source) is not None:
            return 0
        codes = self.ranges.codes(source)
        halves = weight_planes(weights, node.op_type)
        if codes is None or halves is None or _levels(codes) < 2 or (codes.binary and len(halves) == 1):
            return 0
        products, fan_in = (_levels(codes) - 1) * len(halves), _fan_in(weights, node.op_type)
        if _levels(codes) > _MOST_LEVELS:
            return 0
        if products > 1 and products * words_for(fan_in) * WORD_BITS > _SPEEDUP * fan_in:
            return f"{products} binary products over {fan_in} channels cost more than a real one"
        largest = max(abs(codes.low), abs(codes.high)) + codes.step
        if np.abs(weights).sum() / _channels(weights, node.op_type) * largest * 4 >= _EXACT:
            return "its sums are too large for exact halves"
        fill = _fill(codes, any(ints(node, "pads", ())))
        if fill is None:
            return f"the zeros that pad the border are no level between {codes.low} and {codes.high}"
        planes = self._planes(source, codes, node)
        _rewrite(node, planes, weights, halves, fill)
        return 1

    def _planes(self, value: ir.Value, codes: Codes, anchor: ir.Node) -> _Planes:
        if value not in self.known:
            cuts = [codes.low + codes.step * (i + 0.5) for i in range(_levels(codes) - 1)]
            signs = (value,) if codes.binary else tuple(_sign_above(value, cut, anchor) for cut in cuts)
            self.known[value] = _Planes(signs, (codes.low + codes.high) / 2, codes.step / 2)
        return self.known[value]


def weight_planes(weights: npt.NDArray[Any], op: str) -> tuple[FloatArray, ...] | None:
    """-1/+1 arrays whose mean is `weights`: one if they are -1/+1, two if -1/0/+1, None if neither."""
    if weights.dtype != np.float32 or weights.ndim != (2 if op == "MatMul" else 4):
        return None
    if not np.isin(weights, (-1, 0, 1)).all():
        return None
    upper = np.where(weights >= 1, np.float32(1), np.float32(-1))
    lower = np.where(weights >= 0, np.float32(1), np.float32(-1))
    return (upper,) if np.array_equal(upper, lower) else (upper, lower)


def _levels(codes: Codes) -> int:
    return (codes.high - codes.low) // codes.step + 1


def _channels(weights: npt.NDArray[np.generic], op: str) -> int:
    return int(weights.shape[-1] if op == "MatMul" else weights.shape[0])


def _fan_in(weights: npt.NDArray[np.generic], op: str) -> int:
    """Channels that a word packs together."""
    return int(weights.shape[0] if op == "MatMul" else weights.shape[1])


def _fill(codes: Codes, padded: bool) -> float | None:
    """The border value of the planes that stands for the code 0."""
    middle, half = (codes.low + codes.high) / 2, codes.step / 2
    fill = -middle / (half * (_levels(codes) - 1))
    return fill if not padded or fill in (-1.0, 0.0, 1.0) else None


def _sign_above(value: ir.Value, cut: float, anchor: ir.Node) -> ir.Value:
    shape = static_shape(value) or ()
    producer = value.producer()
    origins = (anchor,) if producer is None else (producer,)
    difference = insert(anchor, "Sub", [value, np.full(1, cut, np.float32)], shape, origins=origins)
    return insert(anchor, "Binarize", [difference], shape, {"zero": 1.0}, origins=origins)


def _rewrite(
    node: ir.Node, planes: _Planes, weights: npt.NDArray[np.generic], halves: tuple[FloatArray, ...], fill: float
) -> None:
    shape = static_shape(node.outputs[0]) or ()
    products = [_product(node, sign, half, fill, shape) for sign in planes.signs for half in halves]
    total = products[0]
    for product in products[1:]:
        total = insert(node, "Add", [total, product], shape)
    factor = planes.half / len(halves)
    if factor != 1:
        total = insert(node, "Mul", [total, np.full(1, factor, np.float32)], shape)
    if planes.middle != 0:
        axis = 0 if node.op_type == "MatMul" else (1, 2, 3)
        sums = (planes.middle * weights.astype(np.float64).sum(axis=axis)).astype(np.float32)
        layout = (-1,) if node.op_type == "MatMul" else (1, -1, 1, 1)
        total = insert(node, "Add", [total, sums.reshape(layout)], shape)
    if len(products) > 1:
        for product in products:
            levels = f"{len(planes.signs) + 1}-level activations and {len(halves) + 1}-level weights"
            product.producer().metadata_props[NOTE] = f"one of {len(products)} binary products of {levels}"
    replace(node.outputs[0], total)


def _product(node: ir.Node, sign: ir.Value, weights: FloatArray, fill: float, shape: tuple[int, ...]) -> ir.Value:
    if node.op_type == "MatMul":
        return insert(node, "BinaryMatMul", [sign, weights], shape)
    names = ("kernel_shape", "strides", "pads", "dilations")
    attributes: dict[str, object] = {name: list(ints(node, name, ())) for name in names}
    attributes["group"] = integer(node, "group", 1)
    attributes["pad_value"] = fill if any(ints(node, "pads", ())) else 0.0
    return insert(node, "BinaryConv", [sign, weights], shape, attributes)
