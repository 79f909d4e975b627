"""ReActNet's activations, whose sign and PReLU move along their axes by learned amounts per channel.

Liu et al., "ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions", 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcompiler.errors import UsageError
from qcompiler.nn.binary import Binarize
from qcompiler.nn.estimators import Estimator

_SLOPE = 0.25
"""Where slopes of torch's PReLU start."""


class RSign(nn.Module):
    """sign(x - alpha), +1 where x = alpha; alpha is learned, one per channel, from 0.

    estimator: the gradient of the sign, as for `Binarize`; the paper's is Bi-Real-Net's polynomial.
    """

    def __init__(self, channels: int, *, estimator: str | Estimator = "polynomial") -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(_checked(channels, "RSign")))
        self.quantizer = Binarize(estimator=estimator)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, ...]; result: -1 or +1, of the same shape."""
        signs: Tensor = self.quantizer(x - _per_channel(self.alpha, x))
        return signs


class RPReLU(nn.Module):
    """x - gamma + zeta where x > gamma, else beta * (x - gamma) + zeta.

    All three are learned, one per channel; gamma and zeta start at 0, beta at 0.25.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(_checked(channels, "RPReLU")))
        self.beta = nn.Parameter(torch.full((channels,), _SLOPE))
        self.zeta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, ...]; result: of the same shape."""
        return functional.prelu(x - _per_channel(self.gamma, x), self.beta) + _per_channel(self.zeta, x)


def _checked(channels: int, kind: str) -> int:
    if channels < 1:
        raise UsageError(f"channels of {kind} is {channels}, expected a positive number")
    return channels


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """[C] beside x, [N, C, ...]."""
    return values.reshape(-1, *[1] * (x.dim() - 2))
