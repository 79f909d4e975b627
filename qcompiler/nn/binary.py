"""Quantizers of few levels: binary and ternary, for weights and activations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from qcompiler.errors import UnsupportedModel, UsageError
from qcompiler.nn.estimators import Estimator, straight_through
from qcompiler.nn.estimators import estimator as find_estimator
from qcompiler.nn.fixed import Fixed
from qcompiler.nn.grid import Grid
from qcompiler.nn.quantizers import Quantizer

Scale = Literal["tensor", "channel"] | None
TERNARY_MEAN_FACTOR = 0.7
"""threshold / mean|w| of Li et al., "Ternary Weight Networks", 2016, section 2.2."""


class Binarize(Quantizer):
    """+scale where x >= 0, else -scale.

    scale: None for 1, "tensor" for mean|x|, "channel" for mean|x| over all axes but the first (XNOR-Net's alpha).
    centre: subtract the mean over the input channels after each update (XNOR-Net). stochastic: while training,
    +1 with probability clip((x + 1) / 2, 0, 1) (BinaryConnect). estimator: an Estimator, or the name of one: clip,
    identity, polynomial or swish.
    """

    bits = 1
    clip = (-1.0, 1.0)

    def __init__(
        self,
        *,
        scale: Scale = None,
        centre: bool = False,
        stochastic: bool = False,
        estimator: str | Estimator = "clip",
    ) -> None:
        super().__init__()
        self.scale = _check_scale(scale)
        self.centre = centre
        self.stochastic = stochastic
        self.estimator = find_estimator(estimator)

    def grid(self, x: Tensor) -> Grid:
        """Bipolar, with the scale of x."""
        return Grid(_mean(x.detach().abs(), self.scale), 1)

    def surrogate(self, x: Tensor) -> Tensor:
        """The estimator's surrogate, without the scale."""
        return self.estimator.surrogate(x)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [...]; result: -scale or +scale, [...]; the gradient of the scale follows the product rule."""
        one = torch.ones((), dtype=x.dtype, device=x.device)
        up = torch.rand_like(x) < (x + 1) / 2 if self.stochastic and self.training else x >= 0
        signs = straight_through(torch.where(up, one, -one), x, self.estimator)
        return signs if self.scale is None else signs * _mean(x.abs(), self.scale)

    @torch.no_grad()
    def constrain_(self, weight: Tensor) -> None:
        """Centre over the input channels if asked to, then clip to [-1, 1]; in place."""
        if self.centre and weight.dim() > 1:
            weight.sub_(weight.mean(1, keepdim=True))
        super().constrain_(weight)

    def freeze_activation(self) -> Fixed:
        """Sign of activations; a scale of activations would need their values."""
        if self.scale is not None:
            raise UnsupportedModel(
                f"Binarize(scale='{self.scale}') of activations has no constant scale",
                remedy="use Binarize() or an XnorConv2d layer",
            )
        fixed: Fixed = super().freeze_activation()
        return fixed

    def extra_repr(self) -> str:
        """The choices, for print(model)."""
        return f"scale={self.scale}, estimator={self.estimator.name}, stochastic={self.stochastic}"


class Ternarize(Quantizer):
    """+scale above the threshold, -scale below its negative, else 0.

    threshold: a number (0.5 and 0.05 are published) or "mean" for 0.7 * mean|x|. scale: None for 1, "tensor" or
    "channel" for the mean magnitude of the elements beyond the threshold (Ternary Weight Networks). estimator: as for
    `Binarize`.
    """

    bits = 2
    clip = (-1.0, 1.0)

    def __init__(
        self,
        *,
        threshold: float | Literal["mean"] = 0.5,
        scale: Scale = None,
        estimator: str | Estimator = "clip",
    ) -> None:
        super().__init__()
        if threshold != "mean" and not (isinstance(threshold, int | float) and 0 < threshold < 1):
            raise UsageError(f"threshold of Ternarize is {threshold!r}, expected 'mean' or a number between 0 and 1")
        self.threshold = threshold
        self.scale = _check_scale(scale)
        self.estimator = find_estimator(estimator)

    def grid(self, x: Tensor) -> Grid:
        """Two signed bits, narrow: -1, 0 and +1 times the scale of x."""
        return Grid(self._scale_of(x.detach(), self._codes(x.detach())), 2, narrow=True)

    def surrogate(self, x: Tensor) -> Tensor:
        """The estimator's surrogate, without the scale."""
        return self.estimator.surrogate(x)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [...]; result: -scale, 0 or +scale, [...]."""
        signs = straight_through(self._codes(x.detach()), x, self.estimator)
        return signs if self.scale is None else signs * self._scale_of(x, signs.detach())

    def freeze_activation(self) -> Fixed:
        """Ternary activations: exact only where rounding half to even puts the threshold."""
        if self.scale is not None or self.threshold != 0.5:
            raise UnsupportedModel(
                f"Ternarize(threshold={self.threshold!r}, scale={self.scale!r}) of activations is no rounding",
                remedy="use Ternarize(threshold=0.5) for activations",
            )
        fixed: Fixed = super().freeze_activation()
        return fixed

    def _codes(self, x: Tensor) -> Tensor:
        threshold = TERNARY_MEAN_FACTOR * x.abs().mean() if self.threshold == "mean" else self.threshold
        return (x > threshold).to(x.dtype) - (x < -threshold).to(x.dtype)

    def _scale_of(self, x: Tensor, signs: Tensor) -> Tensor:
        used = signs.abs()
        if self.scale is None:
            return torch.ones((), dtype=x.dtype, device=x.device)
        share = _mean(used, self.scale)
        # a channel without weights beyond the threshold is all zero: any scale will do
        return torch.where(share > 0, _mean(x.abs() * used, self.scale) / share.where(share > 0, 1), 1)

    def extra_repr(self) -> str:
        """The choices, for print(model)."""
        return f"threshold={self.threshold}, scale={self.scale}, estimator={self.estimator.name}"


def _check_scale(scale: Scale) -> Scale:
    if scale not in (None, "tensor", "channel"):
        raise UsageError(f"scale is {scale!r}, expected None, 'tensor' or 'channel'")
    return scale


def _mean(magnitude: Tensor, scale: Scale) -> Tensor:
    """The mean that `scale` names: 1, over everything, or over all axes but the first ([O, 1, ...])."""
    if scale is None:
        return torch.ones((), dtype=magnitude.dtype, device=magnitude.device)
    if scale == "tensor":
        return magnitude.mean()
    return magnitude.mean(tuple(range(1, magnitude.dim())), keepdim=True)
