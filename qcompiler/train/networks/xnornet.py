"""XNOR-Net's networks. Rastegari et al., "XNOR-Net", 2016, with its Torch code, and the Theano implementation.

Order: BatchNorm, sign, convolution, pool. A binary layer is scaled by alpha (mean |w| per filter) and, with `k_map`,
by the box-filtered mean |x|; latent weights are centred over the input channels. `binary` off makes the float twin,
with ReLU in the sign's place.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch import nn

from qcompiler.nn import XnorConv2d, XnorLinear
from qcompiler.train.networks.network import BinaryOrFloat, Shape
from qcompiler.train.networks.style import chain, dropout

EPS = 1e-4


@dataclass(frozen=True)
class _XnorNet(BinaryOrFloat):
    """binary: off for float; k_map: off to scale by alpha only."""

    k_map: bool = True

    def linear(self, inputs: int, outputs: int) -> list[nn.Module]:
        """Sign and the binary matrix product, or ReLU and the float one."""
        if self.binary:
            return [XnorLinear(inputs, outputs, bias=False, k_map=self.k_map)]
        return [nn.ReLU(), nn.Linear(inputs, outputs, bias=False)]

    def conv(self, inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, padding: int = 1) -> list[nn.Module]:
        """Sign and the binary convolution, or ReLU and the float one."""
        if self.binary:
            return [XnorConv2d(inputs, outputs, kernel, padding=padding, bias=False, k_map=self.k_map)]
        return [nn.ReLU(), nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False)]


@dataclass(frozen=True)
class XnorNetMlp(_XnorNet):
    """The Theano implementation's perceptron: `layers` binary layers of `hidden`, a real one, BatchNorm.

    Its first layer takes the sign of the pixels (error on MNIST 3.2 %); with `real_first` it is a real layer. Dropout
    stands before BatchNorm, from the second layer on.
    """

    name: ClassVar[str] = "xnornet_mlp"
    hidden: int = 4096
    layers: int = 3
    dropout_hidden: float = 0.5
    real_first: bool = False

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        self.check_at_least(1, "hidden", "layers")
        self.check_share("dropout_hidden")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes)
        layers = [nn.Flatten(), self._first(prod(shape))]
        for _ in range(self.layers - 1):
            layers += [nn.BatchNorm1d(self.hidden, eps=EPS), *self.linear(self.hidden, self.hidden)]
            layers += dropout(self.dropout_hidden)
        return chain([*layers, nn.Linear(self.hidden, classes), nn.BatchNorm1d(classes, eps=EPS)])

    def _first(self, inputs: int) -> nn.Module:
        if self.real_first or not self.binary:
            return nn.Linear(inputs, self.hidden, bias=False)
        return XnorLinear(inputs, self.hidden, bias=False, k_map=self.k_map)


@dataclass(frozen=True)
class XnorNetVgg(_XnorNet):
    """The Theano implementation's BinaryNet VGG, first convolution and last dense layer real.

    width-width-P-2width-2width-P-4width-4width-P, hidden, hidden, classes. CIFAR-10 with 128: error 13.8 %.
    """

    name: ClassVar[str] = "xnornet_vgg"
    width: int = 128
    hidden: int = 1024

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        self.check_at_least(1, "width", "hidden")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes, least=8)
        (channels, height, width), inputs = shape, self.width
        layers: list[nn.Module] = [nn.Conv2d(channels, inputs, 3, padding=1, bias=False)]
        for factor, pools in ((1, True), (2, False), (2, True), (4, False), (4, True)):
            outputs = factor * self.width
            layers += [nn.BatchNorm2d(inputs, eps=EPS), *self.conv(inputs, outputs)]
            layers += [nn.MaxPool2d(2)] if pools else []
            inputs = outputs
        layers += [nn.BatchNorm2d(inputs, eps=EPS), nn.Flatten()]
        features = inputs * (height // 8) * (width // 8)
        for size in (features, self.hidden):
            layers += [*self.linear(size, self.hidden), nn.BatchNorm1d(self.hidden, eps=EPS)]
        return chain([*layers, nn.Linear(self.hidden, classes)])


@dataclass(frozen=True)
class XnorNetAlexNet(_XnorNet):
    """The paper's AlexNet for ImageNet (44.2 % top-1); its dense layers are convolutions of the size of the image.

    `width` filters in the first layer, a multiple of 3; the others are 8/3 and 4 times as wide.
    """

    name: ClassVar[str] = "xnornet_alexnet"
    width: int = 96
    hidden: int = 4096

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        self.check_at_least(1, "width", "hidden")
        if self.width % 3:
            raise self.refuse("width", "a multiple of 3")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes, least=63)
        narrow, middle, wide = self.width, self.width * 8 // 3, self.width * 4
        layers = [
            nn.Conv2d(shape[0], narrow, 11, 4, 2, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(), nn.MaxPool2d(3, 2),
            *self._step(narrow, middle, 5, 2), nn.MaxPool2d(3, 2),
            *self._step(middle, wide, 3, 1), *self._step(wide, wide, 3, 1),
            *self._step(wide, middle, 3, 1), nn.MaxPool2d(3, 2),
            *self._step(middle, self.hidden, _pooled(shape), 0), *self._step(self.hidden, self.hidden, 1, 0),
            nn.BatchNorm2d(self.hidden, eps=1e-3), nn.ReLU(), nn.Conv2d(self.hidden, classes, 1), nn.Flatten(),
        ]  # fmt: skip
        return nn.Sequential(*layers)

    def _step(self, inputs: int, outputs: int, kernel: int | tuple[int, int], padding: int) -> list[nn.Module]:
        return [nn.BatchNorm2d(inputs, eps=EPS), *self.conv(inputs, outputs, kernel, padding)]


def _pooled(shape: Shape) -> tuple[int, int]:
    """Rows and columns after AlexNet's first convolution and three pools; 6 x 6 of 224 x 224."""
    rows, columns = ((size - 3) // 4 for size in shape[1:])
    for _ in range(3):
        rows, columns = (rows - 1) // 2, (columns - 1) // 2
    return rows, columns
