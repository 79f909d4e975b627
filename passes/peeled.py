"""A value as codes with a scale and an offset, and what arithmetic with constants makes of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.view import is_op, static_shape

DoubleArray = npt.NDArray[np.float64]

# how far from an integer a number over a scale may be, relative: roundings of float32; chosen
_PRECISION = 2e-6


@dataclass(frozen=True)
class Factor:
    """What codes are multiplied by, or divided by, at run time."""

    value: ir.Value
    divides: bool


@dataclass(frozen=True)
class Peeled:
    """A value is (scale * (codes - zero) + offset) * factors.

    scale, offset: float64, scalars, or one per channel that broadcasts to the value. zero: a zero point that is known
    at run time only; None for 0.
    """

    codes: ir.Value
    scale: DoubleArray
    factors: tuple[Factor, ...] = ()
    zero: ir.Value | None = None
    offset: DoubleArray = field(default_factory=lambda: np.asarray(0.0))

    @property
    def settled(self) -> bool:
        """Whether nothing but the codes is left to run time."""
        return not self.factors and self.zero is None

    @property
    def pure(self) -> bool:
        """Whether it is a scale times codes, but for factors."""
        return self.zero is None and not self.offset.any()

    @property
    def even(self) -> bool:
        """Whether scale and offset are those of all elements."""
        return self.scale.ndim == self.offset.ndim == 0

    @property
    def uniform(self) -> bool:
        """Whether all elements have one scale, but for factors, and no zero point."""
        return self.even and self.pure

    @property
    def moves(self) -> bool:
        """Whether what is left to run time is one number for all elements, wherever these are moved."""
        given = [each.value for each in self.factors] + ([] if self.zero is None else [self.zero])
        return all(extent == 1 for value in given for extent in static_shape(value) or ())


def whole(steps: npt.NDArray[Any]) -> npt.NDArray[np.float32] | None:
    """Integers that numbers are but for rounding; None if they are none."""
    near = np.rint(steps)
    if not np.isfinite(steps).all() or (np.abs(steps - near) > _PRECISION * np.maximum(np.abs(near), 1)).any():
        return None
    return np.asarray(near, np.float32)


def times(inner: Peeled, constant: npt.NDArray[Any], node: ir.Node) -> Peeled | None:
    """The codes as they are, times or over a constant; None where it is not finite, or 0."""
    if constant.dtype != np.float32 or not np.isfinite(constant).all() or not constant.all():
        return None
    wide = 1 / _squeezed(constant) if is_op(node, "Div") else _squeezed(constant)
    return replace(inner, scale=np.asarray(inner.scale * wide), offset=np.asarray(inner.offset * wide))


def moved_by(inner: Peeled, constant: npt.NDArray[Any], node: ir.Node, *, swapped: bool) -> Peeled | None:
    """The codes as they are, with another offset."""
    if not np.isfinite(constant).all():
        return None
    wide = _squeezed(constant)
    if is_op(node, "Add"):
        return replace(inner, offset=np.asarray(inner.offset + wide))
    if swapped:
        return replace(inner, scale=np.asarray(-inner.scale), offset=np.asarray(wide - inner.offset))
    return replace(inner, offset=np.asarray(inner.offset - wide))


def _squeezed(constant: npt.NDArray[Any]) -> DoubleArray:
    return constant.astype(np.float64).reshape(() if constant.size == 1 else constant.shape)


def transposed(part: DoubleArray, order: Sequence[int]) -> DoubleArray:
    """A scale or offset of a value whose axes are taken in another order."""
    return part if part.ndim == 0 else aligned(part, len(order)).transpose(order)


def aligned(part: DoubleArray, rank: int) -> DoubleArray:
    """A number or one per channel with as many axes as the value."""
    return part.reshape((1,) * (rank - part.ndim) + part.shape)
