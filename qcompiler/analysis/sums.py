"""Which numbers a convolution or matrix product of constant weights can give, channel by channel.

With an activation among low + i * step, every product of a weight w is among w * low + i * w * step, so a sum is among
(sum of the lowest products) + i * g for the greatest common divisor g of all w * step; where 0 is an activation too (a
border, a Relu), g divides all w * low as well. float32 numbers are integers over one power of two, so g is found in
integers. If all partial sums stay below 2**24 in that unit, the reference rounds nothing and the result is exact.
Otherwise it is nominal: where weights are integers of few bits times any scale, the reference's sums lie at roundings
of these numbers, within `slack`; and weights that are no such integers have sums that coincide with no given number but
by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.levels import DoubleArray, Levels
from qcompiler.analysis.ranges import IntArray, Lattice
from qcompiler.ir.numerics import EXACT
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, integer, ints, is_quantized_op, number, text

BoolArray = npt.NDArray[np.bool_]

# levels of the widest codes that are looked for
_WIDEST = 2**8
# how far from an integer a weight over its scale may be; chosen
_PRECISION = 1e-5
# products that refute most scales
_SAMPLE = 32
# four roundings of float32, relative; chosen
ROUNDING = 2.0**-22
# of the unit, see slack_of; chosen
_LARGEST_SLACK = 2.0**-10
# float64 holds these exactly with a bit to spare
_LARGEST_INTEGER = 2.0**52


@dataclass(frozen=True)
class Sums:
    """Sums are among scale[o] * (lattice ± slack) of channel o.

    scale: float32 [O]. slack: float32 [O], what the reference's rounding may add; 0 where it does not round.
    """

    lattice: Lattice
    scale: npt.NDArray[np.float32]
    slack: npt.NDArray[np.float32]

    @property
    def exact(self) -> bool:
        """True if nothing is rounded on the way."""
        return not self.slack.any()


def columns_of(node: ir.Node, weights: npt.NDArray[np.generic]) -> DoubleArray:
    """Weights as [batches, products per output, output channels]."""
    wide = weights.astype(np.float64)
    if has(node, Trait.CONVOLVES):
        return wide.reshape(1, wide.shape[0], -1).transpose(0, 2, 1)
    return wide.reshape(1, -1, 1) if wide.ndim == 1 else wide.reshape(-1, *wide.shape[-2:])


def grains(columns: DoubleArray) -> tuple[DoubleArray, BoolArray]:
    """The unit of each channel's weights, and whether they are integers of few bits over it; both [O].

    columns: float64 [batches, products, O].
    """
    unit, numbers = _integers(columns)
    fine = np.abs(numbers).max((0, 1)) >= _WIDEST
    if fine.any():
        scaled, found = _scaled(columns)
        unit = np.where(fine, scaled, unit)
        fine &= ~found
    return unit, ~fine


def sums_of(node: ir.Node, levels: Levels) -> Sums | None:
    """What Conv, MatMul and their binary forms without a bias give for these activations; None if on no grid."""
    weights = constant_of(node.inputs[1])
    if weights is None or weights.dtype != np.float32 or weights.size == 0:
        return None
    lows, steps, highs = (columns_of(node, weights * aligned(node, part, weights)) for part in _parts(levels))
    zeros = levels.zeros or pads_zero(node)
    unit, whole = _integers(np.concatenate([lows, steps], axis=1))
    largest = np.maximum(np.abs(lows), np.abs(highs)).sum(1).max(0)
    exact = largest < EXACT * unit
    if not exact.all():
        unit, whole = _coarser(np.concatenate([lows, steps], axis=1), unit, whole, exact)
    if not (exact | (np.abs(whole).max((0, 1)) < _WIDEST**2) & (largest < EXACT * unit)).all():
        return None
    slack = np.where(exact, 0, slack_of(largest / unit)).astype(np.float32)
    count = np.rint((highs - lows) / np.where(steps == 0, 1, steps))
    low, step, reach = _lattices(whole, count * (steps != 0), zeros)
    return Sums(Lattice(low, step, reach // step + 1), unit.astype(np.float32), slack)


def slack_of(size: DoubleArray) -> DoubleArray:
    """How far from a multiple of its unit a rounded sum may lie, for numbers up to `size`; all in this unit.

    Where rounding reaches a thousandth of the unit, it alone decides whether a given number is hit.
    """
    return np.minimum(size * ROUNDING, _LARGEST_SLACK)


def _parts(levels: Levels) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    return levels.low, np.where(levels.low == levels.high, 0, levels.step), levels.high


def aligned(node: ir.Node, part: DoubleArray, weights: npt.NDArray[np.generic]) -> DoubleArray:
    """Numbers per input channel in the shape in which they multiply the weights."""
    if not part.ndim:
        return part
    if not has(node, Trait.CONVOLVES):
        return part if weights.ndim == 1 else part[:, None]
    groups = integer(node, "group", 1)
    rows = np.repeat(part.reshape(groups, -1), weights.shape[0] // groups, axis=0)
    return rows.reshape(*rows.shape, *(1,) * (weights.ndim - 2))


def pads_zero(node: ir.Node) -> bool:
    """True if zeros that surround the image are among the activations."""
    if not has(node, Trait.CONVOLVES) or (is_quantized_op(node, "IntegerConv") and number(node, "pad_value", 0.0) != 0):
        return False
    return text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(ints(node, "pads", ()))


def _integers(numbers: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Per channel the largest power of two that divides all numbers, and the quotients (integers)."""
    mantissas, exponents = np.frexp(numbers)
    whole = (mantissas * 2.0**53).astype(np.int64)
    trailing = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    powers = np.where(whole == 0, 1023, exponents - 53 + trailing).min((0, 1))
    unit = np.ldexp(1.0, np.where(powers == 1023, 0, powers))
    with np.errstate(over="ignore"):
        return unit, numbers / unit


