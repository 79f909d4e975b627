"""Blocks of networks for sequences, sets and patches, small."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.architectures.layers import Layers


class SelfAttention(nn.Module):
    """A transformer's layer: heads, residuals, LayerNorm, two linear layers."""

    def __init__(self, make: Layers, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.project = make.linear(width, 3 * width)
        self.out = make.linear(width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed = nn.Sequential(make.linear(width, 2 * width), nn.GELU(), make.linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.project(self.first(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scores = torch.softmax(query @ key.transpose(-1, -2) * (width // self.heads) ** -0.5, dim=-1)
        x = x + self.out((scores @ value).transpose(1, 2).reshape(batch, length, width))
        return x + self.feed(self.second(x))


class Conformer(nn.Module):
    """Half a feed-forward step, attention, and the convolution module with its gate."""

    def __init__(self, make: Layers, width: int = 16) -> None:
        super().__init__()
        self.feed = nn.Sequential(nn.LayerNorm(width), make.linear(width, 32), nn.SiLU(), make.linear(32, width))
        self.attention = SelfAttention(make, width, 2)
        self.norm = nn.LayerNorm(width)
        self.widen = make.conv1d(width, 2 * width)
        self.depthwise = make.conv1d(width, width, 5, groups=width)
        self.batch_norm = nn.BatchNorm1d(width)
        self.narrow = make.conv1d(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x + 0.5 * self.feed(x))
        y = functional.glu(self.widen(self.norm(x).transpose(1, 2)), dim=1)
        y = self.narrow(functional.silu(self.batch_norm(self.depthwise(y))))
        return x + y.transpose(1, 2)


class TemporalConvolution(nn.Module):
    """TCN: causal dilated convolutions, padded on the left, with residuals."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.layers = nn.ModuleList(make.unit1d(16, 16, 3, dilation=d, padding=0) for d in (1, 2, 4))
        self.stem = nn.Conv1d(6, 16, 1)
        self.head = make.linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for index, layer in enumerate(self.layers):
            x = x + layer(functional.pad(x, (2 * 2**index, 0)))
        return self.head(x[:, :, -1])


class PointNet(nn.Module):
    """A set of points turned by a matrix computed from all of them; the maximum over the points."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.turn = nn.Sequential(make.unit1d(3, 16), make.unit1d(16, 32))
        self.matrix = nn.Linear(32, 9)
        self.points = nn.Sequential(make.unit1d(3, 33), make.unit1d(33, 40))
        self.head = nn.Sequential(make.linear(40, 16), nn.BatchNorm1d(16), make.act(), make.linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.matrix(self.turn(x).amax(-1)).view(-1, 3, 3) + torch.eye(3)
        turned = torch.bmm(x.transpose(2, 1), matrix).transpose(2, 1)
        return self.head(self.points(turned).amax(-1))


class Mixer(nn.Module):
    """MLP-Mixer: linear layers along the patches, then along the channels."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, stride=4)
        self.norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(2))
        self.tokens = nn.Sequential(make.linear(9, 20), nn.GELU(), make.linear(20, 9))
        self.channels = nn.Sequential(make.linear(24, 40), nn.GELU(), make.linear(40, 24))
        self.head = make.linear(24, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norms[1](x))
        return self.head(x.mean(1))


class GatedMlp(nn.Module):
    """gMLP: half of the channels gate the others after a product along the sequence."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(16), nn.LayerNorm(24)
        self.wide, self.narrow = make.linear(16, 48), make.linear(24, 16)
        self.along = make.conv1d(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        left, right = functional.gelu(self.wide(self.norm(x))).chunk(2, -1)
        return x + self.narrow(left * self.along(self.inner(right)))


class WaveUNet(nn.Module):
    """A U-Net of one dimension: decimation, interpolation, joined skips."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.down = nn.ModuleList([make.unit1d(1, 8, 5), make.unit1d(8, 16, 5)])
        self.middle = make.unit1d(16, 16, 5)
        self.up = nn.ModuleList([make.unit1d(32, 8, 5), make.unit1d(16, 4, 5)])
        self.head = nn.Conv1d(5, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down[0](x)
        second = self.down[1](first[:, :, ::2])
        deep = functional.interpolate(self.middle(functional.max_pool1d(second, 2)), scale_factor=2.0)
        risen = functional.interpolate(self.up[0](torch.cat([second, deep], 1)), scale_factor=2.0)
        return torch.tanh(self.head(torch.cat([x, self.up[1](torch.cat([first, risen], 1))], 1)))


class VisionTransformer(nn.Module):
    """Patches by a convolution, a class token, positions, one layer of attention."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 32))
        self.positions = nn.Parameter(torch.randn(1, 10, 32))
        self.layer = SelfAttention(make)
        self.norm, self.head = nn.LayerNorm(32), make.linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.layer(x))[:, 0])
