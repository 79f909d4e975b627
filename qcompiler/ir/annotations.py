"""Which values of a graph are binary codes or exact integers, and in which range.

A fact says that every element of a value is 2**exponent * n for an integer n in low, low + step, ..., high, with |n|
below 2**24: then the value is exact in float32, and so was every sum on the way to it. Facts are proven from the graph
alone, one operator at a time; a value without a fact may still be an integer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.ops import DOMAIN
from qcompiler.ir.view import constant_of, integer, ints, number, shape_of, text

EXACT = 2**24
_LARGEST_EXPONENT = 60
_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ValueFacts:
    """Every element is 2**exponent times one of low, low + step, ..., high."""

    low: int
    high: int
    step: int = 1
    exponent: int = 0

    @property
    def binary(self) -> bool:
        """Exactly -1 and +1."""
        return (self.low, self.high, self.step, self.exponent) == (-1, 1, 2, 0)

    @property
    def integer(self) -> bool:
        """Integers, whatever the scale they are written at."""
        return self.exponent >= 0

    @property
    def magnitude(self) -> int:
        """The largest |n|."""
        return max(abs(self.low), abs(self.high))


BINARY = ValueFacts(-1, 1, 2)


def analyse(model: ir.Model) -> Mapping[str, ValueFacts]:
    """The facts of all values for which there are any, by value name."""
    facts: dict[ir.Value, ValueFacts] = {}
    for value in model.graph.initializers.values():
        _note(facts, value, _of_constant(constant_of(value)))
    for value in model.graph.inputs:
        _note(facts, value, _of_type(value))
    for node in model.graph:
        rule = _RULES.get((node.domain, node.op_type))
        found = rule(node, _Operands(facts)) if rule is not None else None
        for position, output in enumerate(node.outputs):
            ruled = found if position == 0 or node.op_type == "Split" else None
            _note(facts, output, ruled if ruled is not None else _of_type(output))
    return {str(value.name): fact for value, fact in facts.items()}


class _Operands:
    """The facts of a node's inputs."""

    def __init__(self, facts: Mapping[ir.Value, ValueFacts]) -> None:
        self._facts = facts

    def of(self, node: ir.Node, position: int) -> ValueFacts | None:
        """The fact of one input, None where it is absent or unknown."""
        value = node.inputs[position] if position < len(node.inputs) else None
        return None if value is None else self._facts.get(value)

    def all(self, node: ir.Node, start: int = 0) -> list[ValueFacts | None]:
        """The facts of all inputs from `start` on."""
        return [self.of(node, position) for position in range(start, len(node.inputs))]


_Rule = Callable[[ir.Node, _Operands], ValueFacts | None]


def _note(facts: dict[ir.Value, ValueFacts], value: ir.Value, found: ValueFacts | None) -> None:
    if found is not None and found.magnitude < EXACT and abs(found.exponent) <= _LARGEST_EXPONENT:
        facts[value] = found