def _coarser(
    numbers: DoubleArray, unit: DoubleArray, whole: DoubleArray, exact: BoolArray
) -> tuple[DoubleArray, DoubleArray]:
    """Units of channels that are not `exact`: a scale that gives integers of few bits, or the greatest divisor.

    numbers, whole: the lowest products and then the steps, which alone need be of few bits.
    """
    small = np.where((np.abs(whole) < _LARGEST_INTEGER).all((0, 1)), whole, 0).astype(np.int64)
    divisors = np.maximum(np.gcd.reduce(np.abs(small).reshape(-1, small.shape[-1]), axis=0), 1)
    scaled, found = _scaled(numbers[:, numbers.shape[1] // 2 :])
    multiples = numbers / scaled
    found &= (np.abs(multiples - np.rint(multiples)) < _PRECISION).all((0, 1))
    better = np.where(found, scaled, unit * divisors)
    unit = np.where(exact, unit, better)
    return unit, np.where(exact, whole, np.rint(numbers / unit))


def _scaled(numbers: DoubleArray) -> tuple[DoubleArray, BoolArray]:
    """Per channel the largest scale over which all numbers are integers of few bits; [O], and where found [O]."""
    rows = numbers.reshape(-1, numbers.shape[-1])
    largest = np.abs(rows).max(0)
    unit, found = np.ones_like(largest), largest == 0
    for size in range(1, _WIDEST):
        scale = largest / size
        left = np.flatnonzero(~found)
        left = left[_multiples(rows[:_SAMPLE, left], scale[left])]
        fits = left[_multiples(rows[:, left], scale[left])]
        unit[fits], found[fits] = scale[fits], True
    return unit, found


def _multiples(rows: DoubleArray, scale: DoubleArray) -> BoolArray:
    """Whether all numbers of a channel are integers times its scale; rows [products, O]."""
    grids = rows / scale
    near = np.abs(grids - np.rint(grids)) < _PRECISION + ROUNDING * np.abs(grids)
    return np.asarray(near.all(0))


def _lattices(whole: DoubleArray, counts: DoubleArray, zeros: bool) -> tuple[IntArray, IntArray, IntArray]:
    """Lowest sum, step and reach of each channel, of products lows + i * steps with i up to `counts`.

    whole: integers [batches, 2 * products, O], the lows and then the steps.
    """
    lows, steps = np.split(whole.astype(np.int64), 2, axis=1)
    highs = lows + steps * counts.astype(np.int64)
    least, most = np.minimum(lows, highs), np.maximum(lows, highs)
    divided = [np.abs(steps)]
    if zeros:
        least, most = np.minimum(least, 0), np.maximum(most, 0)
        divided.append(np.abs(lows))
    low, high = least.sum(1), most.sum(1)
    step = np.gcd.reduce(np.concatenate(divided, axis=1), axis=1)
    step = np.gcd.reduce(np.concatenate([step, np.abs(low - low[:1])]), axis=0)
    return low.min(0), np.where(step == 0, 1, step), high.max(0) - low.min(0)
