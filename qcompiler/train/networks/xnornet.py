"""XNOR-Net's networks. Rastegari et al., "XNOR-Net", 2016, with its Torch code, and the Theano implementation.

Order: BatchNorm, sign, convolution, pool. A binary layer is scaled by alpha (mean |w| per filter) and, with `k_map`,
by the box-filtered mean |x|; latent weights are centred over the input channels. `binary` off makes the float twin,
with ReLU in the sign's place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from torch import nn

from qcompiler.nn import XnorConv2d, XnorLinear
from qcompiler.nn.grid import FLOAT_BITS
from qcompiler.train.networks.network import Network, Shape
from qcompiler.train.networks.style import chain, dropout

EPS = 1e-4


@dataclass(frozen=True)
class _XnorNet(Network):
    """binary: off for float; k_map: off to scale by alpha only."""

    binary: bool = True
    k_map: bool = True

    @property
    def w_bits(self) -> int:
        """1, or 32 for float."""
        return 1 if self.binary else FLOAT_BITS

    @property
    def a_bits(self) -> int:
        """1, or 32 for float."""
        return 1 if self.binary else FLOAT_BITS

    def baseline(self) -> Network:
        """Float layers, ReLU before each."""
        return replace(self, binary=False)

    def linear(self, inputs: int, outputs: int) -> list[nn.Module]:
        """Sign and the binary matrix product, or ReLU and the float one."""
        if self.binary:
            return [XnorLinear(inputs, outputs, bias=False, k_map=self.k_map)]
        return [nn.ReLU(), nn.Linear(inputs, outputs, bias=False)]

    def conv(self, inputs: int, outputs: int, kernel: int = 3, padding: int = 1) -> list[nn.Module]:
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
