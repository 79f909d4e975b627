"""What the weights of a layer are: integers of few bits, but for a scale per output channel, or real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.sums import columns_of, grains
from qcompiler.ir.codes import Codes
from qcompiler.ir.traits import Trait, has, weight_axis

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

WIDEST = 8
"""Bits of the widest codes that a layer on integers reads."""

# a few roundings of float32, relative; chosen
_SPREAD = 1e-6
# fewer numbers are of two values by chance; chosen
_FEW_PRODUCTS = 32
# along every axis, for a first look; chosen
_FEW = 4
# inputs that quantizers of matrices give one scale, the largest first
_BLOCKS = (256, 128, 64, 32, 16)


def weight_codes(weights: Array) -> Codes | None:
    """The integers that weights are among; None if they are none."""
    if weights.dtype != np.float32 or not weights.size:
        return None
    low, high = weights.min(), weights.max()
    if not (low > -(2**WIDEST) and high < 2**WIDEST) or not np.array_equal(weights, np.rint(weights)):
        return None
    above = np.flatnonzero(np.bincount((weights - low).astype(np.int64).reshape(-1)))
    return Codes(int(low), int(high), int(np.gcd.reduce(above)) or 1)


def weight_bits(layer: ir.Node, weights: Array | None) -> int | None:
    """Bits that tell the weights of an output channel apart, up to a scale; None for real or run-time numbers.

    Two values are one bit, whatever they are.
    """
    if weights is None or weights.dtype != np.float32 or weights.ndim < 2 or not weights.size:
        return None
    split = integers_and_scales(layer, weights)
    if split is None:
        return 1 if two_values(weights, weight_axis(layer)) is not None else None
    channels = np.moveaxis(split[0].astype(np.int16), weight_axis(layer), 0)
    rows = channels.reshape(len(channels), -1)
    low, high = rows.min(1), rows.max(1)
    step = np.maximum(np.gcd.reduce(rows - low[:, None], axis=1), 1)
    return max(1, int(((high - low) // step).max()).bit_length())


def signs_and_scales(weights: Array, axis: int) -> tuple[FloatArray, FloatArray, float] | None:
    """Split weights into signs and one magnitude per channel of `axis`; None unless |w| is constant per channel.

    Result: signs float32 -1/+1 in the shape of `weights`, magnitudes float32 [C], and the largest relative spread.
    Zeros among others count as no magnitude if the other magnitudes are constant: their sign is 0.
    """
    if weights.dtype != np.float32 or weights.ndim < 2 or weights.size == 0:
        return None
    others = tuple(a for a in range(weights.ndim) if a != axis % weights.ndim)
    if _surely_spread(weights, axis):
        return None
    magnitude = np.abs(weights)
    high = magnitude.max(axis=others)
    sparse = not magnitude.all()
    present = np.where(magnitude == 0, np.expand_dims(high, others), magnitude) if sparse else magnitude
    low = present.min(axis=others)
    with np.errstate(invalid="ignore"):
        if not np.isfinite(high).all() or ((high - low) > _SPREAD * high).any():
            return None
    scale = high if (low == high).all() else present.mean(axis=others, dtype=np.float64).astype(np.float32)
    scale = np.where(low == high, high, scale)
    spread = float(np.max((high - low) / np.where(high == 0, 1, high)))
    signs = np.where(weights < 0, np.float32(-1), np.float32(1))
    if sparse:
        signs = np.where((weights == 0) & np.expand_dims(high > 0, others), np.float32(0), signs)
    return signs, scale, spread


def _surely_spread(weights: Array, axis: int) -> bool:
    """Whether the first few weights of the channels have magnitudes too different already: most real ones do."""
    few = np.abs(np.moveaxis(weights, axis, 0)[:, *[slice(_FEW)] * (weights.ndim - 1)]).reshape(weights.shape[axis], -1)
    low = np.where(few == 0, np.inf, few).min(1)
    return bool((low < (1 - 2 * _SPREAD) * few.max(1)).any())


def integers_and_scales(layer: ir.Node, weights: Array) -> tuple[FloatArray, FloatArray, float] | None:
    """The same with integers of at most eight bits instead of signs where the magnitudes differ, for `layer`."""
    split = signs_and_scales(weights, weight_axis(layer))
    if split is not None or weights.dtype != np.float32 or weights.ndim < 2 or not np.isfinite(weights).all():
        return split
    unit, whole = grains(columns_of(layer, weights))
    if not whole.all():
        return None
    scale = np.expand_dims(unit, tuple(range(1, weights.ndim))) if has(layer, Trait.CONVOLVES) else unit
    integers = np.rint(weights / scale)
    if (np.abs(weights - integers * scale) > _SPREAD * np.abs(weights)).any():
        return None
    return integers.astype(np.float32), unit.astype(np.float32), 0.0


def block_of(layer: ir.Node, weights: Array) -> int | None:
    """How many inputs share a scale, where a matrix is integers times a scale per block of inputs; None for others."""
    if has(layer, Trait.CONVOLVES) or weights.dtype != np.float32 or weights.ndim != 2:
        return None
    return next((block for block in _BLOCKS if weights.shape[0] > block and _in_blocks(weights, block)), None)


def _in_blocks(weights: Array, block: int) -> bool:
    starts = range(0, weights.shape[0], block)
    first, *blocks = (weights[start : start + block].astype(np.float64)[None] for start in starts)
    few = grains(first[..., :_FEW])[1].all()
    return bool(few and all(grains(columns)[1].all() for columns in (first, *blocks)))


def two_values(weights: npt.NDArray[np.generic], axis: int) -> tuple[FloatArray, FloatArray] | None:
    """Weights of at most two values per channel of `axis` as weights of one magnitude, and the mean of the two [C].

    None if they have more, or one magnitude already, or so few per channel that any are like that.
    """
    fan_in = weights.size // weights.shape[axis]
    if weights.dtype != np.float32 or fan_in < _FEW_PRODUCTS or signs_and_scales(weights, axis) is not None:
        return None
    wide = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).astype(np.float64)
    high, low = wide.max(1, keepdims=True), wide.min(1, keepdims=True)
    upper = wide > (high + low) / 2
    spread = np.abs(wide - np.where(upper, high, low)).max(1, keepdims=True)
    if not np.isfinite(wide).all() or (spread > _SPREAD * np.maximum(np.abs(high), np.abs(low))).any():
        return None
    # a channel of one value is that magnitude times its sign
    mean = np.where(high == low, 0, (high + low) / 2)
    magnitude = np.where(high == low, high, (high - low) / 2)
    centred = np.where(upper | (high == low), magnitude, -magnitude).astype(np.float32)
    moved = np.moveaxis(centred.reshape(np.moveaxis(weights, axis, 0).shape), 0, axis)
    return np.ascontiguousarray(moved), mean.reshape(-1).astype(np.float32)
