"""QuickNet. Bannink et al., "Larq Compute Engine", 2021, section 4, and Larq Zoo's `larq_zoo.sota.quicknet`, v1.0.

A real stem that quarters the image; four sections of residual blocks (sign, binary 3x3, ReLU, BatchNorm, plus the
input); real transitions between them; ReLU, global mean, dense. Binary convolutions pad with ones, so that nothing
but -1 and +1 enters them. Larq's sign passes gradients up to 1.25, this one up to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcompiler.nn import QActivation, QConv2d
from qcompiler.train.networks.network import BinaryOrFloat, Shape

SECTIONS = {
    "small": ((4, 32), (4, 64), (4, 256), (4, 512)),
    "medium": ((4, 64), (4, 128), (4, 256), (4, 512)),
    "large": ((6, 64), (8, 128), (12, 256), (6, 512)),
}
"""Blocks and filters of each section; ImageNet top-1 59.4, 63.3 and 66.9 %."""


@dataclass(frozen=True)
class QuickNet(BinaryOrFloat):
    """size: small, medium or large. `binary` off: real convolutions, no sign."""

    name: ClassVar[str] = "quicknet"
    size: str = "medium"

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        self.check_choice("size", SECTIONS)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes, least=29)
        sections = SECTIONS[self.size]
        channels = sections[0][1]
        layers = _stem(shape[0], channels)
        for blocks, filters in sections:
            if filters != channels:
                layers += _transition(channels, filters)
                channels = filters
            layers += [_Block(self.binary, channels) for _ in range(blocks)]
        tail = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
        return nn.Sequential(*layers, *tail)


class _Block(nn.Module):
    """x + BatchNorm(ReLU(3x3 convolution of sign(x)))."""

    def __init__(self, binary: bool, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(binary, channels), nn.ReLU(), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, H, W]; result: float [N, C, H, W]."""
        return x + self.body(x)


class _Blur(nn.Module):
    """Depthwise 3x3 binomial filter of stride 2. Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(row, row).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, H, W]; result: float [N, C, ceil(H / 2), ceil(W / 2)]."""
        return functional.conv2d(x, self.kernel, stride=2, padding=1, groups=len(self.kernel))


def _conv(binary: bool, channels: int) -> list[nn.Module]:
    if not binary:
        return [nn.Conv2d(channels, channels, 3, padding=1, bias=False)]
    conv = QConv2d(channels, channels, 3, bias=False)
    nn.init.xavier_normal_(conv.weight)
    return [QActivation(1), nn.ConstantPad2d(1, 1.0), conv]


def _stem(channels: int, filters: int) -> list[nn.Module]:
    """3x3 of stride 2, depthwise 3x3 of stride 2, 1x1."""
    quarter = filters // 4
    return [
        nn.Conv2d(channels, quarter, 3, 2, 1, bias=False), _stem_norm(quarter), nn.ReLU(),
        nn.Conv2d(quarter, quarter, 3, 2, 1, groups=quarter, bias=False), _stem_norm(quarter, affine=False),
        nn.Conv2d(quarter, filters, 1, bias=False), _stem_norm(filters),
    ]  # fmt: skip


def _stem_norm(channels: int, affine: bool = True) -> nn.Module:
    """BatchNorm with Keras' defaults."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01, affine=affine)


def _transition(inputs: int, outputs: int) -> list[nn.Module]:
    """ReLU, 2x2 max-pool of stride 1, blur of stride 2, 1x1 convolution, BatchNorm."""
    pool = [nn.ReLU(), nn.MaxPool2d(2, 1), _Blur(inputs)]
    return [*pool, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
