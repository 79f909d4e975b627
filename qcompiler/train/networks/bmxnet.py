"""BMXNet's networks. Yang et al., "BMXNet: An Open-Source Binary Neural Network Implementation", 2017, and its code.

The first convolution and the last dense layer are real, the others have `w_bits` and `a_bits` (1: sign; 2 to 31:
DoReFa, above 16 for study; 32: float). Binary weights have no scale. No layer that BatchNorm follows has a bias.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from qcompiler.nn import QActivation, QConv2d, QLinear
from qcompiler.nn.grid import FLOAT_BITS
from qcompiler.nn.layers import default_weight_quantizer
from qcompiler.train.networks.network import Network, Shape

_EPS = 2e-5


@dataclass(frozen=True)
class _Bmxnet(Network):
    """w_bits, a_bits: widths of the inner layers."""

    w_bits: int = 1
    a_bits: int = 1

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        self.check_bits("w_bits", or_float=True)
        self.check_bits("a_bits", or_float=True)

    def baseline(self) -> Network:
        """32 bits."""
        return replace(self, w_bits=FLOAT_BITS, a_bits=FLOAT_BITS)


@dataclass(frozen=True)
class LeNet(_Bmxnet):
    """Real 5x5 convolution, tanh, pool, BatchNorm; binary 5x5, BatchNorm, pool; binary dense, BatchNorm, tanh; dense.

    In float there is nothing in the place of the first sign, and tanh in the place of the second.
    """

    name: ClassVar[str] = "lenet"
    filters: int = 64
    hidden: int = 1000

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        super().check()
        self.check_at_least(1, "filters", "hidden")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes, least=16)
        channels, height, width = shape
        rows, columns = (((size - 4) // 2 - 4) // 2 for size in (height, width))
        bits = {"w_bits": self.w_bits}
        floating = self.a_bits == FLOAT_BITS
        return nn.Sequential(
            nn.Conv2d(channels, self.filters, 5), nn.Tanh(), nn.MaxPool2d(2), nn.BatchNorm2d(self.filters),
            QActivation(self.a_bits), QConv2d(self.filters, self.filters, 5, bias=False, **bits),
            nn.BatchNorm2d(self.filters), nn.MaxPool2d(2), nn.Flatten(),
            nn.Tanh() if floating else QActivation(self.a_bits),
            QLinear(self.filters * rows * columns, self.hidden, bias=False, **bits),
            nn.BatchNorm1d(self.hidden), nn.Tanh(), nn.Linear(self.hidden, classes),
        )  # fmt: skip


@dataclass(frozen=True)
class ResNet18(_Bmxnet):
    """ResNet-18 with BatchNorm and sign before each convolution, binary shortcuts, and `width` filters at first.

    Images of up to 32 pixels enter by a 3x3 convolution (CIFAR-10: .86), larger ones by 7x7 of stride 2, BatchNorm,
    ReLU and a 3x3 pool of stride 2 (ImageNet). In float, ReLU stands in the sign's place. The BatchNorm of the images
    has no learned parameters here; the published one learns an offset.
    """

    name: ClassVar[str] = "resnet18"
    width: int = 64

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        super().check()
        self.check_at_least(1, "width")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes, least=8)
        layers: list[nn.Module] = [nn.BatchNorm2d(shape[0], eps=_EPS, affine=False), *self._stem(shape)]
        inputs = self.width
        for stage in range(4):
            outputs = self.width << stage
            layers.append(_Unit(self, inputs, outputs, stride=2 if stage else 1, matched=False))
            layers.append(_Unit(self, outputs, outputs))
            inputs = outputs
        tail = [nn.BatchNorm2d(inputs, eps=_EPS), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, *tail, nn.Linear(inputs, classes))

    def activation(self) -> nn.Module:
        """The activation before each inner convolution."""
        return nn.ReLU() if self.a_bits == FLOAT_BITS else QActivation(self.a_bits)

    def weight_quantizer(self) -> nn.Module:
        """What makes the weights of each inner convolution."""
        return default_weight_quantizer(self.w_bits)

    def conv(self, inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
        """An inner convolution, padded so that stride 1 keeps the image's size."""
        quantizer = self.weight_quantizer()
        return QConv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, weight_quantizer=quantizer)

    def _stem(self, shape: Shape) -> list[nn.Module]:
        if max(shape[1:]) <= 32:
            return [nn.Conv2d(shape[0], self.width, 3, padding=1, bias=False)]
        conv = nn.Conv2d(shape[0], self.width, 7, 2, 3, bias=False)
        return [conv, nn.BatchNorm2d(self.width, eps=_EPS), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]


class _Unit(nn.Module):
    """BatchNorm, activation, 3x3, BatchNorm, activation, 3x3, and the shortcut: the input, or 1x1 of its activation."""

    def __init__(self, net: ResNet18, inputs: int, outputs: int, stride: int = 1, matched: bool = True) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(inputs, eps=_EPS), net.activation())
        self.body = nn.Sequential(
            net.conv(inputs, outputs, 3, stride),
            nn.BatchNorm2d(outputs, eps=_EPS), net.activation(),
            net.conv(outputs, outputs, 3, 1),
        )  # fmt: skip
        self.shortcut = None if matched else net.conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, H, W]; result: float [N, O, H', W']."""
        active = self.before(x)
        return self.body(active) + (x if self.shortcut is None else self.shortcut(active))
