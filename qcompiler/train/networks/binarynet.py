"""BinaryNet's networks. Courbariaux et al., "Binarized Neural Networks", 2016, and its Theano code.

Every layer is binary, the first and the last too; the last is followed by BatchNorm. BatchNorm has epsilon 1e-4,
latent weights start uniform in [-1, 1]. The float network has `weights` float and `activation` relu.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from torch import nn

from qcompiler.train.networks.network import Network, Shape
from qcompiler.train.networks.style import THRESHOLDS, Style, chain, dropout, sign, weight_maker

WEIGHTS = {"binary": 1, "ternary": 2, "float": 32}
ACTIVATIONS = {"sign": 1, "relu": 32}


@dataclass(frozen=True)
class _BinaryNet(Network):
    """weights: binary, ternary (with `threshold` 0.5, 0.05 or mean) or float; activation: sign or relu.

    stochastic: binary weights are drawn while training, +1 with probability clip((w + 1) / 2, 0, 1).
    """

    weights: str = "binary"
    threshold: str = "0.5"
    activation: str = "sign"
    stochastic: bool = False

    @property
    def w_bits(self) -> int:
        """1, 2 for ternary, 32 for float."""
        return WEIGHTS[self.weights]

    @property
    def a_bits(self) -> int:
        """1, or 32 for relu."""
        return ACTIVATIONS[self.activation]

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        self.check_choice("weights", WEIGHTS)
        self.check_choice("activation", ACTIVATIONS)
        self.check_choice("threshold", THRESHOLDS)
        if self.stochastic and self.weights != "binary":
            raise self.refuse("stochastic", f"false with {self.weights} weights", "or set weights=binary")

    def baseline(self) -> Network:
        """Float weights and ReLU."""
        return replace(self, weights="float", activation="relu", stochastic=False)

    def style(self) -> Style:
        """The layers that the parameters ask for."""
        weight = weight_maker(self.weights, stochastic=self.stochastic, threshold=self.threshold)
        return Style(sign if self.activation == "sign" else nn.ReLU, weight)


@dataclass(frozen=True)
class BinaryNetMlp(_BinaryNet):
    """Dropout, `layers` times (dense `hidden`, BatchNorm, sign, dropout), dense, BatchNorm. MNIST error 0.96 %."""

    name: ClassVar[str] = "binarynet_mlp"
    hidden: int = 4096
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
        hidden = style.hidden_layers(prod(shape), self.hidden, self.layers, lambda: dropout(self.dropout_hidden))
        entrance = [*style.entrance(), nn.Flatten(), *dropout(self.dropout_in)]
        return chain([*entrance, *hidden, style.linear(self.hidden, classes), style.norm(classes)])


@dataclass(frozen=True)
class BinaryNetVgg(_BinaryNet):
    """width-width-P-2width-2width-P-4width-4width-P convolutions 3x3, hidden, hidden, classes.

    P is a 2x2 max-pool, before BatchNorm and sign. CIFAR-10 with 128: error 11.4 %; SVHN with 64: error 2.8 %.
    """

    name: ClassVar[str] = "binarynet_vgg"
    width: int = 128
    hidden: int = 1024

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        super().check()
        self.check_at_least(1, "width", "hidden")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes, least=8)
        style = self.style()
        layers = style.entrance()
        channels, height, width = shape
        for factor in (1, 2, 4):
            for pools in (False, True):
                outputs = factor * self.width
                pool = [nn.MaxPool2d(2)] if pools else []
                layers += [style.conv(channels, outputs), *pool, style.image_norm(outputs), style.activation()]
                channels = outputs
        layers.append(nn.Flatten())
        inputs = channels * (height // 8) * (width // 8)
        for _ in range(2):
            layers += [style.linear(inputs, self.hidden), style.norm(self.hidden), style.activation()]
            inputs = self.hidden
        return chain([*layers, style.linear(inputs, classes), style.norm(classes)])
