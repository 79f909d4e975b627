"""Bi-Real-Net. Liu et al., "Bi-Real Net", 2018, and its PyTorch code.

Every binary convolution has its own real shortcut; the gradient of sign is that of a polynomial; weights are scaled by
mean |w| per filter. The stem, the 1x1 convolutions of the downsampling shortcuts and the dense layer are real.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from qcompiler.nn import Binarize, QConv2d
from qcompiler.train.networks.network import BinaryOrFloat, Shape


@dataclass(frozen=True)
class Shortcuts18(BinaryOrFloat):
    """18 layers, `width` filters in the first, and a shortcut around every one of the sixteen between the ends.

    Images of up to 32 pixels enter by a 3x3 convolution instead of the 7x7 of stride 2 and the 3x3 pool of stride 2.
    """

    width: int = 64

    @abstractmethod
    def block(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        """A layer and its shortcut."""

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        self.check_at_least(1, "width")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes, least=8)
        layers = _stem(shape, self.width)
        inputs = self.width
        for stage in range(4):
            for block in range(4):
                outputs = self.width << stage
                layers.append(self.block(inputs, outputs, stride=2 if stage and not block else 1))
                inputs = outputs
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


@dataclass(frozen=True)
class BiReal18(Shortcuts18):
    """ImageNet 56.4 % top-1. `binary` off: ReLU in the sign's place."""

    name: ClassVar[str] = "bireal18"

    def block(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        """A layer and its shortcut."""
        return _Block(self.binary, inputs, outputs, stride)


def _stem(shape: Shape, width: int) -> list[nn.Module]:
    """The real layers that images enter by, to `width` channels."""
    norm = nn.BatchNorm2d(width)
    if max(shape[1:]) <= 32:
        return [nn.Conv2d(shape[0], width, 3, padding=1, bias=False), norm]
    return [nn.Conv2d(shape[0], width, 7, 2, 3, bias=False), norm, nn.MaxPool2d(3, 2, 1)]


class _Block(nn.Module):
    """Sign, 3x3 convolution, BatchNorm, plus the shortcut: the input, or its 2x2 mean, 1x1 convolution, BatchNorm."""

    def __init__(self, binary: bool, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(binary, inputs, outputs, stride), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity()
        if stride != 1:
            conv = nn.Conv2d(inputs, outputs, 1, bias=False)
            # rounded up like the strided convolution, where the image has an odd number of rows
            self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2, ceil_mode=True), conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, H, W]; result: float [N, O, H', W']."""
        return self.body(x) + self.shortcut(x)


def _conv(binary: bool, inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    if not binary:
        return [nn.ReLU(), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)]
    quantizers = {"weight_quantizer": Binarize(scale="channel"), "input_quantizer": Binarize(estimator="polynomial")}
    return [QConv2d(inputs, outputs, 3, stride, 1, bias=False, **quantizers)]
