"""Which integers a value can hold: activation codes and the accumulators computed from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.facts import Facts
from qcompiler.analysis.intervals import Interval, Intervals
from qcompiler.analysis.moves import moves_elements
from qcompiler.analysis.windows import reduced_count
from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import EXACT
from qcompiler.ir.ops import DOMAIN, is_wide
from qcompiler.ir.traits import LAYER, Trait, has
from qcompiler.ir.view import constant_of, ints, is_op, is_quantized_op, number, static_shape, text

# of int32
WIDE = 2**31
# elements that are worth looking through; chosen
_LARGEST_CONSTANT = 2**20
# all integers up to here are numbers of bfloat16
_HELD_BY_BFLOAT16 = 2**8
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lattice:
    """Per output channel, integers low[c] + i * step[c] for i in range(count[c]): a superset of what is attained.

    Each int64 [..., C].
    """

    low: IntArray
    step: IntArray
    count: IntArray

    @property
    def high(self) -> IntArray:
        """The largest integers, int64 [C]."""
        return self.low + self.step * (self.count - 1)

    def of_channels(self, count: int) -> Lattice:
        """The integers of the first channels."""
        return Lattice(*(part[..., :count] for part in (self.low, self.step, self.count)))

    def over(self, shape: int | tuple[int, ...]) -> Lattice:
        """The same integers, broadcast to a shape [..., C]."""
        return Lattice(*(np.broadcast_to(part, shape) for part in (self.low, self.step, self.count)))

    def at(self, index: IntArray) -> npt.NDArray[np.float32]:
        """The integers at `index` [..., C], as the next float32 (exact below 2**24)."""
        return (self.low + self.step * index).astype(np.float32)


class IntegerRanges(Facts[Codes | None]):
    """Codes of the values of one graph, None where they are not known to be integers; `forget` after changing it."""

    def __init__(self) -> None:
        super().__init__()
        self._intervals = Intervals()

    def forget(self) -> None:
        """Drop what is known; the graph has changed."""
        super().forget()
        self._intervals.forget()

    def binary(self, value: ir.Value) -> bool:
        """True if every element is -1 or +1."""
        codes = self.codes(value)
        return codes is not None and codes.binary

    def codes(self, value: ir.Value) -> Codes | None:
        """The integers that the elements of `value` are among, or None if they are not known to be integers."""
        return self.of(value)

    def interval(self, value: ir.Value) -> Interval:
        """Between which numbers the elements of `value` lie."""
        return self._intervals.of(value)

    def _operands(self, value: ir.Value) -> list[ir.Value]:
        node = value.producer()
        if node is None or is_op(node, "Gemm") or has(node, LAYER):
            return []
        return [i for i in node.inputs if i is not None]

    def _computed(self, value: ir.Value) -> Codes | None:
        constant = constant_of(value)
        if constant is not None:
            return _codes_of_constant(constant)
        node = value.producer()
        if node is None:
            return None
        if is_op(node, "Round", "Floor", "Ceil") or is_quantized_op(node, "Quantize"):
            interval = self._intervals.of(value)
            codes = _bounded(float(interval.low), float(interval.high))
            return codes if node.domain != DOMAIN or max(abs(codes.low), abs(codes.high)) < EXACT else None
        return _codes_of_node(node, [None if i is None else self._known.get(i) for i in node.inputs])

    def lattice(self, node: ir.Node, limit: int | None = None) -> Lattice | None:
        """The integers that each output channel of a convolution or matrix product can reach; None if not exact.

        limit: of what accumulators hold; None for those of the node.
        """
        activation, weights = node.inputs[0], constant_of(node.inputs[1])
        added = bias_of(node)
        if activation is None or weights is None or added is None:
            return None
        codes = self.codes(activation)
        columns = _columns(node, weights)
        if codes is None or columns is None or not np.array_equal(columns, np.rint(columns)):
            return None
        found = _lattice(node, codes, columns, limit or (WIDE if is_wide(node) else EXACT))
        return found if found is None else Lattice(found.low + added, found.step, found.count)


def bias_of(node: ir.Node) -> IntArray | None:
    """What a layer of wide sums adds to them, int64 [O], or [1] where it has no bias; None for a bias of floats."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return np.zeros(1, np.int64)
    constant = constant_of(bias)
    whole = is_wide(node) and constant is not None and constant.dtype == np.int32
    return constant.reshape(-1).astype(np.int64) if whole and constant is not None else None


