"""BMXNet's networks. Yang et al., "BMXNet: An Open-Source Binary Neural Network Implementation", 2017, and its code.

The first convolution and the last dense layer are real, the others have `w_bits` and `a_bits` (1: sign; 2 to 16:
DoReFa; 32: float). Binary weights have no scale. No layer that BatchNorm follows has a bias.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from qcompiler.nn import QActivation, QConv2d, QLinear
from qcompiler.nn.grid import FLOAT_BITS
from qcompiler.train.networks.network import Network, Shape


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
