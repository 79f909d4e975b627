"""The numbers of a graph input at which something behind it turns: levels and steps of quantizers, bounds, thresholds.

From the input on, the graph is followed through changes of layout and through sums and products with constants, which
are affine: y = factor * x + offset. Where a number y is special to an op, x = (y - offset) / factor is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, consumers_of, dtype_of, integer, number, shape_of

Array = npt.NDArray[Any]

# per input; chosen, like those of constants and nodes below
_MOST_NUMBERS = 512
# some processors take denormal numbers for 0, and products of small ones are denormal
_NEXT_TO_ZERO = 2.0**-60
_MOST_CONSTANTS = 8
_MOST_NODES = 64
_CUTTING = ("Relu", "Clip", "Max", "Min")
_STEPS = np.arange(-9, 9.5, 0.5)
_AT_ZERO = ("Sign", "Binarize", "Relu", "PRelu", "LeakyRelu", "Abs")
_AT_HALVES = ("Round", "Floor", "Ceil", "Cast")
_AT_CONSTANTS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Max", "Min", "Sub")
_INDEXING = ("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "OneHot")


@dataclass(frozen=True)
class _Affine:
    """A value as factor * x + offset of the input x."""

    value: ir.Value
    factor: float = 1.0
    offset: float = 0.0


def critical_numbers(value: ir.Value) -> Array:
    """Numbers at which something behind the input `value` turns, and their neighbours in its dtype; [at most 512]."""
    dtype = dtype_of(value)
    found: list[float] = []
    for each, node in _followed(value):
        numbers = np.asarray(_special(node, each.value), np.float64)
        found += ((numbers - each.offset) / each.factor).tolist()
    exact = np.unique(np.asarray(found, np.float64).astype(dtype)) if found else np.zeros(0, dtype)
    exact = exact[np.isfinite(exact)]
    around = [
        np.where(exact == 0, dtype.type(side * _NEXT_TO_ZERO), np.nextafter(exact, dtype.type(side * np.inf)))
        for side in (-1, 1)
    ]
    everything = np.unique(np.concatenate([exact, *around]))
    finite: Array = everything[np.isfinite(everything)]
    return finite[:: max(finite.size // _MOST_NUMBERS, 1)][:_MOST_NUMBERS]


def largest_magnitude(value: ir.Value) -> float:
    """A large number that is no other kind of special: casts of larger ones to integers are not defined."""
    casts = [node for node in value.graph or () if node.op_type == "Cast" and not has(_maker(node), Trait.LANDS)]
    narrow = [node for node in casts if dtype_of(node.outputs[0]).kind in "iu"]
    bits = min((np.iinfo(dtype_of(node.outputs[0])).bits for node in narrow), default=32)
    # what a gate of large sums lets through hangs on their rounding
    gates = any(node.op_type in ("GRU", "LSTM", "RNN") for node in value.graph or ())
    return 100.0 if gates or bits <= 16 else 1e4


def _maker(node: ir.Node) -> ir.Node | None:
    return None if node.inputs[0] is None else node.inputs[0].producer()


def meaningful_range(value: ir.Value) -> tuple[float, float] | None:
    """Numbers that have a meaning for an input where others have none; None where all have.

    A quantizer's scale is positive. A power that becomes an integer has to be one: neither NaN (a root of a negative
    number) nor infinite (0 to a negative exponent) nor out of the integer's range.
    """
    if any(_is_scale(node, each.value) for each, node in _followed(value)):
        return 0.25, 2.0
    widened = [usage.node.outputs[0] for usage in value.uses() if usage.node.op_type == "Cast"]
    for usage in (usage for each in (value, *widened) for usage in each.uses()):
        if usage.node.op_type == "Pow" and _is_cut(usage.node.outputs[0]):
            return (-1.0, 4.0) if usage.idx == 1 else (1.0, 9.0)
    return None


def _is_scale(node: ir.Node, value: ir.Value) -> bool:
    """Whether a value is the scale of a quantizer, or of what it was spelled out to."""
    if len(node.inputs) < 2 or node.inputs[1] is not value or node.op_type not in ("Quantize", "Div"):
        return False
    readers = [node]
    while node.op_type == "Div" and len(readers) == 1 and readers[0].op_type in ("Div", "Add", "Clip"):
        readers = consumers_of(readers[0].outputs[0])
    return node.op_type == "Quantize" or any(reader.op_type in ("Round", "Floor", "Ceil") for reader in readers)


def _is_cut(value: ir.Value) -> bool:
    """Whether a value is cast to integers."""
    return any(node.op_type == "Cast" and dtype_of(node.outputs[0]).kind in "iu" for node in consumers_of(value))


def index_limit(value: ir.Value) -> int | None:
    """The extent of the axis into which an integer input points; None where it is no index."""
    limits = []
    for each, node in _followed(value):
        if node.op_type in _INDEXING and node.domain == "" and len(node.inputs) > 1 and node.inputs[1] is each.value:
            limits += _extents(node)
    return min(limits, default=None)


def _extents(node: ir.Node) -> list[int]:
    """The extents of the axes into which the indices of `node` point."""
    if node.op_type == "OneHot":
        return []
    shape = shape_of(node.inputs[0])
    if node.op_type.endswith("ND"):
        return list(shape)
    return [shape[integer(node, "axis", 0)]]


def _followed(value: ir.Value) -> Iterator[tuple[_Affine, ir.Node]]:
    """Every op that reads the input, or what is a layout or an affine function of it."""
    seen: set[ir.Node] = set()
    waiting = [_Affine(value)]
    while waiting and len(seen) < _MOST_NODES:
        each = waiting.pop(0)
        for node in consumers_of(each.value):
            if node in seen:
                continue
            seen.add(node)
            yield each, node
            waiting += _beyond(each, node)


def _beyond(each: _Affine, node: ir.Node) -> list[_Affine]:
    if node.domain != "":
        return []
    out = node.outputs[0]
    converted = node.op_type == "Cast" and dtype_of(out).kind in "fiu"
    if converted or has(node, Trait.MOVES, Trait.JOINS) or node.op_type in _CUTTING:
        return [_Affine(out, each.factor, each.offset)]
    if node.op_type == "Neg":
        return [_Affine(node.outputs[0], -each.factor, -each.offset)]
    constants = [_few(constant) for i in node.inputs if (constant := constant_of(i)) is not None]
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(constants) != 1:
        return []
    reversed_ = constant_of(node.inputs[0]) is not None
    return [
        _Affine(node.outputs[0], *pair)
        for constant in constants[0][:2]
        if (pair := _applied(node.op_type, each, float(constant), reversed_)) is not None and pair[0] != 0
    ]


def _applied(op: str, each: _Affine, constant: float, reversed_: bool) -> tuple[float, float] | None:
    if op == "Add":
        return each.factor, each.offset + constant
    if op == "Sub":
        return (-each.factor, constant - each.offset) if reversed_ else (each.factor, each.offset - constant)
    if op == "Mul":
        return each.factor * constant, each.offset * constant
    return None if reversed_ or constant == 0 else (each.factor / constant, each.offset / constant)


def _special(node: ir.Node, value: ir.Value) -> list[float]:
    """The numbers of its operand `value` at which `node` turns."""
    if node.op_type in _AT_ZERO:
        return [0.0]
    if node.op_type in _AT_HALVES:
        return [float(step) for step in _STEPS]
    if node.op_type == "Quantize" and node.inputs[0] is value:
        return _turns(node)
    constants = [float(each) for i in node.inputs if i is not value for each in _few(constant_of(i))]
    if node.op_type == "Clip":
        # codes that are clipped before they are rounded turn half a code beyond the bounds
        return [bound + half for bound in constants for half in (-0.5, 0.0, 0.5)]
    if node.op_type in _AT_CONSTANTS:
        return constants
    if node.op_type == "Add":
        return [-each for each in constants]
    if node.op_type in ("ThresholdedRelu", "Shrink"):
        return [number(node, "alpha", 1.0), number(node, "lambd", 0.5)]
    return []


def _turns(quantize: ir.Node) -> list[float]:
    """Where x / scale + zero is whole or halfway, near x = 0 and at both ends of the codes."""
    scales, zeros = (_few(constant_of(quantize.inputs[position])) for position in (1, 2))
    ends = [number(quantize, name, 0.0) + half for name in ("low", "high") for half in (-0.5, 0.0, 0.5)]
    shifted = [step - zero for zero in zeros for step in (*(np.rint(zero) + _STEPS), *ends)]
    return [float(scale * step) for scale in scales for step in shifted]


def _few(constant: Array | None) -> Array:
    """Some of the different numbers of a constant."""
    if constant is None or constant.dtype.kind not in "fiu" or not constant.size:
        return np.zeros(0)
    numbers = np.unique(constant.reshape(-1)[: 1 << 16].astype(np.float64))
    return numbers[:: max(numbers.size // _MOST_CONSTANTS, 1)][:_MOST_CONSTANTS]
