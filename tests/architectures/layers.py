"""Layers of a block in its float or its binary variant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def sign(x: Tensor) -> Tensor:
    """+1 from zero upwards, else -1."""
    return torch.where(x >= 0, 1.0, -1.0)


class IntegerConv(nn.Module):
    """A convolution of signs with signs, scaled per output channel; `spatial` is 1 or 2.

    Images have the scale in their weights; sequences after the sum, so that a sum of 0 stays exactly 0.
    """

    def __init__(self, spatial: int, inputs: int, outputs: int, kernel: int, groups: int = 1, **geometry: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs // groups, *[kernel] * spatial))
        self.run = functional.conv1d if spatial == 1 else functional.conv2d
        self.geometry = {"groups": groups, **geometry}

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.abs().mean(dim=list(range(1, self.weight.dim())), keepdim=True)
        if self.weight.dim() == 4:
            return self.run(sign(x), sign(self.weight) * scale, **self.geometry)
        return self.run(sign(x), sign(self.weight), **self.geometry) * scale.view(1, -1, 1)


class BinaryLinear(nn.Module):
    """A matrix product of signs with signs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(torch.sign(x), torch.sign(self.weight), self.bias)


@dataclass(frozen=True)
class Layers:
    """Makes the layers of one variant."""

    binary: bool

    def conv(self, inputs: int, outputs: int, kernel: int = 1, **geometry: Any) -> nn.Module:
        """A 2-D convolution, padded to keep the size unless told otherwise."""
        return self._conv(2, nn.Conv2d, inputs, outputs, kernel, geometry)

    def conv1d(self, inputs: int, outputs: int, kernel: int = 1, **geometry: Any) -> nn.Module:
        """A 1-D convolution, padded likewise."""
        return self._conv(1, nn.Conv1d, inputs, outputs, kernel, geometry)

    def linear(self, inputs: int, outputs: int) -> nn.Module:
        return BinaryLinear(inputs, outputs) if self.binary else nn.Linear(inputs, outputs)

    def act(self) -> nn.Module:
        """An activation that leaves something for a sign to see."""
        return nn.Hardtanh() if self.binary else nn.ReLU()

    def unit(self, inputs: int, outputs: int, kernel: int = 1, **geometry: Any) -> nn.Sequential:
        """Convolution, BatchNormalization, activation."""
        return nn.Sequential(self.conv(inputs, outputs, kernel, **geometry), nn.BatchNorm2d(outputs), self.act())

    def unit1d(self, inputs: int, outputs: int, kernel: int = 1, **geometry: Any) -> nn.Sequential:
        """The same in one dimension."""
        return nn.Sequential(self.conv1d(inputs, outputs, kernel, **geometry), nn.BatchNorm1d(outputs), self.act())

    def _conv(
        self, spatial: int, real: type[nn.Module], inputs: int, outputs: int, kernel: int, geometry: dict[str, Any]
    ) -> nn.Module:
        geometry.setdefault("padding", kernel // 2 * geometry.get("dilation", 1))
        if self.binary:
            return IntegerConv(spatial, inputs, outputs, kernel, **geometry)
        return real(inputs, outputs, kernel, **geometry)