def _of_type(value: ir.Value) -> ValueFacts | None:
    """The range of an integer type of at most 16 bits."""
    if value.dtype is None or not value.dtype.is_integer() or value.dtype.bitwidth > 16:
        return None
    bits = value.dtype.bitwidth
    return (
        ValueFacts(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if value.dtype.is_signed() else ValueFacts(0, 2**bits - 1)
    )


def _of_constant(array: _Array | None) -> ValueFacts | None:
    """The smallest progression with the elements of `array`, which is finite."""
    if array is None or array.size == 0 or array.dtype.kind not in "fiu":
        return None
    numbers = array.astype(np.float64).reshape(-1)
    if not np.isfinite(numbers).all():
        return None
    exponent = _common_exponent(numbers)
    scaled = np.ldexp(numbers, -exponent)
    low, high = scaled.min(), scaled.max()
    if max(abs(low), abs(high)) >= EXACT:
        return None
    step = int(np.gcd.reduce((scaled - low).astype(np.int64)))
    return ValueFacts(int(low), int(high), step or 1, exponent)


def _common_exponent(numbers: npt.NDArray[np.float64]) -> int:
    """The largest e for which all numbers are multiples of 2**e, but 0 where they are integers."""
    if np.array_equal(numbers, np.rint(numbers)):
        return 0
    mantissas, exponents = np.frexp(numbers[numbers != 0])
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    trailing = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    return int((exponents - 53 + trailing).min())


def _aligned(a: ValueFacts, b: ValueFacts) -> tuple[ValueFacts, ValueFacts]:
    """Both at the smaller exponent."""
    exponent = min(a.exponent, b.exponent)

    def at(fact: ValueFacts) -> ValueFacts:
        factor = 2 ** (fact.exponent - exponent)
        return ValueFacts(fact.low * factor, fact.high * factor, fact.step * factor, exponent)

    return at(a), at(b)


def _joined(facts: Sequence[ValueFacts | None]) -> ValueFacts | None:
    """The smallest fact that covers all of `facts`."""
    result = facts[0]
    for other in facts[1:]:
        if result is None or other is None:
            return None
        a, b = _aligned(result, other)
        step = math.gcd(_spacing(a), _spacing(b), a.low - b.low)
        result = ValueFacts(min(a.low, b.low), max(a.high, b.high), step or 1, a.exponent)
    return result


def _spacing(fact: ValueFacts) -> int:
    return fact.step if fact.high > fact.low else 0


def _kept(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    return operands.of(node, 0)


def _binarize(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    return ValueFacts(-1, 1) if number(node, "zero", 1.0) == 0 else BINARY


def _concat(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    return _joined(operands.all(node))


def _where(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    return _joined(operands.all(node, 1))


def _pad(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    if text(node, "mode", "constant") != "constant":
        return operands.of(node, 0)
    absent = len(node.inputs) < 3 or node.inputs[2] is None
    return _joined([operands.of(node, 0), ValueFacts(0, 0) if absent else operands.of(node, 2)])


def _neg(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    fact = operands.of(node, 0)
    return None if fact is None else replace(fact, low=-fact.high, high=-fact.low)


def _sum(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    a, b = operands.all(node)
    if a is None or b is None:
        return None
    a, b = _aligned(a, b)
    if node.op_type == "Sub":
        b = replace(b, low=-b.high, high=-b.low)
    step = math.gcd(_spacing(a), _spacing(b))
    return ValueFacts(a.low + b.low, a.high + b.high, step or 1, a.exponent)


def _product(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    a, b = operands.all(node)
    if a is None or b is None:
        return None
    ends = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    exponent = a.exponent + b.exponent
    for fixed, other in ((a, b), (b, a)):
        if fixed.low == fixed.high:
            return ValueFacts(min(ends), max(ends), abs(fixed.low) * other.step or 1, exponent)
    both = BINARY if a.low == b.low == -1 and a.high == b.high == 1 and a.step == b.step == 2 else None
    return ValueFacts(min(ends), max(ends), both.step if both else 1, exponent)


def _quotient(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    """Division by a power of two."""
    fact, divisor = operands.of(node, 0), constant_of(node.inputs[1])
    if fact is None or divisor is None or divisor.size != 1 or divisor.dtype.kind != "f":
        return None
    mantissa, exponent = math.frexp(float(divisor.reshape(())))
    return replace(fact, exponent=fact.exponent - exponent + 1) if mantissa == 0.5 else None


def _clip(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    fact, bounds = operands.of(node, 0), _bounds(node)
    if fact is None or bounds is None or bounds[0] > bounds[1]:
        return None
    low, high = (bound if math.isinf(bound) else bound / 2.0**fact.exponent for bound in bounds)
    if not all(math.isinf(bound) or bound == round(bound) for bound in (low, high)):
        return None
    if low <= fact.low and fact.high <= high:
        return fact
    start, end = (int(min(max(n, low), high)) for n in (fact.low, fact.high))
    return ValueFacts(start, end, 1, fact.exponent)


def _bounds(node: ir.Node) -> tuple[float, float] | None:
    """What a Clip or Relu lets through; None where that is not constant."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    bounds = [-math.inf, math.inf]
    for position, value in enumerate(node.inputs[1:3]):
        array = constant_of(value)
        if value is not None and (array is None or array.size != 1 or np.isnan(array).any()):
            return None
        if array is not None:
            bounds[position] = float(array.reshape(()))
    return bounds[0], bounds[1]


def _rounded(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    """Integers, where the operand is bounded: by what is known of it or by a Clip just before."""
    fact, source = operands.of(node, 0), node.inputs[0]
    if fact is not None and fact.integer:
        return fact
    if fact is not None:
        return ValueFacts(math.floor(fact.low * 2.0**fact.exponent), math.ceil(fact.high * 2.0**fact.exponent))
    before = None if source is None else source.producer()
    if before is None or before.domain != "" or before.op_type != "Clip":
        return None
    bounds = _bounds(before)
    if bounds is None or any(map(math.isinf, bounds)) or bounds[0] > bounds[1]:
        return None
    return ValueFacts(math.floor(bounds[0]), math.ceil(bounds[1]))


def _accumulated(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    """A convolution or matrix product of codes: every partial sum is bounded by sum |w| * max |x|."""
    x, w = operands.of(node, 0), operands.of(node, 1)
    if x is None or w is None or node.inputs[1] is None:
        return None
    x = _padded(node, x)
    columns = _columns(node)
    result = _live_sum(node, x, w) if columns is None else _constant_sum(np.ldexp(columns, -w.exponent), x, w.exponent)
    bias = operands.of(node, 2)
    if result is None or len(node.inputs) < 3 or node.inputs[2] is None:
        return result
    if bias is None:
        return None
    a, b = _aligned(result, bias)
    return ValueFacts(a.low + b.low, a.high + b.high, math.gcd(_spacing(a), _spacing(b)) or 1, a.exponent)


def _padded(node: ir.Node, x: ValueFacts) -> ValueFacts:
    pads = any(ints(node, "pads", ())) or text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if not pads or "Conv" not in node.op_type:
        return x
    fill = int(number(node, "pad_value", 0.0)) if node.domain == DOMAIN else 0
    return _joined([x, ValueFacts(fill, fill)]) or x


def _columns(node: ir.Node) -> npt.NDArray[np.float64] | None:
    """Constant weights as [products per output, output channels]."""
    weights = constant_of(node.inputs[1])
    if weights is None:
        return None
    numbers = weights.astype(np.float64)
    if "Conv" in node.op_type:
        return numbers.reshape(numbers.shape[0], -1).T
    if node.op_type == "Gemm" and integer(node, "transB", 0):
        return numbers.T
    return np.moveaxis(numbers, -2, 0).reshape(numbers.shape[-2], -1) if numbers.ndim > 1 else numbers[:, None]


def _constant_sum(columns: npt.NDArray[np.float64], x: ValueFacts, exponent: int) -> ValueFacts | None:
    positive, negative = np.maximum(columns, 0).sum(axis=0), np.minimum(columns, 0).sum(axis=0)
    if ((positive - negative) * x.magnitude >= EXACT).any():
        return None
    lows = (positive * x.low + negative * x.high).astype(np.int64)
    highs = (positive * x.high + negative * x.low).astype(np.int64)
    steps = np.gcd.reduce(np.abs(columns).astype(np.int64), axis=0) * _spacing(x)
    step = int(np.gcd.reduce(np.concatenate([steps, np.abs(lows - lows[0])])))
    return ValueFacts(int(lows.min()), int(highs.max()), step or 1, exponent + x.exponent)


def _live_sum(node: ir.Node, x: ValueFacts, w: ValueFacts) -> ValueFacts | None:
    """A product with weights that are codes but no constants: K products."""
    weights = node.inputs[1]
    if weights is None or weights.shape is None or not weights.shape.is_static():
        return None
    shape = shape_of(weights)
    if "Conv" in node.op_type:
        products = math.prod(shape[1:])
    else:
        products = shape[-1 if node.op_type == "Gemm" and integer(node, "transB", 0) else -2 if len(shape) > 1 else 0]
    largest = products * x.magnitude * w.magnitude
    if largest >= EXACT:
        return None
    binary = all((fact.low, fact.high, fact.step) == (-1, 1, 2) for fact in (x, w))
    return ValueFacts(-largest, largest, 2 if binary else 1, x.exponent + w.exponent)


def _gemm(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    unscaled = number(node, "alpha", 1.0) == 1 and number(node, "beta", 1.0) == 1 and not integer(node, "transA", 0)
    return _accumulated(node, operands) if unscaled else None


def _reduce_sum(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    fact, source, result = operands.of(node, 0), node.inputs[0], node.outputs[0]
    if fact is None or source is None or result.dtype != ir.DataType.FLOAT:
        return None
    if any(value.shape is None or not value.shape.is_static() for value in (source, result)):
        return None
    count = math.prod(shape_of(source)) // max(1, math.prod(shape_of(result)))
    return replace(fact, low=fact.low * count, high=fact.high * count)


def _dequantized(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    """(code - zero point) * scale, for one scale that is a power of two."""
    code, scale = operands.of(node, 0), operands.of(node, 1)
    zero = operands.of(node, 2) if len(node.inputs) > 2 and node.inputs[2] is not None else ValueFacts(0, 0)
    if code is None or scale is None or zero is None or scale.low != scale.high or code.exponent or zero.exponent:
        return None
    low, high = code.low - zero.high, code.high - zero.low
    ends = (low * scale.low, high * scale.low)
    return ValueFacts(min(ends), max(ends), abs(scale.low) or 1, scale.exponent)


def _sign(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    return ValueFacts(-1, 1)


def _threshold(node: ir.Node, operands: _Operands) -> ValueFacts | None:
    return BINARY


# fmt: off
_KEEPING = (
    "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool", "ReduceMax",
    "ReduceMin", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
)
# fmt: on
_RULES: dict[tuple[str, str], _Rule] = {
    **{("", name): _kept for name in _KEEPING},
    ("", "Add"): _sum,
    ("", "Clip"): _clip,
    ("", "Ceil"): _rounded,
    ("", "Concat"): _concat,
    ("", "Conv"): _accumulated,
    ("", "DequantizeLinear"): _dequantized,
    ("", "Div"): _quotient,
    ("", "Floor"): _rounded,
    ("", "Gemm"): _gemm,
    ("", "MatMul"): _accumulated,
    ("", "Mul"): _product,
    ("", "Neg"): _neg,
    ("", "Pad"): _pad,
    ("", "ReduceSum"): _reduce_sum,
    ("", "Relu"): _clip,
    ("", "Round"): _rounded,
    ("", "Sign"): _sign,
    ("", "Sub"): _sum,
    ("", "Where"): _where,
    (DOMAIN, "Binarize"): _binarize,
    (DOMAIN, "BinaryConv"): _accumulated,
    (DOMAIN, "BinaryMatMul"): _accumulated,
    (DOMAIN, "BinaryMaxPool"): _kept,
    (DOMAIN, "Threshold"): _threshold,
}
