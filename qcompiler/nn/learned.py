"""Quantizers with a learned range: LSQ and PACT."""

from __future__ import annotations

import math

import torch
from torch import Tensor, distributed, nn

from qcompiler.errors import UnsupportedModel, UsageError
from qcompiler.nn.estimators import replace_gradient
from qcompiler.nn.fixed import Fixed
from qcompiler.nn.grid import Grid, check_bits, codes
from qcompiler.nn.quantizers import Quantizer

_LEAST = 1e-8


class LSQ(Quantizer):
    """Learned step size quantization (Esser et al., 2020): scale * round(clip(x / scale)), the scale learned.

    signed: codes from -2^(bits-1), for weights; else from 0, for activations after a ReLU. channels: one scale for
    each of that many output channels of a weight, else one for the tensor. The scale starts at 2 * mean|x| / sqrt(Qp)
    of the first tensor seen in training (averaged over processes), and its gradient is scaled by 1 / sqrt(N * Qp).
    """

    def __init__(self, bits: int, *, signed: bool = True, channels: int | None = None) -> None:
        super().__init__()
        instead = " (for 1 bit use Binarize, or signed=False)" if signed else ""
        self.bits = check_bits(bits, 2 if signed else 1, f"bits of LSQ{instead}")
        if channels is not None and channels < 1:
            raise UsageError(f"channels of LSQ is {channels}, expected a positive number or None")
        self.signed = signed
        self.channels = channels
        self.scale = nn.Parameter(torch.ones(channels or ()))
        self.register_buffer("started", torch.tensor(False))

    def grid(self, x: Tensor) -> Grid:
        """The grid of the learned scale."""
        return Grid(self._positive(x).detach(), self.bits, self.signed)

    def surrogate(self, x: Tensor) -> Tensor:
        """Clip(x) to the range of the grid."""
        low, high = self.grid(x).limits
        scale = self._positive(x)
        return torch.minimum(torch.maximum(x, low * scale), high * scale)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [...]; result: the values on the grid, [...]."""
        if self.training and not self.started:
            self.start_(x)
        grid = self.grid(x)
        scale = self._positive(x)
        damped = replace_gradient(scale, scale * self._damping(x))
        inside = (x / damped).clamp(*grid.limits)
        # rounding is taken as a constant shift, so that the scale's gradient is round(v) - v inside the range
        return replace_gradient(codes(x.detach(), grid) * grid.scale, (inside + _shift(inside)) * damped)

    @torch.no_grad()
    def start_(self, x: Tensor) -> None:
        """Set the scale from x: 2 * mean|x| / sqrt(Qp), the mean over all or over all axes but the first."""
        axes = tuple(range(1, x.dim())) if self.channels else tuple(range(x.dim()))
        start = 2 * x.abs().mean(axes) / self.grid(x).limits[1] ** 0.5
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(start)
            start /= distributed.get_world_size()
        self.scale.copy_(start.clamp_min(_LEAST))
        self.started.fill_(True)

    def freeze_activation(self) -> Fixed:
        """Refused for one scale per channel: axis 0 of activations is the batch."""
        if self.channels is not None:
            raise UnsupportedModel(
                f"LSQ(channels={self.channels}) has a scale per output channel of a weight",
                remedy="use LSQ without channels for activations",
            )
        fixed: Fixed = super().freeze_activation()
        return fixed

    def _positive(self, x: Tensor) -> Tensor:
        scale = self.scale.abs().clamp_min(_LEAST)
        if not self.channels or x.dim() < 2:
            return scale
        if x.shape[0] != self.channels:
            found = f"a weight of {x.shape[0]} output channels"
            raise UsageError(f"LSQ(channels={self.channels}) on {found}", remedy=f"set channels={x.shape[0]}")
        return scale.reshape(-1, *[1] * (x.dim() - 1))

    def _damping(self, x: Tensor) -> float:
        count = x.numel() if self.signed else x.numel() // max(1, x.shape[0])
        result: float = (count * self.grid(x).limits[1]) ** -0.5
        return result

    def extra_repr(self) -> str:
        """The choices, for print(model)."""
        return f"bits={self.bits}, signed={self.signed}, channels={self.channels}"


class PACT(Quantizer):
    """Parameterized clipping activation (Choi et al., 2018): clip(x, 0, alpha) on 2^bits levels, alpha learned."""

    def __init__(self, bits: int, alpha: float = 6.0) -> None:
        super().__init__()
        self.bits = check_bits(bits, 1, "bits of PACT")
        if not 0 < alpha < math.inf:
            raise UsageError(f"alpha of PACT is {alpha}, expected a positive number")
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))

    def grid(self, x: Tensor) -> Grid:
        """Unsigned codes, scale alpha / (2^bits - 1)."""
        return Grid(self._positive().detach() / (2**self.bits - 1), self.bits, signed=False)

    def surrogate(self, x: Tensor) -> Tensor:
        """clip(x, 0, alpha)."""
        return torch.minimum(x.clamp_min(0), self._positive())

    def _positive(self) -> Tensor:
        return self.alpha.abs().clamp_min(_LEAST)


def _shift(inside: Tensor) -> Tensor:
    return (inside.round() - inside).detach()
