"""ReActNet on the 18 layers of Bi-Real-Net. Liu et al., "ReActNet", 2020, and its PyTorch code.

A Bi-Real-Net whose signs move by a learned amount per channel (RSign), with a moving PReLU (RPReLU) behind every
shortcut. Where a block doubles the channels its shortcut is the 2x2 mean twice over, as the paper's MobileNet doubles
them, instead of a real 1x1 convolution: between the stem and the dense layer no convolution is real.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from qcompiler.nn import Binarize, QConv2d, RPReLU, RSign
from qcompiler.train.networks.bireal import stem
from qcompiler.train.networks.network import BinaryOrFloat, Shape


@dataclass(frozen=True)
class ReActNet18(BinaryOrFloat):
    """18 layers, `width` filters in the first. `binary` off: ReLU in the sign's place, and real weights.

    Images of up to 32 pixels enter as in `bireal18`.
    """

    name: ClassVar[str] = "reactnet18"
    width: int = 64

    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""
        self.check_at_least(1, "width")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""
        self.check_images(shape, classes, least=8)
        layers = stem(shape, self.width)
        inputs = self.width
        for stage in range(4):
            for block in range(4):
                outputs = self.width << stage
                layers.append(_Block(self.binary, inputs, outputs, stride=2 if stage and not block else 1))
                inputs = outputs
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class _Block(nn.Module):
    """RSign, 3x3 convolution, BatchNorm, plus the shortcut: the input, or its 2x2 mean twice; then RPReLU."""

    def __init__(self, binary: bool, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        weights = Binarize(scale="channel") if binary else nn.Identity()
        self.body = nn.Sequential(
            RSign(inputs) if binary else _ShiftedReLU(inputs),
            QConv2d(inputs, outputs, 3, stride, 1, bias=False, weight_quantizer=weights),
            nn.BatchNorm2d(outputs),
        )
        # rounded up like the strided convolution, where the image has an odd number of rows
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True) if stride != 1 else None
        self.activation = RPReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, H, W]; result: float [N, O, H', W']."""
        shortcut = x
        if self.pool is not None:
            mean = self.pool(x)
            shortcut = torch.cat([mean, mean], 1)
        return self.activation(self.body(x) + shortcut)


class _ShiftedReLU(nn.Module):
    """ReLU behind the learned shift of an RSign."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, H, W]; result: of the same shape."""
        return torch.relu(x - self.alpha.reshape(-1, 1, 1))
