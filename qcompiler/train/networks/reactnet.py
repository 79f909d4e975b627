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
from qcompiler.train.networks.bireal import Shortcuts18


@dataclass(frozen=True)
class ReActNet18(Shortcuts18):
    """`binary` off: ReLU in the sign's place, and real weights."""

    name: ClassVar[str] = "reactnet18"

    def block(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        """A layer and its shortcut."""
        return _Block(self.binary, inputs, outputs, stride)


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
