"""Quantizers as modules: forward gives the value on a grid, backward the gradient of a surrogate.

A quantizer works on activations, on the weight of a layer of `qcompiler.nn.layers`, or on the weight of any torch
layer through `torch.nn.utils.parametrize.register_parametrization`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from qcompiler.errors import UnsupportedModel, UsageError
from qcompiler.nn.estimators import clipped_gradient, replace_gradient
from qcompiler.nn.fixed import Fixed
from qcompiler.nn.grid import MAX_BITS, WIDEST_BITS, Grid, check_bits, quantize


class Quantizer(nn.Module):
    """Base of the quantizers.

    bits: the width of a code. clip: the range that a latent weight is kept in after each update, None for no limit.
    A subclass gives `grid` and `surrogate`, or overrides `forward`.
    """

    bits: int
    clip: tuple[float, float] | None = None

    def grid(self, x: Tensor) -> Grid:
        """The grid that x is mapped onto; without gradient."""
        raise NotImplementedError

    def surrogate(self, x: Tensor) -> Tensor:
        """The differentiable function of x whose gradient is used."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """x: float [...]; result: the values on the grid, [...]."""
        return replace_gradient(quantize(x.detach(), self.grid(x.detach())), self.surrogate(x))

    @torch.no_grad()
    def constrain_(self, weight: Tensor) -> None:
        """Bring a latent weight back into its range, in place; call after each update."""
        if self.clip is not None:
            weight.clamp_(*self.clip)

    @torch.no_grad()
    def freeze(self, weight: Tensor) -> tuple[Tensor, Fixed]:
        """The quantized weight, with 0 for -0, which codes cannot tell apart, and the quantizer that leaves it so."""
        return self(weight) + 0.0, Fixed(self.grid(weight))

    @torch.no_grad()
    def freeze_activation(self) -> Fixed:
        """The constant quantizer that does what this one does to activations."""
        return Fixed(self.grid(torch.zeros(1)))

    def extra_repr(self) -> str:
        """The width, for print(model)."""
        return f"bits={self.bits}"


class FixedPoint(Quantizer):
    """round(x / scale) clipped to `bits` bits, times a constant scale; gradient 1 inside the range, else 0.

    margin: how many steps beyond the outermost values the gradient still passes. widest: the most bits it takes.
    """

    margin = 0.0
    widest = MAX_BITS

    def __init__(self, bits: int, scale: float, *, signed: bool = True) -> None:
        super().__init__()
        kind = type(self).__name__
        instead = " (for 1 bit use Binarize, or signed=False)" if signed else ""
        self.bits = check_bits(bits, 2 if signed else 1, f"bits of {kind}{instead}", most=self.widest)
        if not 0 < scale < math.inf:
            raise UsageError(f"scale of {kind} is {scale}, expected a positive number")
        self.signed = signed
        self._step = float(scale)
        self.register_buffer("scale", torch.tensor(self._step), persistent=False)

    def grid(self, x: Tensor) -> Grid:
        """Constant."""
        return Grid(self.scale, self.bits, self.signed)

    def surrogate(self, x: Tensor) -> Tensor:
        """Clip(x) to the grid's range, widened by the margin."""
        return x.clamp(*self._range)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [...]; result: the values on the grid, [...]."""
        return clipped_gradient(quantize(x.detach(), self.grid(x)), x, *self._range)

    @property
    def _range(self) -> tuple[float, float]:
        low, high = self.grid(self.scale).limits
        return (low - self.margin) * self._step, (high + self.margin) * self._step


def input_quantizer() -> FixedPoint:
    """Identity on images k / 128 - 1 of 8-bit pixels k: tells the compiler that the first layer sees 8-bit codes."""
    return FixedPoint(8, 2.0**-7)


class MoonsWeight(FixedPoint):
    """clip(round(w * m), -m, m - 1) / m with m = 2^(bits-1); latent weights stay in [-1, 1].

    Moons et al., "Minimum Energy Quantized Neural Networks", 2017. One bit would leave {-1, 0}: use `Binarize`.
    The published code clips what is rounded already, so that the gradient passes wherever x rounds into the range.
    """

    clip = (-1.0, 1.0)
    margin = 0.5

    def __init__(self, bits: int) -> None:
        super().__init__(check_bits(bits, 2, "bits of MoonsWeight (for 1 bit use Binarize)"), 2.0 ** (1 - bits))


class MoonsReLU(FixedPoint):
    """The published quantized ReLU: round(x * m) clipped to 0 .. m - 1, divided by m, with m = 2^(bits-1).

    It has 2^(bits-1) levels, so that its codes need bits - 1 bits, and one "bit" would be constant zero. The published
    clip(2 * round(hs(x) * 2^n) / 2^n - 1, 0, 1 - 2^(1-n)) with hs(x) = clip((x + 1) / 2, 0, 1) is the same function;
    like it, this one passes the gradient wherever x rounds into the range.
    """

    margin = 0.5

    def __init__(self, bits: int) -> None:
        check_bits(bits, 2, "bits of MoonsReLU (its formula is constant zero for 1 bit; for 1 bit use Binarize)")
        super().__init__(bits - 1, 2.0 ** (1 - bits), signed=False)


class DoReFaActivation(FixedPoint):
    """round(clip(x, 0, 1) * n) / n with n = 2^bits - 1. Zhou et al., "DoReFa-Net", 2016, equation 11.

    bits: 1 to 31; from 25 on x is clipped alone, see `qcompiler.nn.grid.WIDEST_BITS`.
    """

    widest = WIDEST_BITS

    def __init__(self, bits: int) -> None:
        super().__init__(check_bits(bits, most=self.widest), 1.0 / (2**bits - 1), signed=False)


class DoReFaWeight(Quantizer):
    """2 * quantize(tanh(w) / (2 * max|tanh(w)|) + 1/2) - 1 on 2^bits levels. "DoReFa-Net", equation 9.

    The grid is {2q / n - 1 : q = 0 .. n}, n = 2^bits - 1: unsigned codes with zero point n / 2. For 1 bit the paper
    takes sign(w) * mean|w|: `Binarize(scale="tensor")`. bits: 2 to 31; for more than 16 see
    `qcompiler.nn.grid.WIDEST_BITS`.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = check_bits(bits, 2, "bits of DoReFaWeight (for 1 bit use Binarize)", most=WIDEST_BITS)
        self.register_buffer("scale", torch.tensor(2.0 / (2**bits - 1)), persistent=False)

    def grid(self, x: Tensor) -> Grid:
        """Constant."""
        return Grid(self.scale, self.bits, signed=False, zero_point=(2**self.bits - 1) / 2)

    def surrogate(self, x: Tensor) -> Tensor:
        """tanh(x), scaled so that its largest magnitude (taken as a constant) is 1."""
        squashed = torch.tanh(x)
        return squashed / squashed.detach().abs().max().clamp_min(torch.finfo(x.dtype).tiny)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [...]; result: the values on the grid, [...]."""
        squashed = self.surrogate(x)
        return replace_gradient(quantize(squashed.detach(), self.grid(x)), squashed)

    def freeze_activation(self) -> Fixed:
        """Refused: the formula needs the whole tensor."""
        raise UnsupportedModel("DoReFaWeight quantizes weights only", remedy="use DoReFaActivation for activations")
