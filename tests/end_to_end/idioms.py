"""Networks as users of torch write quantizers, with the arithmetic of published methods, exported to ONNX."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Quantizer = Callable[[Tensor], Tensor]
Shape = tuple[int, ...]

IMAGE, IMAGE_LAST, ROWS = (1, 3, 8, 8), (1, 8, 8, 3), (1, 6, 32)


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def through(quantized: Tensor, x: Tensor) -> Tensor:
    """A straight-through estimator, as it stays in files."""
    return (quantized - x).detach() + x


def largest(w: Tensor) -> Tensor:
    return w.abs().amax((1, 2, 3), keepdim=True)


def average(w: Tensor) -> Tensor:
    return w.abs().mean(tuple(range(1, w.ndim)), keepdim=True)


class QuantConv(nn.Conv2d):
    """A convolution with a quantizer for weights, and one for its input."""

    def __init__(self, inputs: int, outputs: int, size: int, w: Quantizer, a: Quantizer | None = None, groups: int = 1):
        super().__init__(inputs, outputs, size, padding=size // 2, bias=False, groups=groups)
        self.w, self.a = w, a

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.a is None else self.a(x)
        return F.conv2d(x, self.w(self.weight), None, 1, self.padding, 1, self.groups)


class QuantLinear(nn.Linear):
    def __init__(self, inputs: int, outputs: int, w: Quantizer, a: Quantizer | None = None):
        super().__init__(inputs, outputs)
        self.w, self.a = w, a

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x if self.a is None else self.a(x), self.w(self.weight), self.bias)


class Act(nn.Module):
    def __init__(self, function: Quantizer):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def float_stem(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)


def dorefa(w_bits: int, a_bits: int) -> nn.Module:
    def weights(w: Tensor) -> Tensor:
        if w_bits == 1:
            return sign(w) * w.abs().mean()
        squashed, steps = torch.tanh(w), 2**w_bits - 1
        return 2 * (torch.round((squashed / (2 * squashed.abs().max()) + 0.5) * steps) / steps) - 1

    def act(x: Tensor) -> Tensor:
        return torch.round(torch.clamp(x, 0, 1) * (2**a_bits - 1)) / (2**a_bits - 1)

    first = nn.Sequential(*float_stem(8), Act(act), QuantConv(8, 16, 3, weights), nn.MaxPool2d(2))
    second = nn.Sequential(nn.BatchNorm2d(16), Act(act), QuantConv(16, 16, 3, weights), nn.BatchNorm2d(16), Act(act))
    return nn.Sequential(first, second, nn.Flatten(), QuantLinear(256, 10, weights))


class LearnedStep(nn.Module):
    """LSQ: a learned step, whose gradient is scaled by detaching."""

    def __init__(self, bits: int, signed: bool, init: float, channels: int = 0):
        super().__init__()
        self.low, self.high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        shape = (channels, 1, 1, 1) if channels else (1,)
        self.step = nn.Parameter(init * (1 + 0.3 * torch.rand(shape)))

    def forward(self, x: Tensor) -> Tensor:
        step = (self.step - self.step * 0.01).detach() + self.step * 0.01
        x = torch.clamp(x / step, self.low, self.high)
        return through(torch.round(x), x) * step


def lsq(bits: int, per_channel: bool) -> nn.Module:
    def conv(inputs: int, outputs: int, signed: bool = False) -> nn.Module:
        weights = LearnedStep(bits, True, 0.05, outputs if per_channel else 0)
        return QuantConv(inputs, outputs, 3, weights, LearnedStep(bits, signed, 0.15))

    head = QuantLinear(16, 10, LearnedStep(8, True, 0.01), LearnedStep(8, False, 0.02))
    body = [conv(3, 8, True), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 16), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


class Pact(nn.Module):
    """PACT as published, with absolute values, or with a minimum."""

    def __init__(self, bits: int, absolute: bool):
        super().__init__()
        self.alpha, self.steps, self.absolute = nn.Parameter(torch.tensor(2.3)), 2**bits - 1, absolute

    def forward(self, x: Tensor) -> Tensor:
        bounded = torch.minimum(F.relu(x), self.alpha)
        if self.absolute:
            bounded = 0.5 * (x.abs() - (x - self.alpha).abs() + self.alpha)
        return torch.round(bounded * self.steps / self.alpha) * self.alpha / self.steps


def sawb(bits: int) -> Quantizer:
    """Statistics-aware weight binning, PACT's weights."""

    def weights(w: Tensor) -> Tensor:
        alpha, steps = 3.2 * (w**2).mean().sqrt() - 2.1 * w.abs().mean(), 2**bits - 1
        return (torch.round((torch.clamp(w / alpha, -1, 1) + 1) / 2 * steps) / steps * 2 - 1) * alpha

    return weights


