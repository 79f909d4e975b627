"""Which input elements an output element of Resize is made of, and with which weights, axis by axis.

Resize is separable: along each axis an output position reads a few input positions (taps). Shapes and scales are known
at compile time, so the taps are tables. Coordinates are computed in float32 in the order of onnxruntime's reference
kernel, because a nearest neighbour hangs on their last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

F = np.float32
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """One axis that is resized: extents, the scale, and the region of interest, as fractions of the input."""

    source: int
    target: int
    scale: np.float32
    start: np.float32 = F(0)
    end: np.float32 = F(1)


@dataclass(frozen=True)
class Taps:
    """index: int64 [target, taps]; weight: float32 of the same shape; outside: bool [target], beyond the region."""

    index: Ints
    weight: Floats
    outside: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rules:
    """The attributes of the node that decide on taps."""

    mode: str
    transformation: str
    nearest: str
    cubic_coeff_a: np.float32
    exclude_outside: bool
    antialias: bool


def taps(axis: Axis, rules: Rules) -> Taps:
    """The taps of every output position of an axis."""
    if rules.antialias and axis.source == axis.target:
        return Taps(np.arange(axis.source)[:, None], np.ones((axis.source, 1), F), np.zeros(axis.target, bool))
    x = np.arange(axis.target, dtype=F) if axis.scale == 1 else _COORDINATES[rules.transformation](axis)
    outside = np.zeros(axis.target, bool)
    if rules.transformation == "tf_crop_and_resize":
        outside = (x < 0) | (x > F(axis.source - 1))
    if rules.mode == "nearest":
        index = np.clip(_NEAREST[rules.nearest](x), 0, axis.source - 1).astype(np.int64)
        return Taps(index[:, None], np.ones((axis.target, 1), F), outside)
    if rules.antialias:
        return Taps(*_filtered(x, axis, rules), outside)
    return Taps(*(_linear(x, axis) if rules.mode == "linear" else _cubic(x, axis, rules)), outside)


def _positions(axis: Axis) -> Floats:
    return np.arange(axis.target, dtype=F)


def _half_pixel(axis: Axis) -> Floats:
    return (_positions(axis) + F(0.5)) / axis.scale - F(0.5)


def _half_pixel_symmetric(axis: Axis) -> Floats:
    adjustment = F(axis.target) / (axis.scale * F(axis.source))
    offset = F(axis.source) / F(2) * (F(1) - adjustment)
    exact = np.float64(offset) + (_positions(axis).astype(np.float64) + 0.5) / np.float64(axis.scale) - 0.5
    return exact.astype(F)


def _pytorch_half_pixel(axis: Axis) -> Floats:
    return _half_pixel(axis) if axis.target > 1 else np.zeros(1, F)


def _align_corners(axis: Axis) -> Floats:
    if axis.target == 1:
        return np.zeros(1, F)
    return _positions(axis) * F(axis.source - 1) / F(axis.target - 1)


def _crop(axis: Axis) -> Floats:
    last = F(axis.source - 1)
    if axis.target == 1:
        return np.full(1, 0.5 * np.float64(axis.start + axis.end) * np.float64(last)).astype(F)
    return axis.start * last + _positions(axis) * (axis.end - axis.start) * last / F(axis.target - 1)


_COORDINATES: dict[str, Callable[[Axis], Floats]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": lambda axis: _positions(axis) / axis.scale,
    "tf_half_pixel_for_nn": lambda axis: (_positions(axis) + F(0.5)) / axis.scale,
    "tf_crop_and_resize": _crop,
}


def _round_half_away(x: Floats) -> Any:
    wide = x.astype(np.float64)
    return np.trunc(wide + np.copysign(0.5, wide))


def _round_prefer_floor(x: Floats) -> Any:
    whole = np.trunc(x)
    return np.where(x == whole + F(0.5), whole, _round_half_away(x))


_NEAREST: dict[str, Callable[[Floats], Any]] = {
    "round_prefer_floor": _round_prefer_floor,
    "round_prefer_ceil": _round_half_away,
    "floor": np.floor,
    "ceil": np.ceil,
}

TRANSFORMATIONS, NEAREST_MODES = tuple(_COORDINATES), tuple(_NEAREST)


def _linear(x: Floats, axis: Axis) -> tuple[Ints, Floats]:
    x = np.clip(x, F(0), F(axis.source - 1))
    low = np.minimum(x.astype(np.int64), axis.source - 1)
    high = np.minimum(low + 1, axis.source - 1)
    to_low, to_high = np.abs(x - low.astype(F)), np.abs(x - high.astype(F))
    same = low == high
    to_low[same], to_high[same] = F(0.5), F(0.5)
    return np.stack([low, high], 1), np.stack([to_high, to_low], 1)


def _cubic(x: Floats, axis: Axis, rules: Rules) -> tuple[Ints, Floats]:
    first = np.floor(x).astype(np.int64) - 1
    index = first[:, None] + np.arange(4)
    weight = _cubic_filter(x[:, None] - index.astype(F), rules.cubic_coeff_a)
    return _bounded(index, weight, axis, rules)


def _cubic_filter(x: Floats, a: np.float32) -> Floats:
    x = np.abs(x)
    near = ((a + F(2)) * x - (a + F(3))) * x * x + F(1)
    far = (((x - F(5)) * x + F(8)) * x - F(4)) * a
    return np.where(x < 1, near, np.where(x < 2, far, F(0))).astype(F)


def _bounded(index: Ints, weight: Floats, axis: Axis, rules: Rules) -> tuple[Ints, Floats]:
    """Taps outside of the input: left out, the rest weighted up, or read at the border."""
    inside = (index >= 0) & (index < axis.source)
    if rules.exclude_outside:
        weight = np.where(inside, weight, F(0))
        weight = weight / weight.sum(1, keepdims=True, dtype=F)
    return np.clip(index, 0, axis.source - 1), weight.astype(F)


def _filtered(x: Floats, axis: Axis, rules: Rules) -> tuple[Ints, Floats]:
    """Antialiasing: the filter is as wide as the stretch of input that an output element stands for."""
    stretch = F(1) / axis.scale
    support = F(1 if rules.mode == "linear" else 2) * max(stretch, F(1))
    narrow = F(1) / stretch if stretch >= 1 else F(1)
    center = F(0.5) + x
    first = np.floor(center - support + F(0.5)).astype(np.int64)
    last = np.floor(center + support + F(0.5)).astype(np.int64)
    index = first[:, None] + np.arange(int((last - first).max()))
    distance = (index.astype(F) - center[:, None] + F(0.5)) * narrow
    if rules.mode == "linear":
        weight = np.maximum(F(1) - np.abs(distance), F(0)).astype(F)
    else:
        weight = _cubic_filter(distance, rules.cubic_coeff_a)
    weight = np.where(index < last[:, None], weight, F(0))
    if rules.exclude_outside:
        weight = np.where((index >= 0) & (index < axis.source), weight, F(0))
    total = weight.sum(1, keepdims=True, dtype=F)
    weight = weight / np.where(total == 0, F(1), total)
    return np.clip(index, 0, axis.source - 1), weight.astype(F)
