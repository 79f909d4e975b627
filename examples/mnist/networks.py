"""The two networks: a LeNet and a three-layer perceptron, every weight and every inner activation binary.

The input is k / 128 - 1 for an 8-bit pixel k, exact in float32. Weights are -1 and +1, so every sum of the first
layer is an integer times 2**-7 below 2**24 in magnitude, every later sum an integer: exact in any order. What is left
in floating point is one BatchNorm per layer, which decides a sign; a compiler can prove those decisions on all
attainable sums and reproduce them bit for bit.
"""

from __future__ import annotations

from torch import nn

from examples.binary_layers import BinaryConv2d, BinaryLinear, Sign


def lenet() -> nn.Sequential:
    """5x5 x 32, pool, 5x5 x 64, pool, 512, 10; input float32 [N, 1, 28, 28]."""
    return nn.Sequential(
        BinaryConv2d(1, 32, 5), nn.MaxPool2d(2), nn.BatchNorm2d(32), Sign(),
        BinaryConv2d(32, 64, 5), nn.MaxPool2d(2), nn.BatchNorm2d(64), Sign(), nn.Flatten(),
        BinaryLinear(1024, 512), nn.BatchNorm1d(512), Sign(),
        BinaryLinear(512, 10), nn.BatchNorm1d(10),
    )  # fmt: skip


def mlp(width: int = 1024) -> nn.Sequential:
    """Three binary hidden layers of `width` units; input float32 [N, 1, 28, 28]."""
    return nn.Sequential(
        nn.Flatten(),
        BinaryLinear(784, width), nn.BatchNorm1d(width), Sign(),
        BinaryLinear(width, width), nn.BatchNorm1d(width), Sign(),
        BinaryLinear(width, width), nn.BatchNorm1d(width), Sign(),
        BinaryLinear(width, 10), nn.BatchNorm1d(10),
    )  # fmt: skip


NETWORKS = {"lenet": lenet, "mlp": mlp}
