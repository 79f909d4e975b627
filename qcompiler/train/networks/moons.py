"""Networks in A-B-C blocks. Moons et al., "Minimum Energy Quantized Neural Networks", 2017, and its Keras code.

| network_type | weights | activation |
| --- | --- | --- |
| float | float | LeakyReLU |
| qnn | wbits | LeakyReLU |
| full-qnn | wbits | quantized ReLU of abits |
| bnn | -1, +1 | LeakyReLU |
| full-bnn | -1, +1 | sign |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from torch import nn

from qcompiler.nn import Binarize, MoonsReLU, MoonsWeight, QActivation, Quantizer
from qcompiler.nn.grid import FLOAT_BITS
from qcompiler.train.networks.network import Network, Shape
from qcompiler.train.networks.style import Style, chain, sign

NETWORK_TYPES = ("float", "qnn", "full-qnn", "bnn", "full-bnn")
KERAS_SLOPE = 0.3
"""Slope of Keras' LeakyReLU below zero."""


@dataclass(frozen=True)
class Moons(Network):
    """Three blocks of nl* times (3x3 convolution with nf* filters, BatchNorm, activation), each with a 2x2 max-pool.

    Then a float dense layer without bias, and BatchNorm. The depths and widths are those published for CIFAR-10.
    """

    name: ClassVar[str] = "moons"
    network_type: str = "full-qnn"
    wbits: int = 4
    abits: int = 4
    nla: int = 1
    nfa: int = 64
    nlb: int = 1
    nfb: int = 64
    nlc: int = 1
    nfc: int = 64

    @property
    def w_bits(self) -> int:
        """The field wbits for the qnn types, 1 for the bnn types, else 32."""
        return {"float": FLOAT_BITS, "qnn": self.wbits, "full-qnn": self.wbits}.get(self.network_type, 1)

    @property
    def a_bits(self) -> int:
        """The field abits for full-qnn, 1 for full-bnn, else 32."""
        return {"full-qnn": self.abits, "full-bnn": 1}.get(self.network_type, FLOAT_BITS)

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        self.check_choice("network_type", NETWORK_TYPES)
        if self.network_type.endswith("qnn"):
            self.check_bits("wbits", 2, remedy="for 1 bit set network_type=bnn or full-bnn")
        if self.network_type == "full-qnn":
            why = "the published formula of 1 bit is constant zero: for 1 bit set network_type=full-bnn"
            self.check_bits("abits", 2, remedy=why)
        self.check_at_least(1, "nla", "nfa", "nlb", "nfb", "nlc", "nfc")

    def baseline(self) -> Network:
        """network_type float."""
        return replace(self, network_type="float")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes, least=8)
        style = Style(self._activation(), self._weight())
        layers = style.entrance()
        channels, height, width = shape
        for depth, filters in ((self.nla, self.nfa), (self.nlb, self.nfb), (self.nlc, self.nfc)):
            for _ in range(depth):
                layers += [style.conv(channels, filters), style.image_norm(filters), style.activation()]
                channels = filters
            layers.append(nn.MaxPool2d(2))
        inputs = channels * (height // 8) * (width // 8)
        return chain([*layers, nn.Flatten(), nn.Linear(inputs, classes, bias=False), style.norm(classes)])

    def _weight(self) -> Callable[[], Quantizer] | None:
        if self.network_type == "float":
            return None
        return partial(MoonsWeight, self.wbits) if self.network_type.endswith("qnn") else Binarize

    def _activation(self) -> Callable[[], nn.Module]:
        if self.network_type == "full-qnn":
            return lambda: QActivation(quantizer=MoonsReLU(self.abits))
        return sign if self.network_type == "full-bnn" else partial(nn.LeakyReLU, KERAS_SLOPE)
