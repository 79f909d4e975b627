"""The numbers that an activation takes: integer codes behind scales, offsets, clips and layout changes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.monotone import MonotoneOp, monotone_op
from qcompiler.analysis.moves import keeps_channels, moves_elements
from qcompiler.analysis.ranges import IntegerRanges, codes_of_type
from qcompiler.analysis.windows import mean_count
from qcompiler.ir.traits import LAYER, Trait, has
from qcompiler.ir.view import constant_of, ints, is_op, text

DoubleArray = npt.NDArray[np.float64]

# ops in a row that are followed; chosen
_LONGEST = 64
# scales that are no binary fractions are rounded
_PRECISION = 1e-6


@dataclass(frozen=True)
class Levels:
    """low + i * step up to high, each float64: a scalar or one per channel [C]; and 0 too, if `zeros`."""

    low: DoubleArray
    step: DoubleArray
    high: DoubleArray
    zeros: bool = False

    @classmethod
    def of(cls, low: float, step: float, high: float) -> Levels:
        """The same levels in all channels."""
        return cls(np.asarray(low, np.float64), np.asarray(step, np.float64), np.asarray(high, np.float64))

    @property
    def has_zero(self) -> bool:
        """True if 0 is among them in some channel."""
        inside = (self.low <= 0) & (self.high >= 0)
        index = -self.low / self.step
        return self.zeros or bool((inside & (np.abs(index - np.rint(index)) < _PRECISION)).any())

    def times(self, factor: DoubleArray) -> Levels:
        """The levels of factor * x."""
        ends = self.low * factor, self.high * factor
        return replace(self, low=np.minimum(*ends), high=np.maximum(*ends), step=self.step * np.abs(factor))


def levels_of(value: ir.Value, axis: int, ranges: IntegerRanges) -> Levels | None:
    """The levels of `value`, whose channels lie along the negative `axis`; None if they are not known."""
    path: list[ir.Node] = []
    while (levels := _source(value, ranges)) is None:
        node = value.producer()
        operands = [] if node is None else [i for i in node.inputs if i is not None and constant_of(i) is None]
        if node is None or len(operands) != 1 or len(path) == _LONGEST or has(node, LAYER):
            return None
        path.append(node)
        value = operands[0]
    for node in reversed(path):
        levels = None if levels is None else _after(node, value, axis, levels)
        value = node.outputs[0]
    return levels


def _source(value: ir.Value, ranges: IntegerRanges) -> Levels | None:
    codes = ranges.codes(value)
    if codes is not None:
        return Levels.of(codes.low, codes.step, codes.high)
    dtype = value.dtype
    if value.producer() is None or dtype is None or not dtype.is_integer() or dtype.bitwidth > 8:
        return None
    codes = codes_of_type(dtype)
    return Levels.of(codes.low, codes.step, codes.high)


def _after(node: ir.Node, x: ir.Value, axis: int, levels: Levels) -> Levels | None:
    """The levels behind `node`, which reads `levels` as `x`."""
    if is_op(node, "Cast") and x.dtype is not None and x.dtype.is_integer():
        return levels if node.outputs[0].dtype == ir.DataType.FLOAT else None
    if is_op(node, "Pad"):
        return replace(levels, zeros=True) if _pads_zero(node) and not levels.low.ndim else None
    if has(node, Trait.AVERAGES):
        return _averaged(node, axis, levels)
    if moves_elements(node):
        return levels if not levels.low.ndim or keeps_channels(node, axis) else None
    op = monotone_op(node, x, axis)
    return None if isinstance(op, str) else _applied(op, levels)


def _averaged(node: ir.Node, axis: int, levels: Levels) -> Levels | None:
    """Means of n levels are n times as many."""
    count, counts_border = mean_count(node), any(ints(node, "pads", ()))
    if not count or levels.zeros or counts_border or not (levels.low.ndim == 0 or keeps_channels(node, axis)):
        return None
    return replace(levels, step=levels.step / count)


def _pads_zero(node: ir.Node) -> bool:
    fill = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    return text(node, "mode", "constant") != "constant" or (fill is not None and not fill.any())


def _applied(op: MonotoneOp, levels: Levels) -> Levels | None:
    constants = [constant.astype(np.float64) for constant in op.constants]
    match op.op:
        case "Identity":
            return levels
        case "Neg":
            return levels.times(np.asarray(-1.0))
        case "Mul":
            return levels.times(constants[0])
        case "Div":
            return levels.times(1 / constants[0])
        case "Relu":
            return _clipped(levels, np.asarray(0.0), np.asarray(np.inf))
        case "Clip":
            return _clipped(levels, constants[0], constants[1])
    if op.op not in ("Add", "Sub") or levels.zeros:
        return None
    levels = levels.times(np.asarray(-1.0)) if op.swapped and op.op == "Sub" else levels
    shift = -constants[0] if op.op == "Sub" and not op.swapped else constants[0]
    return replace(levels, low=levels.low + shift, high=levels.high + shift)


def _clipped(levels: Levels, low: DoubleArray, high: DoubleArray) -> Levels | None:
    """Bounds of 0 add that level; others must be levels, or lie beyond all of them."""
    zeros = levels.zeros
    for bound, beyond in ((low, levels.low >= low), (high, levels.high <= high)):
        if beyond.all():
            continue
        if not bool(np.isfinite(bound).all()):
            return None
        if bool((bound == 0).all()):
            zeros = True
        elif not bool((np.remainder(bound - levels.low, levels.step) == 0).all()):
            return None
    first = levels.low + np.ceil(np.maximum(low - levels.low, 0) / levels.step) * levels.step
    last = levels.low + np.floor((np.minimum(high, levels.high) - levels.low) / levels.step) * levels.step
    return None if bool((first > last).any()) else Levels(first, levels.step, last, zeros)
