"""com.microsoft's QLinearAdd, as onnxruntime computes it.

QLinearAdd(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero), for the ratios r = a_scale / y_scale and
s = b_scale / y_scale:

    y = saturate(half_even(a * r + (b * s + (y_zero - (a_zero * r + b_zero * s)))))

where onnxruntime's kernel for AVX2, which any x86-64 of the last ten years runs, rounds each sum with a product once
(FMA), but for b_zero * s, which is rounded by itself. Its kernels for other processors round otherwise (SSE2 without
FMA, ARM in fixed point), so they give other codes where the exact result is within rounding errors of a half.

Two 8-bit operands are 65536 pairs. So plain float32, whose products round too, is tried on all of them, with a
constant that is moved by a few ulps until every code is that of the definition; 43 of 1000 pairs of ratios
need float64, in which products and sums are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from qcompiler.frontend.dialects.canonical_quantizers import codes
from qcompiler.frontend.dialects.integer_operands import (
    RANGES,
    integers,
    kind_of,
    requantization,
    scales,
    stored,
    zero_point,
)
from qcompiler.frontend.dialects.parameters import FloatArray, value_of
from qcompiler.frontend.emitter import Emitter
from qcompiler.ir.quantizing import Quantizer

_T = onnx.TensorProto
# chosen: further away, hardly a constant is found
_MOST_ULPS = 8


@dataclass(frozen=True)
class _Sum:
    """a * r + (b * s + constant), codes a and b, from low to high."""

    r: np.float32
    s: np.float32
    constant: np.float32
    low: int
    high: int

    @classmethod
    def of(cls, ratios: Sequence[np.float32], zeros: Sequence[np.float32], kind: int) -> _Sum:
        """The sum of one set of parameters; zeros: of a, b and the result."""
        (r, s), (a, b, y) = ratios, zeros
        return cls(r, s, np.float32(y - _number(_fused(a, r, b * s))), *RANGES[kind])

    def codes(self) -> FloatArray:
        """The codes of all pairs, float32 [a, b]."""
        a, b = self._pairs()
        return self._saturated(_fused(a, self.r, _fused(b, self.s, self.constant)))

    def plain(self, constant: np.float32) -> FloatArray:
        """Those of the same sum without FMA, with another constant."""
        a, b = self._pairs()
        return self._saturated((b * self.s + constant) + a * self.r)

    def constants(self) -> Iterator[np.float32]:
        """The constant and its neighbours, the nearest first."""
        above = below = self.constant
        yield self.constant
        for _ in range(_MOST_ULPS):
            above, below = np.nextafter(above, np.float32(np.inf)), np.nextafter(below, np.float32(-np.inf))
            yield above
            yield below

    def _pairs(self) -> tuple[FloatArray, FloatArray]:
        codes = np.arange(self.low, self.high + 1, dtype=np.float32)
        return codes[:, None], codes[None, :]

    def _saturated(self, value: FloatArray) -> FloatArray:
        return np.asarray(np.clip(np.rint(value), self.low, self.high))


def add(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a QLinearAdd."""
    kind = kind_of(emitter, node, 0)
    # where one a meets a run of b, onnxruntime's kernel takes the operands the other way round
    left, right = (3, 0) if _is_repeated(*(emitter.shape(node.input[i]) for i in (0, 3))) else (0, 3)
    one, result = np.asarray(1, np.float32), scales(emitter, node, 6)
    ratios = [_number(requantization(node, scales(emitter, node, i + 1), one, result)) for i in (left, right)]
    points = [zero_point(emitter, node, i, kind) for i in (left + 2, right + 2, 7)]
    total = _Sum.of(ratios, [_number(value_of(emitter, node, point)) for point in points], kind)
    a, b = (integers(emitter, node, i, i + 2).codes for i in (left, right))
    value = _value(emitter, total, a, b)
    unit, nought = emitter.constant(1.0, "unit"), emitter.constant(0.0, "nought")
    stored(emitter, codes(emitter, value, unit, nought, Quantizer(total.low, total.high)), node.output, kind)


def _value(emitter: Emitter, total: _Sum, a: str, b: str) -> str:
    """The sum before it is rounded to a code."""
    wanted = total.codes()
    for constant in total.constants():
        if np.array_equal(total.plain(constant), wanted):
            value = emitter.op("Add", [_times(emitter, b, total.s), emitter.constant(constant, "constant")])
            return emitter.op("Add", [value, _times(emitter, a, total.r)])
    value = emitter.constant(total.constant, "constant", np.float64)
    for operand, ratio in ((b, total.s), (a, total.r)):
        wide = emitter.op("Cast", [operand], to=_T.DOUBLE)
        value = emitter.op("Add", [emitter.op("Mul", [wide, emitter.constant(ratio, "ratio", np.float64)]), value])
        value = emitter.op("Cast", [value], to=_T.FLOAT)
        if operand is not a:
            value = emitter.op("Cast", [value], to=_T.DOUBLE)
    return value


def _times(emitter: Emitter, operand: str, ratio: np.float32) -> str:
    return operand if ratio == 1 else emitter.op("Mul", [operand, emitter.constant(ratio, "ratio")])


def _fused(a: npt.ArrayLike, factor: np.float32, addend: npt.ArrayLike) -> FloatArray:
    """The sum a * factor + addend, rounded once: float64 holds a product of a code and a float32."""
    return np.asarray(np.asarray(a, np.float64) * np.float64(factor) + np.asarray(addend, np.float64), np.float32)


def _number(array: FloatArray) -> np.float32:
    return np.float32(array.reshape(()))


def _is_repeated(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    """Whether each element of the left operand meets several of the right one in a row."""
    rank = max(len(left), len(right))
    sizes = [(*(1,) * (rank - len(shape)), *shape) for shape in (left, right)]
    last = next(((a, b) for a, b in zip(*(reversed(each) for each in sizes), strict=True) if (a, b) != (1, 1)), (1, 1))
    return last[0] == 1 and last[1] > 1