def staged(weights: Quantizer, act: Callable[[], nn.Module], head: Quantizer) -> nn.Module:
    """A float stem, two quantized convolutions and a quantized classifier."""
    body = [*float_stem(8), act(), QuantConv(8, 16, 3, weights), nn.BatchNorm2d(16), act()]
    body += [QuantConv(16, 16, 3, weights), nn.BatchNorm2d(16), act()]
    return nn.Sequential(*body, nn.Flatten(), QuantLinear(1024, 10, head))


def ternary(w: Tensor) -> Tensor:
    """Ternary weight networks: one magnitude for each output channel."""
    mask = (w.abs() > 0.7 * average(w)).float()
    alpha = (w.abs() * mask).sum((1, 2, 3), keepdim=True) / mask.sum((1, 2, 3), keepdim=True).clamp(min=1)
    return alpha * torch.sign(w) * mask


class BitLinear(nn.Linear):
    """BitNet b1.58: rows of activations to 8 bits by their largest, weights to -1, 0 and 1 by their mean."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x, x.shape[-1:])
        scale = 127.0 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
        codes = (x * scale).round().clamp(-128, 127)
        inverse = 1.0 / self.weight.abs().mean().clamp(min=1e-5)
        weights = (self.weight * inverse).round().clamp(-1, 1) / inverse
        return F.linear(through(codes / scale, x), through(weights, self.weight))


class BitBlock(nn.Module):
    def __init__(self, width: int = 32):
        super().__init__()
        self.up, self.down = BitLinear(width, 2 * width, bias=False), BitLinear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.relu(self.up(x)) ** 2)


def adabin() -> nn.Module:
    def weights(w: Tensor) -> Tensor:
        centre = w.mean((1, 2, 3), keepdim=True)
        spread = (w - centre).std((1, 2, 3), keepdim=True)
        return sign((w - centre) / spread) * spread + centre

    def act(x: Tensor) -> Tensor:
        return sign((x - 0.13) / 0.7) * 0.7 + 0.13

    body = [QuantConv(16, 16, 3, weights, act), nn.BatchNorm2d(16), QuantConv(16, 24, 3, weights, act)]
    return nn.Sequential(*float_stem(16), *body, nn.BatchNorm2d(24), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class ReAct(nn.Module):
    """ReActNet: shifted signs, shifted PReLU, a shortcut around each, doubled channels by two branches."""

    def __init__(self, channels: int = 16):
        super().__init__()
        shift = (1, channels, 1, 1)
        self.stem = nn.Sequential(*float_stem(channels))
        self.shifts = nn.ParameterList([nn.Parameter(0.2 * torch.randn(shift)) for _ in range(4)])
        self.convs = nn.ModuleList(
            [QuantConv(channels, channels, size, lambda w: sign(w) * average(w)) for size in (3, 1, 1)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels) for _ in range(3)])
        self.slope = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norms[0](self.convs[0](sign(x + self.shifts[0]))) + x
        x = self.slope(x + self.shifts[1]) + self.shifts[2]
        codes = sign(x + self.shifts[3])
        return torch.cat([self.norms[i](self.convs[i](codes)) + x for i in (1, 2)], 1)


class XnorConv(nn.Conv2d):
    """XNOR-Net with the map of magnitudes of its input."""

    def forward(self, x: Tensor) -> Tensor:
        box = torch.full((1, 1, 3, 3), 1 / 9.0)
        magnitudes = F.conv2d(x.abs().mean(1, keepdim=True), box, padding=1)
        return F.conv2d(sign(x), sign(self.weight), padding=1) * magnitudes * average(self.weight).reshape(1, -1, 1, 1)


def xnor() -> nn.Module:
    return nn.Sequential(*float_stem(16), XnorConv(16, 16, 3), nn.ReLU(), nn.BatchNorm2d(16), XnorConv(16, 8, 3))


def quantized_bits(x: Tensor, bits: int, whole: int = 0) -> Tensor:
    """QKeras: signed codes of `bits` bits, `whole` of them before the point."""
    scale = 2.0 ** (bits - 1 - whole)
    return torch.clamp(torch.round(x * scale), -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) / scale


def quantized_relu(x: Tensor) -> Tensor:
    return torch.clamp(torch.round(F.relu(x) * 4), 0, 15) / 4


def quantized_leaky(x: Tensor) -> Tensor:
    return torch.clamp(torch.round(torch.where(x >= 0, x, x * 0.125) * 4), -2, 15) / 4


def quantized_tanh(x: Tensor) -> Tensor:
    return torch.clamp(torch.round(torch.tanh(x) * 8) / 8, -1.0, 1 - 1 / 8)


def quantized_sigmoid(x: Tensor) -> Tensor:
    return torch.clamp(torch.round(torch.clamp(0.1875 * x + 0.5, 0, 1) * 8) / 8, 0.0, 1 - 1 / 8)


def power_of_two(w: Tensor) -> Tensor:
    scale = 2 ** torch.round(torch.log2(largest(w) / 7))
    return torch.clamp(torch.round(w / scale), -7, 7) * scale


class Keras(nn.Module):
    """QKeras layers; channels may be last, with the transposes that converters from Keras write."""

    def __init__(self, last: bool, act: Quantizer, weights: Quantizer = lambda w: quantized_bits(w, 4)):
        super().__init__()
        self.last, self.act, self.weights = last, act, weights
        shapes = (8, 3, 3, 3), (16, 8, 3, 3), (16, 1, 3, 3)
        self.kernels = nn.ParameterList([nn.Parameter(0.6 * torch.randn(shape)) for shape in shapes])
        self.biases = nn.ParameterList([nn.Parameter(0.3 * torch.randn(shape[0], 1, 1)) for shape in shapes])
        self.dense = nn.Parameter(0.3 * torch.randn(256, 10))

    def _first(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2) if self.last else x

    def _back(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1) if self.last else x

    def _layer(self, x: Tensor, index: int, groups: int = 1) -> Tensor:
        bias = quantized_bits(self.biases[index], 4)
        y = self._back(F.conv2d(self._first(x), self.weights(self.kernels[index]), None, 1, 1, 1, groups))
        return self.act(y + (bias.reshape(-1) if self.last else bias))

    def forward(self, x: Tensor) -> Tensor:
        x = self._layer(self._layer(quantized_bits(x, 8, 2), 0), 1)
        x = self._layer(self._back(F.max_pool2d(self._first(x), 2)), 2, 16)
        return torch.matmul(x.reshape(1, -1), quantized_bits(self.dense, 6))


class Larq(nn.Module):
    """larq: signs of shifted signs, padding with ones, batch norm behind a pool, channels last."""

    def __init__(self) -> None:
        super().__init__()
        shapes = (32, 3, 3, 3), (32, 32, 3, 3)
        self.kernels = nn.ParameterList([nn.Parameter(torch.randn(shape)) for shape in shapes])
        self.factor, self.shift = nn.Parameter(torch.randn(32)), nn.Parameter(torch.randn(32))
        self.dense = nn.Parameter(torch.randn(288, 10))

    @staticmethod
    def sign(x: Tensor) -> Tensor:
        return torch.sign(torch.sign(x) + 0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x.permute(0, 3, 1, 2), self.sign(self.kernels[0]), padding=1).permute(0, 2, 3, 1)
        codes = F.pad(self.sign(y * self.factor + self.shift), (0, 0, 1, 1, 1, 1), value=1.0)
        y = F.max_pool2d(F.conv2d(codes.permute(0, 3, 1, 2), self.sign(self.kernels[1])), 3, 2)
        codes = self.sign(y.permute(0, 2, 3, 1) * self.factor + self.shift)
        return torch.softmax(codes.reshape(1, -1) @ self.sign(self.dense), -1)


def asymmetric(bits: int) -> nn.Module:
    """Zero points on both sides, in plain arithmetic."""
    top = 2**bits - 1

    def weights(w: Tensor) -> Tensor:
        low, high = w.amin((1, 2, 3), keepdim=True), w.amax((1, 2, 3), keepdim=True)
        scale = (high - low) / top
        zero = torch.round(-low / scale)
        return (torch.clamp(torch.round(w / scale) + zero, 0, top) - zero) * scale

    def act(x: Tensor) -> Tensor:
        scale = 4.0 / 2**bits
        return (torch.clamp(torch.round(x / scale) + 3, 0, top) - 3) * scale

    body = [QuantConv(3, 8, 3, weights, act), nn.LeakyReLU(0.1), QuantConv(8, 8, 3, weights, act, 8), nn.Hardswish()]
    return nn.Sequential(*body, QuantConv(8, 16, 3, weights, act))


STREAMS: dict[str, tuple[int, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    # channels, and what lies between quantizers (a and c of one scale, b of another) and a layer
    "concat of two scales": (16, lambda a, b, c: torch.cat([a, b], 1)),
    "concat of one scale": (16, lambda a, b, c: torch.cat([a, c], 1)),
    "sum of one scale": (8, lambda a, b, c: a * 0.5 + c * 0.5),
    "product": (8, lambda a, b, c: a * b),
    "split": (4, lambda a, b, c: torch.chunk(a, 2, 1)[1]),
    "pixel shuffle": (2, lambda a, b, c: F.pixel_shuffle(a, 2)),
    "slice": (8, lambda a, b, c: a[:, :, 1:-1, ::2]),
    "upsampling": (8, lambda a, b, c: F.interpolate(a, scale_factor=2, mode="nearest")),
    "channel shuffle": (8, lambda a, b, c: a.reshape(1, 2, 4, 8, 8).transpose(1, 2).reshape(1, 8, 8, 8)),
    "gather": (5, lambda a, b, c: a[:, [0, 3, 2, 7, 5]]),
    "average pool": (8, lambda a, b, c: F.avg_pool2d(a, 2)),
    "padded average pool": (8, lambda a, b, c: F.avg_pool2d(a, 3, 2, 1)),
    "largest": (8, lambda a, b, c: F.adaptive_max_pool2d(a, 1).expand(1, 8, 4, 4)),
    "offset": (8, lambda a, b, c: a - 0.7),
    "roll": (8, lambda a, b, c: torch.roll(a, 1, 2)),
    "tile": (16, lambda a, b, c: a.repeat(1, 2, 1, 1)),
    "mask": (8, lambda a, b, c: torch.where(a > 0.3, a, torch.zeros(()))),
}


class Streams(nn.Module):
    def __init__(self, name: str):
        super().__init__()
        channels, self.between = STREAMS[name]
        self.a, self.b = LearnedStep(3, False, 0.2), LearnedStep(3, False, 0.13)
        w = [LearnedStep(4, True, 0.05) for _ in range(2)]
        self.first, self.second = QuantConv(3, 8, 3, w[0]), QuantConv(3, 8, 1, w[1])
        self.last = QuantConv(channels, 6, 3, LearnedStep(3, True, 0.1, 6))
        self.x = LearnedStep(8, True, 0.03)

    def forward(self, x: Tensor) -> Tensor:
        x = self.x(x)
        return self.last(self.between(self.a(self.first(x)), self.b(self.second(x)), self.a(self.second(x))))


def binary_head(w: Tensor) -> Tensor:
    return sign(w) * average(w)


IDIOMS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "DoReFa w2a2": (lambda: dorefa(2, 2), IMAGE),
    "DoReFa w1a2": (lambda: dorefa(1, 2), IMAGE),
    "DoReFa w4a3": (lambda: dorefa(4, 3), IMAGE),
    "LSQ w3a3": (lambda: lsq(3, False), IMAGE),
    "LSQ w4a4, per channel": (lambda: lsq(4, True), IMAGE),
    "LSQ w8a8, per channel": (lambda: lsq(8, True), IMAGE),
    "PACT and SAWB w4a4": (lambda: staged(sawb(4), lambda: Pact(4, True), sawb(4)), IMAGE),
    "PACT by a minimum, w2a2": (lambda: staged(sawb(2), lambda: Pact(2, False), sawb(2)), IMAGE),
    "TWN, binary head": (lambda: staged(ternary, lambda: Pact(2, False), binary_head), IMAGE),
    "BitNet b1.58": (BitBlock, ROWS),
    "AdaBin": (adabin, IMAGE),
    "ReActNet": (ReAct, IMAGE),
    "XNOR-Net": (xnor, IMAGE),
    "QKeras relu": (lambda: Keras(False, quantized_relu), IMAGE),
    "QKeras relu, channels last": (lambda: Keras(True, quantized_relu), IMAGE_LAST),
    "QKeras tanh, channels last": (lambda: Keras(True, quantized_tanh), IMAGE_LAST),
    "QKeras sigmoid, powers of two": (lambda: Keras(True, quantized_sigmoid, power_of_two), IMAGE_LAST),
    "QKeras leaky relu": (lambda: Keras(False, quantized_leaky), IMAGE),
    "QKeras binary": (lambda: Keras(True, sign), IMAGE_LAST),
    "QKeras bits": (lambda: Keras(False, lambda x: quantized_bits(x, 6, 2)), IMAGE),
    "larq, channels last": (Larq, IMAGE_LAST),
    "zero points w4a4": (lambda: asymmetric(4), IMAGE),
    "zero points w8a8": (lambda: asymmetric(8), IMAGE),
} | {f"stream: {name}": (lambda name=name: Streams(name), IMAGE) for name in STREAMS}


def settle(model: nn.Module, shape: Shape) -> None:
    """Give batch norms statistics, and factors of both signs."""
    norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, -1, 2)
        nn.init.normal_(norm.bias, 0, 0.5)
    with torch.no_grad():
        for _ in range(8 if norms else 0):
            model.train()(torch.randn(16, *shape[1:]))
    model.eval()


def exported(folder: Path, name: str, dynamo: bool = False) -> tuple[Path, dict[str, np.ndarray]]:
    """The file of a network, an input x and what torch makes of it, y."""
    torch.manual_seed(0)
    make, shape = IDIOMS[name]
    model, path, x = make(), folder / "idiom.onnx", torch.randn(shape)
    settle(model, shape)
    logging.disable(logging.WARNING)
    quiet = io.StringIO()
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(quiet):
        warnings.simplefilter("ignore")
        y = model(x)
        settings = {"external_data": False} if dynamo else {"opset_version": 17}
        torch.onnx.export(model, (x,), str(path), dynamo=dynamo, input_names=["x"], output_names=["y"], **settings)
    logging.disable(logging.NOTSET)
    return path, {"x": x.numpy(), "y": y.numpy()}
