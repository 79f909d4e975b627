"""How a family makes its layers: which weights, which activation, which BatchNorm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from qcompiler.nn import Binarize, QActivation, QConv2d, QLinear, Quantizer, Ternarize, input_quantizer
from qcompiler.nn import quantized_weights as latent_weights

THRESHOLDS: dict[str, float | Literal["mean"]] = {"0.5": 0.5, "0.05": 0.05, "mean": "mean"}
"""Published thresholds of ternary weights, as they are written in a configuration."""


@dataclass(frozen=True)
class Style:
    """Layers without bias, each followed by BatchNorm; `weight` None makes float layers."""

    activation: Callable[[], nn.Module]
    weight: Callable[[], Quantizer] | None = None
    eps: float = 1e-4

    def linear(self, inputs: int, outputs: int) -> nn.Module:
        """A matrix product, [N, inputs] to [N, outputs]."""
        if self.weight is None:
            return nn.Linear(inputs, outputs, bias=False)
        return QLinear(inputs, outputs, bias=False, weight_quantizer=self.weight())

    def conv(self, inputs: int, outputs: int, kernel: int = 3) -> nn.Module:
        """A convolution of stride 1 that keeps the image's size (odd kernel)."""
        if self.weight is None:
            return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        quantizer = self.weight()
        return QConv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, weight_quantizer=quantizer)

    def hidden_layers(
        self, inputs: int, hidden: int, layers: int, after: Callable[[], list[nn.Module]]
    ) -> list[nn.Module]:
        """`layers` times a matrix product to `hidden`, BatchNorm, activation, and what `after` makes."""
        made: list[nn.Module] = []
        for _ in range(layers):
            made += [self.linear(inputs, hidden), self.norm(hidden), self.activation(), *after()]
            inputs = hidden
        return made

    def norm(self, channels: int) -> nn.Module:
        """BatchNorm of [N, channels]."""
        return nn.BatchNorm1d(channels, eps=self.eps)

    def image_norm(self, channels: int) -> nn.Module:
        """BatchNorm of [N, channels, H, W]."""
        return nn.BatchNorm2d(channels, eps=self.eps)

    def entrance(self) -> list[nn.Module]:
        """What stands before a first layer of this style: the width of the pixels, where its weights are quantized."""
        return [] if self.weight is None else [input_quantizer()]


def sign() -> nn.Module:
    """The binary activation: +1 where x >= 0, else -1, gradient 1[|x| <= 1]."""
    return QActivation(1)


def weight_maker(kind: str, *, stochastic: bool = False, threshold: str = "0.5") -> Callable[[], Quantizer] | None:
    """What makes the weight quantizer of `kind`: binary, ternary or float."""
    if kind == "float":
        return None
    if kind == "ternary":
        return lambda: Ternarize(threshold=THRESHOLDS[threshold])
    return lambda: Binarize(stochastic=stochastic)


def dropout(share: float) -> list[nn.Module]:
    """Dropout, or nothing for a share of 0."""
    return [nn.Dropout(share)] if share else []


def chain(layers: Iterable[nn.Module]) -> nn.Module:
    """The layers one after the other, latent weights drawn from the range that they are clipped to (BinaryNet's)."""
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for _, weight, quantizer in latent_weights(model):
            if quantizer.clip is not None:
                weight.uniform_(*quantizer.clip)
    return model
