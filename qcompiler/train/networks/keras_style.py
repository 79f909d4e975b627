"""The perceptron and the convolutional network of the Keras implementations of binary, ternary and n-bit layers.

Every layer is quantized, the last one too; it is followed by BatchNorm. BatchNorm has epsilon 1e-6, dropout does not
rescale what it keeps. The layers are those of `qcompiler.nn`, to be imported one by one.

| weights | weights | activation |
| --- | --- | --- |
| binary | -1, +1 | sign |
| ternary | -1, 0, +1 | -1, 0, +1 with threshold 0.5 |
| nbit | wbits, as `MoonsWeight` | abits, as `MoonsReLU` |
| float | float | ReLU |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import ClassVar

from torch import Tensor, nn

from qcompiler.nn import MoonsReLU, MoonsWeight, QActivation, Ternarize
from qcompiler.nn.grid import FLOAT_BITS
from qcompiler.train.networks.network import Network, Shape
from qcompiler.train.networks.style import THRESHOLDS, Style, chain, sign, weight_maker

WEIGHTS = ("binary", "ternary", "nbit", "float")
EPS = 1e-6


class UnscaledDropout(nn.Dropout):
    """Dropout that leaves what it keeps as it is: -1 and +1 stay so."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [...]; result: float [...]."""
        return super().forward(x) * (1 - self.p) if self.training else x


@dataclass(frozen=True)
class _KerasStyle(Network):
    """weights: binary, ternary (with `threshold` 0.5, 0.05 or mean), nbit (with wbits and abits) or float."""

    weights: str = "binary"
    threshold: str = "0.5"
    wbits: int = 4
    abits: int = 4

    @property
    def w_bits(self) -> int:
        """1, 2 for ternary, wbits for nbit, 32 for float."""
        return {"binary": 1, "ternary": 2, "nbit": self.wbits}.get(self.weights, FLOAT_BITS)

    @property
    def a_bits(self) -> int:
        """1, 2 for ternary, abits for nbit, 32 for float."""
        return {"binary": 1, "ternary": 2, "nbit": self.abits}.get(self.weights, FLOAT_BITS)

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        self.check_choice("weights", WEIGHTS)
        self.check_choice("threshold", THRESHOLDS)
        if self.weights == "nbit":
            self.check_bits("wbits", 2, remedy="for 1 bit set weights=binary")
            self.check_bits("abits", 2, remedy="the formula of 1 bit is constant zero: for 1 bit set weights=binary")

    def baseline(self) -> Network:
        """Float weights and ReLU."""
        return replace(self, weights="float")

    def style(self) -> Style:
        """The layers that the parameters ask for."""
        if self.weights == "nbit":
            return Style(lambda: QActivation(quantizer=MoonsReLU(self.abits)), partial(MoonsWeight, self.wbits), EPS)
        weight = weight_maker(self.weights, threshold=self.threshold)
        if self.weights == "ternary":
            return Style(lambda: QActivation(quantizer=Ternarize()), weight, EPS)
        return Style(sign if self.weights == "binary" else nn.ReLU, weight, EPS)


@dataclass(frozen=True)
class KerasMlp(_KerasStyle):
    """Dropout, `layers` times (dense `hidden`, BatchNorm, activation, dropout), dense, BatchNorm. MNIST 97.9 %."""

    name: ClassVar[str] = "keras_mlp"
    hidden: int = 2048
    layers: int = 3
    dropout_in: float = 0.2
    dropout_hidden: float = 0.5

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        super().check()
        self.check_at_least(1, "hidden", "layers")
        self.check_share("dropout_in", "dropout_hidden")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes)
        style = self.style()
        hidden = style.hidden_layers(prod(shape), self.hidden, self.layers, lambda: _dropout(self.dropout_hidden))
        entrance = [*style.entrance(), nn.Flatten(), *_dropout(self.dropout_in)]
        return chain([*entrance, *hidden, style.linear(self.hidden, classes), style.norm(classes)])


@dataclass(frozen=True)
class KerasCnn(_KerasStyle):
    """width-width-P-2width-2width-P convolutions 3x3, hidden, classes; P before BatchNorm. MNIST 98.98 %."""

    name: ClassVar[str] = "keras_cnn"
    width: int = 128
    hidden: int = 1024

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        super().check()
        self.check_at_least(1, "width", "hidden")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes, least=4)
        style = self.style()
        layers = style.entrance()
        channels, height, width = shape
        for factor, pools in ((1, False), (1, True), (2, False), (2, True)):
            outputs = factor * self.width
            pool = [nn.MaxPool2d(2)] if pools else []
            layers += [style.conv(channels, outputs), *pool, style.image_norm(outputs), style.activation()]
            channels = outputs
        inputs = channels * (height // 4) * (width // 4)
        layers += [nn.Flatten(), style.linear(inputs, self.hidden), style.norm(self.hidden), style.activation()]
        return chain([*layers, style.linear(self.hidden, classes), style.norm(classes)])


def _dropout(share: float) -> list[nn.Module]:
    return [UnscaledDropout(share)] if share else []