def _codes_of_constant(array: npt.NDArray[np.generic]) -> Codes | None:
    if not 0 < array.size <= _LARGEST_CONSTANT or array.dtype.kind not in "fiu":
        return None
    numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all() or np.abs(numbers).max() >= EXACT:
        return None
    if not np.array_equal(numbers, np.rint(numbers)):
        return None
    low, high = int(numbers.min()), int(numbers.max())
    step = int(np.gcd.reduce((numbers - low).astype(np.int64).reshape(-1)))
    return Codes(low, high, step or 1)


def _codes_of_node(node: ir.Node, codes: list[Codes | None]) -> Codes | None:
    if is_quantized_op(node, "Binarize"):
        zero = int(number(node, "zero", 1.0))
        return Codes(-1, 1, 1 if zero == 0 else 2)
    if is_quantized_op(node, "Threshold"):
        return _codes_of_threshold(node)
    if is_quantized_op(node, "RoundTo"):
        return _held_by_half(codes[0])
    if is_op(node, "Sign"):
        return Codes(-1, 1, 1)
    if moves_elements(node):
        return codes[0]
    if is_op(node, "Concat"):
        return _union(codes)
    if is_op(node, "Where") and len(codes) == 3:
        return _union(codes[1:])
    if is_op(node, "Pad") and text(node, "mode", "constant") != "constant":
        return codes[0]
    if is_op(node, "Pad"):
        return _union([codes[0], codes[2] if len(codes) > 2 and node.inputs[2] is not None else Codes(0, 0)])
    if is_op(node, "Cast"):
        return _cast(node, codes[0])
    if is_op(node, "Clip", "Relu"):
        return _clipped(node, codes[0])
    if is_op(node, "ReduceSum") and codes[0] is not None:
        return _summed(codes[0], reduced_count(node))
    if is_op(node, "Neg", "Abs") and codes[0] is not None:
        return _mirrored(node, codes[0])
    if is_op(node, "Add", "Sub", "Mul") and len(codes) == 2:
        return _combined(node.op_type, codes[0], codes[1])
    return None


def _cast(node: ir.Node, codes: Codes | None) -> Codes | None:
    """Integers that the type cast to holds stay what they are."""
    source, kind = node.inputs[0], node.outputs[0].dtype
    if source is not None and source.dtype == ir.DataType.BOOL:
        return Codes(0, 1)
    if codes is None and source is not None and _is_narrow(source):
        codes = codes_of_type(source.dtype)
    if codes is None or kind not in (ir.DataType.FLOAT, ir.DataType.DOUBLE) and not kind.is_integer():
        return None
    held = codes_of_type(kind) if kind.is_integer() else codes
    return codes if held.low <= codes.low and codes.high <= held.high else None


def _held_by_half(codes: Codes | None) -> Codes | None:
    """Integers that both 16-bit floats hold stay what they are."""
    return codes if codes is not None and max(abs(codes.low), abs(codes.high)) <= _HELD_BY_BFLOAT16 else None


def _is_narrow(value: ir.Value) -> bool:
    """Whether the type alone tells which integers there are; casts that overflow are not defined."""
    kind = value.dtype
    return kind is not None and kind.is_integer() and kind.bitwidth <= 16 and not is_op(value.producer(), "Cast")


def codes_of_type(kind: ir.DataType) -> Codes:
    """The integers of an integer type."""
    levels = 2**kind.bitwidth
    low = -levels // 2 if kind.is_signed() else 0
    return Codes(low, low + levels - 1)


def _codes_of_threshold(node: ir.Node) -> Codes | None:
    shape = static_shape(node.inputs[1])
    if not shape:
        return None
    low, step = int(number(node, "low", -1.0)), int(number(node, "step", 2.0))
    return Codes(low, low + step * shape[0], step)


def _union(codes: list[Codes | None]) -> Codes | None:
    result = codes[0]
    for other in codes[1:]:
        if result is None or other is None:
            return None
        result = result.union(other)
    return result


def _bounds(node: ir.Node) -> tuple[float, float]:
    if node.op_type == "Relu":
        return 0.0, math.inf
    bounds = [-math.inf, math.inf]
    for position in (1, 2):
        value = node.inputs[position] if position < len(node.inputs) else None
        array = constant_of(value)
        if array is not None and array.size == 1:
            bounds[position - 1] = float(array.reshape(()))
    return bounds[0], bounds[1]


