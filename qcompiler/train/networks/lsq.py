"""ResNet-18 with learned step sizes. Esser et al., "Learned Step Size Quantization", 2020.

Pre-activation ResNet-18 as `resnet18` builds it, whose inner weights and activations are quantized in steps that are
learned with the weights, one for each tensor (`qcompiler.nn.LSQ` has the formulas). The first and the last layer are
real here; the paper quantizes them to 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from qcompiler.nn import LSQ, QActivation
from qcompiler.nn.grid import FLOAT_BITS
from qcompiler.train.networks.bmxnet import ResNet18


@dataclass(frozen=True)
class LsqResNet18(ResNet18):
    """w_bits, a_bits: widths of the inner layers, 2 to 16 and 1 to 16; 32 for float."""

    name: ClassVar[str] = "lsq_resnet18"
    w_bits: int = 2
    a_bits: int = 2

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        super().check()
        for field, least in (("w_bits", 2), ("a_bits", 1)):
            if getattr(self, field) != FLOAT_BITS:
                self.check_bits(field, least)

    def activation(self) -> nn.Module:
        """The activation before each inner convolution: the steps start from what ReLU leaves."""
        if self.a_bits == FLOAT_BITS:
            return nn.ReLU()
        return nn.Sequential(nn.ReLU(), QActivation(quantizer=LSQ(self.a_bits, signed=False)))

    def weight_quantizer(self) -> nn.Module:
        """What makes the weights of each inner convolution."""
        return nn.Identity() if self.w_bits == FLOAT_BITS else LSQ(self.w_bits)
