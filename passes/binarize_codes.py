"""Layers on integer codes of few bits become sums of binary layers.

A code a is written as m + sum(s[i] * B[i]) with planes B of -1/+1. For two and three levels B[i] says whether a is
above the i-th half step, which is a threshold like any sign, and every s is half a step. Beyond that B[i] are the bits
of a, found from the highest by subtraction, and s doubles from bit to bit. A layer is linear, so

    layer(a, W) = sum(s[i] * layer(B[i], W)) + m * sum(W).

{0, 1} (one-bit DoReFa, step functions) costs one binary product, ternary codes (a sign with sign(0) = 0) two, n bits
cost n. Ternary weights split likewise, W = (W1 + W2) / 2. Zeros that pad the border are the B of the code 0; if it has
none, the layer stays, and so it does where the products would cost more than a real one. All numbers are multiples of
1/4 below 2**22, so nothing is rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import WORD_BITS, words_for
from qcompiler.ir.provenance import NOTE, REASON
from qcompiler.ir.view import constant_of, integer, ints, is_op, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal

FloatArray = npt.NDArray[np.float32]
_EXACT = 2**22
_MOST_LEVELS = 2**8
_MOST_THRESHOLDS = 2
_SPEEDUP = 8
"""Binary products per real product in the same time, at the least: what AVX2 and NEON reach; AVX-512 doubles it."""
_SPEEDUP_OF_A_ROW = 32
"""The same for a matrix product of one row, where a real product reads 32 bits for every bit of a binary one."""


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
                node.metadata_props[REASON] = outcome
                refusals.append(Refusal(node.name or "", outcome))
            else:
                rewrites += outcome
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


@dataclass(frozen=True)
class Form:
    """code = middle + sum(steps[i] * plane[i]); fills[i] is plane i of the code 0, None if 0 is no such code."""

    codes: Codes
    middle: float
    steps: tuple[float, ...]
    fills: tuple[float, ...] | None

    @property
    def by_bits(self) -> bool:
        """True if the planes are bits, False if they are thresholds."""
        return len(set(self.steps)) > 1


def form_of(codes: Codes) -> Form:
    """How codes are written in planes of -1/+1."""
    levels = codes.levels
    if levels - 1 <= _MOST_THRESHOLDS:
        middle, half = (codes.low + codes.high) / 2, codes.step / 2
        fill = -middle / (half * (levels - 1)) if levels > 1 else 0.0
        fills = (fill,) * (levels - 1) if fill in (-1.0, 0.0, 1.0) else None
        return Form(codes, middle, (half,) * (levels - 1), fills)
    bits = (levels - 1).bit_length()
    middle = codes.low + codes.step * (2**bits - 1) / 2
    steps = tuple(codes.step * 2.0 ** (bit - 1) for bit in reversed(range(bits)))
    zero, rest = divmod(-codes.low, codes.step)
    if rest or not 0 <= zero < levels:
        return Form(codes, middle, steps, None)
    return Form(codes, middle, steps, tuple(1.0 if zero >> bit & 1 else -1.0 for bit in reversed(range(bits))))


def weight_planes(weights: npt.NDArray[Any], op: str) -> tuple[FloatArray, ...] | None:
    """-1/+1 arrays whose mean is `weights`: one if they are -1/+1, two if -1/0/+1, None if neither."""
    if weights.dtype != np.float32 or weights.ndim != (2 if op == "MatMul" else 4):
        return None
    if not np.isin(weights, (-1, 0, 1)).all():
        return None
    upper = np.where(weights >= 1, np.float32(1), np.float32(-1))
    lower = np.where(weights >= 0, np.float32(1), np.float32(-1))
    return (upper,) if np.array_equal(upper, lower) else (upper, lower)


@dataclass
class _Splitter:
    ranges: IntegerRanges = field(default_factory=IntegerRanges)
    known: dict[ir.Value, tuple[ir.Value, ...]] = field(default_factory=dict)

    def split(self, node: ir.Node) -> int | str:
        """1 if rewritten, 0 if there is nothing to do, or why the layer must stay."""
        weights, source = constant_of(node.inputs[1]), node.inputs[0]
        if weights is None or len(node.inputs) > 2 or constant_of(source) is not None:
            return 0
        codes, halves = self.ranges.codes(source), weight_planes(weights, node.op_type)
        if codes is None or halves is None or codes.low == codes.high or (codes.binary and len(halves) == 1):
            return 0
        if codes.high - codes.low >= _MOST_LEVELS * codes.step:
            return 0
        form = form_of(codes)
        if reason := _objection(node, form, weights, len(halves)):
            return reason
        if source not in self.known:
            self.known[source] = (source,) if codes.binary else _planes(source, form, node)
        _rewrite(node, form, self.known[source], weights, halves)
        return 1


def _objection(node: ir.Node, form: Form, weights: npt.NDArray[Any], halves: int) -> str:
    products = len(form.steps) * halves
    packed = int(weights.shape[0] if node.op_type == "MatMul" else weights.shape[1])
    speedup = _SPEEDUP_OF_A_ROW if _has_one_row(node) else _SPEEDUP
    if products > 1 and products * words_for(packed) * WORD_BITS >= speedup * packed:
        return f"{products} binary products over {packed} channels cost more than a real one"
    fan_in = weights.size // weights.shape[-1 if node.op_type == "MatMul" else 0]
    if fan_in * (form.codes.high - form.codes.low + max(abs(form.codes.low), abs(form.codes.high))) * 4 >= _EXACT:
        return "its sums are too large for exact halves"
    if form.fills is None and any(ints(node, "pads", ())):
        return f"the zeros that pad the border are no level between {form.codes.low} and {form.codes.high}"
    return ""


def _has_one_row(node: ir.Node) -> bool:
    shape = static_shape(node.inputs[0])
    return node.op_type == "MatMul" and shape is not None and math.prod(shape[:-1]) == 1


def _planes(value: ir.Value, form: Form, anchor: ir.Node) -> tuple[ir.Value, ...]:
    if not form.by_bits:
        cuts = [form.codes.low + form.codes.step * (i + 0.5) for i in range(len(form.steps))]
        return tuple(_binarize(_shifted(value, cut, anchor), value, anchor) for cut in cuts)
    shape, origins = static_shape(value) or (), _origins(value, anchor)
    rest, planes = _shifted(value, form.middle, anchor), []
    for step in form.steps:
        planes.append(_binarize(rest, value, anchor))
        taken = insert(anchor, "Mul", [planes[-1], np.full(1, step, np.float32)], shape, origins=origins)
        rest = insert(anchor, "Sub", [rest, taken], shape, origins=origins)
    return tuple(planes)


def _origins(value: ir.Value, anchor: ir.Node) -> tuple[ir.Node, ...]:
    producer = value.producer()
    return (anchor,) if producer is None else (producer,)


def _shifted(value: ir.Value, by: float, anchor: ir.Node) -> ir.Value:
    shape = static_shape(value) or ()
    return insert(anchor, "Sub", [value, np.full(1, by, np.float32)], shape, origins=_origins(value, anchor))


def _binarize(x: ir.Value, value: ir.Value, anchor: ir.Node) -> ir.Value:
    shape = static_shape(value) or ()
    return insert(anchor, "Binarize", [x], shape, {"zero": 1.0}, origins=_origins(value, anchor))


def _rewrite(
    node: ir.Node,
    form: Form,
    planes: tuple[ir.Value, ...],
    weights: npt.NDArray[Any],
    halves: tuple[FloatArray, ...],
) -> None:
    shape = static_shape(node.outputs[0]) or ()
    unit = min(form.steps)
    fills = form.fills or (0.0,) * len(planes)
    total: ir.Value | None = None
    for plane, step, fill in zip(planes, form.steps, fills, strict=True):
        for half in halves:
            product = _product(node, plane, half, fill, shape)
            if len(planes) * len(halves) > 1:
                product.producer().metadata_props[NOTE] = _note(form, len(planes) * len(halves), len(halves))
            scaled = _times(node, product, step / unit, shape)
            total = scaled if total is None else insert(node, "Add", [total, scaled], shape)
    assert total is not None
    total = _times(node, total, unit / len(halves), shape)
    if form.middle != 0:
        matrix = node.op_type == "MatMul"
        sums = form.middle * weights.astype(np.float64).sum(axis=0 if matrix else (1, 2, 3))
        offset = sums.astype(np.float32).reshape((-1,) if matrix else (1, -1, 1, 1))
        total = insert(node, "Add", [total, offset], shape)
    replace(node.outputs[0], total)


def _note(form: Form, products: int, halves: int) -> str:
    low, high = form.codes.low, form.codes.high
    kind = "binary" if halves == 1 else "ternary"
    return f"one of {products} binary products of activations from {low} to {high} and {kind} weights"


def _times(node: ir.Node, value: ir.Value, factor: float, shape: tuple[int, ...]) -> ir.Value:
    return value if factor == 1 else insert(node, "Mul", [value, np.full(1, factor, np.float32)], shape)


def _product(node: ir.Node, plane: ir.Value, weights: FloatArray, fill: float, shape: tuple[int, ...]) -> ir.Value:
    if node.op_type == "MatMul":
        return insert(node, "BinaryMatMul", [plane, weights], shape)
    names = ("kernel_shape", "strides", "pads", "dilations")
    attributes: dict[str, object] = {name: list(ints(node, name, ())) for name in names}
    attributes["group"] = integer(node, "group", 1)
    attributes["pad_value"] = fill if any(ints(node, "pads", ())) else 0.0
    return insert(node, "BinaryConv", [plane, weights], shape, attributes)
