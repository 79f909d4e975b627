"""Blocks of networks for images, small."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.architectures.layers import Layers


class DenseNet(nn.Module):
    """Two dense layers and a transition."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.grow = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(16 + 12 * i), make.act(), make.conv(16 + 12 * i, 12, 3)) for i in range(2)
        )
        self.transition = nn.Sequential(nn.BatchNorm2d(40), make.act(), make.conv(40, 20), nn.AvgPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.grow:
            x = torch.cat([x, layer(x)], 1)
        return self.transition(x)


class SqueezeExcite(nn.Module):
    """Channels gated by their means, through linear layers."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.body = make.unit(3, 32, 3)
        self.gate = nn.Sequential(nn.Linear(32, 8), nn.ReLU(), make.linear(8, 32), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        gate = self.gate(x.mean((2, 3)))
        return x * gate.view(x.shape[0], -1, 1, 1)


class EfficientAttention(nn.Module):
    """ECA: a 1-D convolution along the channels' means."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.body = make.unit(3, 24, 3)
        self.across = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.head = make.conv(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        gate = functional.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)
        gate = self.across(gate).transpose(-1, -2).unsqueeze(-1)
        return self.head(x * torch.sigmoid(gate).expand_as(x))


class AtrousPyramid(nn.Module):
    """ASPP: dilated branches and an image-wide one, joined."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.branches = nn.ModuleList([make.unit(16, 12), *(make.unit(16, 12, 3, dilation=d) for d in (2, 3))])
        self.wide = make.unit(16, 12)
        self.project = make.conv(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        wide = self.wide(functional.adaptive_avg_pool2d(x, 1))
        wide = functional.interpolate(wide, size=x.shape[2:], mode="nearest")
        return self.project(torch.cat([*(branch(x) for branch in self.branches), wide], 1))


class UNet(nn.Module):
    """Two levels down and up, with skips."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.down = nn.ModuleList([make.unit(3, 16, 3), make.unit(16, 32, 3)])
        self.middle = make.unit(32, 32, 3)
        self.rise = nn.ConvTranspose2d(24, 16, 2, stride=2)
        self.up = nn.ModuleList([make.unit(64, 24, 3), make.unit(32, 8, 3)])

    def forward(self, x: Tensor) -> Tensor:
        first = self.down[0](x)
        second = self.down[1](functional.max_pool2d(first, 2))
        deep = functional.interpolate(self.middle(functional.max_pool2d(second, 2)), scale_factor=2.0)
        risen = self.rise(self.up[0](torch.cat([second, deep], 1)))
        return self.up[1](torch.cat([first, risen], 1))


class FeaturePyramid(nn.Module):
    """FPN: lateral 1x1 convolutions added to what comes from above; three outputs."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.levels = nn.ModuleList([make.unit(3, 8, 3), make.unit(8, 16, 3, stride=2), make.unit(16, 32, 3, stride=2)])
        self.lateral = nn.ModuleList(nn.Sequential(make.conv(c, 16), nn.BatchNorm2d(16)) for c in (8, 16, 32))
        self.smooth = nn.ModuleList(make.conv(16, 16, 3) for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        merged = self.lateral[2](features[2])
        results = [self.smooth[2](merged)]
        for index in (1, 0):
            merged = self.lateral[index](features[index]) + functional.interpolate(merged, scale_factor=2.0)
            results.append(self.smooth[index](merged))
        return results


class Shuffle(nn.Module):
    """ShuffleNet's unit: half of the channels pass by, then all are shuffled; and grouped convolutions."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.stem = make.unit(3, 24, 3)
        self.branch = nn.Sequential(make.unit(12, 12), nn.Conv2d(12, 12, 3, padding=1, groups=12), make.unit(12, 12))
        self.grouped = make.conv(24, 24, 3, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, 1)
        x = torch.cat([left, self.branch(right)], 1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        return self.grouped(x)


class Ghost(nn.Module):
    """Half of the channels by a convolution, the others by a cheap depthwise one from them."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.primary = make.unit(3, 16, 3)
        self.cheap = make.unit(16, 16, 3, groups=16)
        self.head = make.conv(30, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(x)
        return self.head(torch.cat([x, self.cheap(x)], 1)[:, :30])


class InvertedResidual(nn.Module):
    """MobileNetV3: expand, depthwise with hard swish, gate, project, add."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.expand = nn.Sequential(make.conv(16, 40), nn.BatchNorm2d(40), nn.Hardswish())
        self.spread = nn.Sequential(make.conv(40, 40, 5, groups=40), nn.BatchNorm2d(40), nn.Hardswish())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(40, 10, 1), nn.ReLU(), nn.Conv2d(10, 40, 1), nn.Hardsigmoid()
        )
        self.project = nn.Sequential(make.conv(40, 16), nn.BatchNorm2d(16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.spread(self.expand(x))
        return x + self.project(y * self.gate(y))


class Res2Net(nn.Module):
    """Groups of channels that feed one another."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.stem = make.unit(3, 32, 3)
        self.steps = nn.ModuleList(make.unit(8, 8, 3) for _ in range(3))
        self.merge = make.conv(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        parts = list(torch.split(x, 8, 1))
        results, last = [parts[0]], torch.zeros_like(parts[0])
        for step, part in zip(self.steps, parts[1:], strict=True):
            last = step(part + last)
            results.append(last)
        return x + self.merge(torch.cat(results, 1))


class Inception(nn.Module):
    """Four branches: 1x1, 3x3, 5x5 as two asymmetric ones, pool."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 20, 3, padding=1)
        self.one = make.unit(20, 7)
        self.three = nn.Sequential(make.unit(20, 9), make.unit(9, 11, 3))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), make.unit(20, 5))
        self.mean = nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), make.unit(20, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.cat([branch(x) for branch in (self.one, self.three, self.pool, self.mean)], 1)


class ConvNext(nn.Module):
    """Depthwise 7x7, LayerNorm over channels last, two linear layers with GELU, a scaled residual."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 2, stride=2)
        self.depthwise = make.conv(16, 16, 7, groups=16)
        self.norm = nn.LayerNorm(16)
        self.wide, self.narrow = make.linear(16, 48), make.linear(48, 16)
        self.scale = nn.Parameter(torch.full((16,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(functional.gelu(self.wide(y)))
        return x + y.permute(0, 3, 1, 2)


class Cbam(nn.Module):
    """Attention over channels, by means and maxima through one network, then over places."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.body = make.unit(3, 16, 3)
        self.channels = nn.Sequential(nn.Conv2d(16, 4, 1), nn.ReLU(), make.conv(4, 16))
        self.places = make.conv(2, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        means, maxima = functional.adaptive_avg_pool2d(x, 1), functional.adaptive_max_pool2d(x, 1)
        x = x * torch.sigmoid(self.channels(means) + self.channels(maxima))
        across = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.places(across))


class RepVgg(nn.Module):
    """Three parallel branches, as they are trained: 3x3, 1x1 and BatchNormalization alone."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.stem = make.unit(3, 16, 3)
        self.three = nn.Sequential(make.conv(16, 16, 3), nn.BatchNorm2d(16))
        self.one = nn.Sequential(make.conv(16, 16), nn.BatchNorm2d(16))
        self.alone = nn.BatchNorm2d(16)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), make.linear(16, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(functional.relu(self.three(x) + self.one(x) + self.alone(x)))


class BiReal(nn.Module):
    """Two convolutions with shortcuts of their own, the second through a mean pool, as binary networks have them."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.first = nn.Sequential(make.conv(32, 32, 3), nn.BatchNorm2d(32))
        self.second = nn.Sequential(make.conv(32, 64, 3, stride=2), nn.BatchNorm2d(64), nn.PReLU(64))
        self.short = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(32, 64, 1), nn.BatchNorm2d(64))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.first(x)
        return self.short(x) + self.second(x)


class PixelShuffle(nn.Module):
    """ESPCN: a super-resolution head that spreads channels over pixels, and the way back."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.body = nn.Sequential(make.unit(3, 16, 5), make.unit(16, 12, 3))
        self.back = make.conv(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        large = functional.pixel_shuffle(self.body(x), 2)
        return self.back(functional.pixel_unshuffle(large, 2))


class NonLocal(nn.Module):
    """Every pixel attends to every other; matrix products of reshaped images."""

    def __init__(self, make: Layers) -> None:
        super().__init__()
        self.stem = make.unit(3, 16, 3, stride=2)
        self.query, self.key, self.value = (make.conv(16, 8) for _ in range(3))
        self.out = make.conv(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        batch, _, height, width = x.shape
        query = self.query(x).flatten(2).transpose(1, 2)
        scores = torch.softmax(query @ self.key(x).flatten(2) / 8, dim=-1)
        mixed = (scores @ self.value(x).flatten(2).transpose(1, 2)).transpose(1, 2)
        return x + self.out(mixed.reshape(batch, 8, height, width))