def _clipped(node: ir.Node, codes: Codes | None) -> Codes | None:
    low, high = _bounds(node)
    if codes is None or not all(math.isinf(b) or b == round(b) for b in (low, high)):
        return None
    new_low, new_high = int(max(codes.low, low)), int(min(codes.high, high))
    if new_low > new_high:
        return None
    unchanged = (new_low, new_high) == (codes.low, codes.high)
    return codes if unchanged else Codes(new_low, new_high, 1)


def _combined(op: str, a: Codes | None, b: Codes | None) -> Codes | None:
    if a is None or b is None:
        return None
    (low, high), (other_low, other_high) = _ends(a), _ends(b)
    match op:
        case "Add":
            ends = [low + other_low, high + other_high]
        case "Sub":
            ends = [low - other_high, high - other_low]
        case _:
            ends = [x * y if x and y else 0.0 for x in (low, high) for y in (other_low, other_high)]
    if any(map(math.isinf, (low, high, other_low, other_high))):
        return _bounded(min(ends), max(ends))
    inside = max(map(abs, ends)) < EXACT
    return Codes(int(min(ends)), int(max(ends)), _combined_step(op, a, b)) if inside else None


def _ends(codes: Codes) -> tuple[float, float]:
    """The ends of codes; infinite where there is no bound."""
    return -math.inf if codes.low <= -EXACT else codes.low, math.inf if codes.high >= EXACT else codes.high


def _bounded(low: float, high: float) -> Codes:
    """The integers from low to high, as far as float32 tells them apart: beyond that, an end means none.

    Integers stay integers where float32 rounds them, and a Clip may bound them later.
    """
    return Codes(int(min(max(low, -EXACT), EXACT)), int(min(max(high, -EXACT), EXACT)))


def _summed(codes: Codes, count: int | None) -> Codes | None:
    """Sums of as many codes: how many thresholds are reached, for example."""
    if not count or max(abs(codes.low), abs(codes.high)) * count >= EXACT:
        return None
    return Codes(codes.low * count, codes.high * count, codes.step)


def _mirrored(node: ir.Node, codes: Codes) -> Codes:
    """-x, or the larger of x and -x."""
    mirrored = Codes(-codes.high, -codes.low, codes.step)
    if is_op(node, "Neg") or codes.high <= 0:
        return mirrored
    return codes if codes.low >= 0 else Codes(0, max(codes.high, -codes.low))


def _combined_step(op: str, a: Codes, b: Codes) -> int:
    """The step of the results; an operand of a single value has none of its own."""
    one, other = (a, b) if a.low == a.high else (b, a)
    if one.low == one.high:
        return (abs(one.low) * other.step if op == "Mul" else other.step) or 1
    return 1 if op == "Mul" else math.gcd(a.step, b.step)


def _columns(node: ir.Node, weights: npt.NDArray[np.generic]) -> npt.NDArray[np.float64] | None:
    """Weights as [products per output, output channels]."""
    if weights.dtype.kind != "f":
        return None
    if has(node, Trait.CONVOLVES):
        return weights.reshape(weights.shape[0], -1).T.astype(np.float64)
    if has(node, Trait.MULTIPLIES) and weights.ndim == 2:
        return weights.astype(np.float64)
    return None


def padded_codes(node: ir.Node, codes: Codes) -> Codes:
    """The codes including those of the border."""
    if not any(ints(node, "pads", ())) and text(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID"):
        return codes
    fill = int(number(node, "pad_value", 0.0)) if node.op_type == "IntegerConv" else 0
    return codes.union(Codes(fill, fill))


def _lattice(node: ir.Node, codes: Codes, columns: npt.NDArray[np.float64], limit: int) -> Lattice | None:
    codes = padded_codes(node, codes)
    weights = columns.astype(np.int64)
    positive, negative = np.maximum(weights, 0).sum(axis=0), np.minimum(weights, 0).sum(axis=0)
    low = positive * codes.low + negative * codes.high
    high = positive * codes.high + negative * codes.low
    largest = max(abs(codes.low), abs(codes.high))
    if (np.abs(weights).sum(axis=0) * largest >= limit).any():
        return None
    step = np.gcd.reduce(np.abs(weights), axis=0) * codes.step
    step = np.where(step == 0, 1, step)
    return Lattice(low, step, (high - low) // step + 1)
