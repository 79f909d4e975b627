"""The perceptron of the from-scratch implementations: binary weights, ReLU, plain weight clipping.

In PyTorch: three hidden layers of 1024, BatchNorm and ReLU, a sigmoid on the scores under the cross-entropy. BatchNorm
in the sigmoid's place trains to a better accuracy, because scores of binary weights (sums of 1024 terms) saturate a
sigmoid. In Theano: three of 2048 with ReLU and without BatchNorm, dropout in the float twin only; .9372 on MNIST
against .9687 of the twin. Latent weights start as torch's do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from torch import nn

from qcompiler.train.networks.network import Network, Shape
from qcompiler.train.networks.style import Style, dropout, sign, weight_maker

WEIGHTS = {"binary": 1, "float": 32}
ACTIVATIONS = {"relu": 32, "sign": 1}
HEADS = ("sigmoid", "batchnorm")


@dataclass(frozen=True)
class ScratchMlp(Network):
    """`layers` times (dense `hidden`, BatchNorm, activation, dropout), dense, `head`.

    weights: binary or float; stochastic: binary weights are drawn while training; activation: relu or sign.
    baseline_dropout: that of the float twin, whose weights no rounding regularises; it has at least `dropout_hidden`.
    """

    name: ClassVar[str] = "scratch_mlp"
    weights: str = "binary"
    stochastic: bool = False
    activation: str = "relu"
    head: str = "sigmoid"
    hidden: int = 1024
    layers: int = 3
    dropout_hidden: float = 0.0
    baseline_dropout: float = 0.0

    @property
    def w_bits(self) -> int:
        """1, or 32 for float."""
        return WEIGHTS[self.weights]

    @property
    def a_bits(self) -> int:
        """32, or 1 for sign."""
        return ACTIVATIONS[self.activation]

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        self.check_choice("weights", WEIGHTS)
        self.check_choice("activation", ACTIVATIONS)
        self.check_choice("head", HEADS)
        self.check_at_least(1, "hidden", "layers")
        self.check_share("dropout_hidden", "baseline_dropout")
        if self.stochastic and self.weights == "float":
            raise self.refuse("stochastic", "false with float weights", "or set weights=binary")

    def baseline(self) -> Network:
        """Float weights and ReLU, with the dropout that is meant for them."""
        dropped = max(self.dropout_hidden, self.baseline_dropout)
        return replace(self, weights="float", activation="relu", stochastic=False, dropout_hidden=dropped)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes)
        activation = sign if self.activation == "sign" else nn.ReLU
        style = Style(activation, weight_maker(self.weights, stochastic=self.stochastic), eps=1e-5)
        hidden = style.hidden_layers(prod(shape), self.hidden, self.layers, lambda: dropout(self.dropout_hidden))
        head = nn.Sigmoid() if self.head == "sigmoid" else style.norm(classes)
        return nn.Sequential(*style.entrance(), nn.Flatten(), *hidden, style.linear(self.hidden, classes), head)
