"""The grid of values that a quantizer maps onto, and the float32 steps that map onto it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qcompiler.errors import UsageError

MAX_BITS = 16
"""Widths above 8 are for study; the compiler takes up to 8."""
WIDEST_BITS = 31
"""The widest that act_bit and w_bits take, as BMXNet does.

For study: float32 holds integers of up to 24 bits. Wider codes are rounded to float32 as everything else is, so that a
quantizer has fewer levels than its width says and hardly does more than clip.
"""
EXACT_BITS = 24
"""The widest codes that float32 holds exactly."""
FLOAT_BITS = 32
"""The width that stands for "not quantized" in act_bit and w_bits."""


@dataclass(frozen=True)
class Grid:
    """Values (q - zero_point) * scale for integer codes q of `bits` bits, as in QONNX's Quant.

    scale: float32, a scalar or one value per output channel ([O, 1, ...]). Signed codes run from -2^(bits-1) (one more
    if `narrow`) to 2^(bits-1) - 1, unsigned ones from 0 to 2^bits - 1. One signed bit is bipolar: -scale and +scale.
    """

    scale: Tensor
    bits: int
    signed: bool = True
    narrow: bool = False
    zero_point: float = 0.0

    @property
    def bipolar(self) -> bool:
        """Whether the codes are -1 and +1."""
        return self.bits == 1 and self.signed

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest code."""
        if self.bipolar:
            return -1, 1
        if self.signed:
            return -(2 ** (self.bits - 1)) + int(self.narrow), 2 ** (self.bits - 1) - 1
        return 0, 2**self.bits - 1 - int(self.narrow)


def check_bits(bits: int, least: int = 1, what: str = "bits", also: str = "", most: int = MAX_BITS) -> int:
    """`bits` if it is a width from `least` to `most`, else UsageError; `also` says what else the caller takes."""
    if not is_width(bits, least, most):
        raise UsageError(f"{what} is {bits!r}, expected an integer from {least} to {most}{also}")
    return bits


def is_width(bits: object, least: int = 1, most: int = WIDEST_BITS) -> bool:
    """Whether `bits` is an integer, and no truth value, from `least` to `most`."""
    return isinstance(bits, int) and not isinstance(bits, bool) and least <= bits <= most


def codes(x: Tensor, grid: Grid) -> Tensor:
    """Integer codes of x as floats: clip(x / scale + zero_point), rounded half to even; bipolar: x >= 0 is +1."""
    if grid.bipolar:
        one = torch.ones((), dtype=x.dtype, device=x.device)
        return torch.where(x >= 0, one, -one)
    shifted = x / grid.scale + grid.zero_point if grid.zero_point else x / grid.scale
    return shifted.clamp_(*grid.limits).round_()


def quantize(x: Tensor, grid: Grid) -> Tensor:
    """The value on `grid` of every element of x, in the float32 steps of QONNX's Quant and BipolarQuant."""
    levels = codes(x, grid)
    if grid.zero_point:
        levels -= grid.zero_point
    return levels * grid.scale if grid.scale.dim() else levels.mul_(grid.scale)
