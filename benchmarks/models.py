"""The measured networks: chains of equal layers, ResNet-18, and Bi-Real-Net-18, at any size.

Weights are random from a fixed seed: speed does not depend on them. Statistics of BatchNorm and quantization ranges
are taken from one forward pass over the input that is also the measured one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from benchmarks.drawn import as_trained
from benchmarks.network import (
    Add,
    BatchNorm,
    Conv,
    Dense,
    FewBitDense,
    FloatArray,
    GlobalAverage,
    Network,
    Node,
    Pool,
    Quantize,
    Sign,
    evaluate_node,
)

# inputs that share a scale, as onnxruntime's quantizer has it
BLOCK = 32
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))

Width = int | Literal["ternary"]
"""Of weights: bits, or -1, 0 and +1."""


@dataclass(frozen=True)
class Workload:
    """A network, its input, and what one measured number stands for.

    repeats: equal layers in the chain; a measured time is divided by it. macs: multiply-adds of one layer.
    """

    name: str
    network: Network
    x: FloatArray
    repeats: int
    macs: int


class _Sketch:
    """A network under construction that knows the value of every tensor so far."""

    def __init__(self, x: FloatArray, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.values = {"input": x}
        self.nodes: list[Node] = []
        self.last = "input"

    def fresh(self) -> str:
        return f"t{len(self.nodes)}"

    def add(self, node: Node) -> str:
        self.nodes.append(node)
        self.values[node.output] = evaluate_node(node, self.values)
        self.last = node.output
        return self.last

    def channels(self, name: str) -> int:
        return int(self.values[name].shape[1])

    def grouped(self, source: str, depthwise: bool) -> tuple[int, int]:
        """Inputs of each weight of a convolution, and its groups."""
        channels = self.channels(source)
        return (1, channels) if depthwise else (channels, 1)

    def signs(self, *shape: int) -> FloatArray:
        return np.where(self.random.standard_normal(shape) >= 0, np.float32(1), np.float32(-1))

    def normal(self, *shape: int) -> FloatArray:
        """He-initialised weights [O, ...]."""
        fan_in = int(np.prod(shape[1:]))
        weights: FloatArray = self.random.standard_normal(shape).astype(np.float32)
        return weights * np.float32(np.sqrt(2 / fan_in))

    def conv(
        self, source: str, out: int, kernel: int, stride: int = 1, relu: bool = False, depthwise: bool = False
    ) -> str:
        inputs, groups = self.grouped(source, depthwise)
        weights = self.normal(out, inputs, kernel, kernel)
        bias = (self.random.standard_normal(out) * 0.1).astype(np.float32)
        if depthwise:
            # channels that nothing mixes would drift apart or die, and all share one range of 8 bits
            weights = np.abs(weights) / np.abs(weights).sum((1, 2, 3), keepdims=True)
        return self.add(Conv(source, self.fresh(), weights, bias, stride, kernel // 2, relu, groups=groups))

    def binary_conv(self, source: str, out: int, stride: int = 1, kernel: int = 3, depthwise: bool = False) -> str:
        bits = self.add(Sign(source, self.fresh()))
        inputs, groups = self.grouped(bits, depthwise)
        weights = self.signs(out, inputs, kernel, kernel)
        return self.add(Conv(bits, self.fresh(), weights, None, stride, kernel // 2, binary=True, groups=groups))

    def quantized(self, source: str, bits: int) -> str:
        """Codes of no sign, times a power of two."""
        largest = float(np.quantile(self.values[source], 0.99))
        return self.add(Quantize(source, self.fresh(), 2.0 ** np.ceil(np.log2(largest / (2**bits - 1))), 2**bits))

    def integers(self, width: Width, *shape: int) -> FloatArray:
        """Weights of few bits [O, ...] as integers, and what makes sums of them as large as their inputs."""
        if width == 1:
            return self.signs(*shape)
        high = 2 if width == "ternary" else 2 ** (width - 1)
        if width == 8:
            return as_trained(self.random, shape, -high, high - 1)
        return self.random.integers(1 - high if width == "ternary" else -high, high, shape).astype(np.float32)

    def quantized_conv(
        self, codes: str, out: int, width: Width, kernel: int = 3, stride: int = 1, relu: bool = True,
        depthwise: bool = False,
    ) -> str:  # fmt: skip
        """A layer of weights of few bits on codes, whose sums are exact: all scales are powers of two."""
        inputs, groups = self.grouped(codes, depthwise)
        weights = self.integers(width, out, inputs, kernel, kernel)
        plain = Conv(codes, self.fresh(), weights, None, stride, kernel // 2, groups=groups)
        sums = evaluate_node(plain, self.values)
        unit = np.float32(2.0 ** -np.rint(np.log2(sums.std())))
        # so that about half of the sums are positive
        middle = np.rint(sums.mean((0, 2, 3)) / self._scale(codes)) * self._scale(codes)
        return self.add(replace(plain, weights=weights * unit, bias=(-middle * unit).astype(np.float32), relu=relu))

    def quantized_dense(self, codes: str, out: int, width: Width) -> str:
        integers = self.integers(width, out, self.channels(codes))
        unit = 2.0 ** -np.ceil(np.log2(max(1.0, np.abs(integers).max()) * np.sqrt(self.channels(codes))))
        return self.add(Dense(codes, self.fresh(), (integers * unit).astype(np.float32)))

    def _scale(self, codes: str) -> float:
        """That of what a `Quantize` made, or a pool of it."""
        node = next(node for node in self.nodes if node.output == codes)
        if isinstance(node, Pool | GlobalAverage):
            return self._scale(node.source)
        assert isinstance(node, Quantize)
        return node.scale

    def batch_norm(self, source: str) -> str:
        """Calibrated statistics, a fifth of the gammas negative; of one pixel, those of all channels."""
        value, channels = self.values[source], self.channels(source)
        gamma = self.random.uniform(0.3, 1.0, channels) * np.where(self.random.random(channels) < 0.2, -1, 1)
        beta = self.random.standard_normal(channels) * 0.3
        axes = (0, 2, 3) if value.shape[2] * value.shape[3] > 1 else (0, 1, 2, 3)
        ones = np.ones(channels)
        mean, variance = value.mean(axes) * ones, (value.var(axes) + 1e-3) * ones
        single = [parameter.astype(np.float32) for parameter in (gamma, beta, mean, variance)]
        return self.add(BatchNorm(source, self.fresh(), single[0], single[1], single[2], single[3]))

    def dense(self, source: str, out: int) -> str:
        return self.add(Dense(source, self.fresh(), self.normal(out, self.channels(source))))

    def finish(self, name: str) -> Network:
        return Network(name, self.values["input"].shape, tuple(self.nodes))


@dataclass(frozen=True)
class Layer:
    """Equal layers behind each other: channels of an image of size x size; kernel; depthwise or not."""

    channels: int
    size: int
    kernel: int = 3
    depthwise: bool = False

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        inputs = 1 if self.depthwise else self.channels
        return self.kernel**2 * inputs * self.channels * self.size**2

    @property
    def title(self) -> str:
        """For tables."""
        kind = "depthwise" if self.depthwise else "conv"
        return f"{kind} {self.kernel}x{self.kernel}, C{self.channels}, {self.size}x{self.size}"

    def start(self, seed: int) -> FloatArray:
        """The input, as normally distributed numbers."""
        shape = (1, self.channels, self.size, self.size)
        return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv_chain(layer: Layer, repeats: int, binary: bool, seed: int = 1) -> Workload:
    """`repeats` equal convolutions; the input is -1/+1 if `binary`, else non-negative."""
    x = layer.start(seed)
    sketch = _Sketch(np.where(x >= 0, np.float32(1), np.float32(-1)) if binary else np.abs(x), seed)
    for _ in range(repeats):
        if binary:
            sketch.binary_conv(sketch.last, layer.channels, kernel=layer.kernel, depthwise=layer.depthwise)
        else:
            sketch.conv(sketch.last, layer.channels, layer.kernel, relu=True, depthwise=layer.depthwise)
    return Workload(layer.title, sketch.finish(layer.title), sketch.values["input"], repeats, layer.macs)


def quantized_chain(layer: Layer, repeats: int, w: Width, a: int, seed: int = 1) -> Workload:
    """`repeats` convolutions of w-bit weights on a-bit activations, each with a ReLU behind it."""
    sketch = _Sketch(np.abs(layer.start(seed)), seed)
    for _ in range(repeats):
        codes = sketch.quantized(sketch.last, a)
        sketch.quantized_conv(codes, layer.channels, w, layer.kernel, depthwise=layer.depthwise)
    name = f"{layer.title} w{w}a{a}"
    return Workload(name, sketch.finish(name), sketch.values["input"], repeats, layer.macs)


def quantized_product(rows: int, inner: int, columns: int, w: Width, a: int, seed: int = 1) -> Workload:
    """[rows, inner] of a-bit codes times [inner, columns] of w bits."""
    x = np.abs(np.random.default_rng(seed).standard_normal((rows, inner)).astype(np.float32))
    sketch = _Sketch(x, seed)
    sketch.quantized_dense(sketch.quantized("input", a), columns, w)
    name = f"product {rows}x{inner}x{columns} w{w}a{a}"
    return Workload(name, sketch.finish(name), x, 1, rows * inner * columns)


def product(rows: int, inner: int, columns: int, binary: bool, seed: int = 1) -> Workload:
    """[rows, inner] times [inner, columns]."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, inner)).astype(np.float32)
    sketch = _Sketch(np.where(x >= 0, np.float32(1), np.float32(-1)) if binary else np.abs(x), seed)
    if binary:
        bits = sketch.add(Sign("input", "bits"))
        sketch.add(Dense(bits, "y", sketch.signs(columns, inner), binary=True))
    else:
        sketch.dense("input", columns)
    name = f"FC {inner}x{columns}" if rows == 1 else f"matrix product {rows}x{inner}x{columns}"
    return Workload(name, sketch.finish(name), sketch.values["input"], 1, rows * inner * columns)


def few_bit_product(rows: int, size: int, bits: int, in_bytes: bool, seed: int = 1) -> Workload:
    """[rows, size] times [size, size] of few bits: in blocks of 32, or on bytes, in one block."""
    random = np.random.default_rng(seed)
    sketch = _Sketch(random.standard_normal((rows, size)).astype(np.float32), seed)
    codes = random.integers(0, 2**bits, (size, size), np.uint8)
    if bits == 1:
        # -1 and +1 of one bit, not -1 and 0
        codes *= 2
    scales = random.uniform(0.5, 1.0, (size, 1 if in_bytes else size // BLOCK)) / (2**bits * np.sqrt(size))
    sketch.add(FewBitDense("input", "y", codes, scales.astype(np.float32), bits, in_bytes))
    name = f"FC {size}x{size}, {rows} rows, w{bits}"
    return Workload(name, sketch.finish(name), sketch.values["input"], 1, rows * size * size)


def _resnet_block(sketch: _Sketch, source: str, channels: int, stride: int) -> str:
    inner = sketch.conv(source, channels, 3, stride, relu=True)
    outer = sketch.conv(inner, channels, 3)
    shortcut = source if stride == 1 else sketch.conv(source, channels, 1, stride)
    return sketch.add(Add(outer, shortcut, sketch.fresh(), relu=True))


def _bireal_half(sketch: _Sketch, source: str, channels: int, stride: int) -> str:
    main = sketch.batch_norm(sketch.binary_conv(source, channels, stride))
    shortcut = source
    if stride == 2:
        pooled = sketch.add(Pool("average", source, sketch.fresh(), 2, 2))
        weights = sketch.normal(channels, sketch.channels(pooled), 1, 1)
        shortcut = sketch.batch_norm(sketch.add(Conv(pooled, sketch.fresh(), weights)))
    return sketch.add(Add(main, shortcut, sketch.fresh()))


def _bireal_block(sketch: _Sketch, source: str, channels: int, stride: int) -> str:
    return _bireal_half(sketch, _bireal_half(sketch, source, channels, stride), channels, 1)


def _stem(sketch: _Sketch, relu: bool) -> None:
    sketch.conv("input", 64, 7, 2, relu)
    sketch.add(Pool("max", sketch.last, sketch.fresh(), 3, 2, 1))


def _eighteen_layers(name: str, size: int, stem: bool, binary: bool, seed: int) -> Workload:
    random = np.random.default_rng(seed)
    shape = (1, 3, size, size) if stem else (1, 64, size // 4, size // 4)
    sketch = _Sketch(random.standard_normal(shape).astype(np.float32), seed)
    if not stem and not binary:
        sketch.values["input"] = np.abs(sketch.values["input"])
    if stem:
        _stem(sketch, relu=not binary)
    block: Callable[[_Sketch, str, int, int], str] = _bireal_block if binary else _resnet_block
    for channels, stride in STAGES:
        block(sketch, sketch.last, channels, stride)
        block(sketch, sketch.last, channels, 1)
    sketch.dense(sketch.add(GlobalAverage(sketch.last, sketch.fresh())), 1000)
    name = name if stem else f"{name} without stem"
    return Workload(name, sketch.finish(name), sketch.values["input"], 1, 0)


def resnet18(size: int = 224, stem: bool = True, seed: int = 1) -> Workload:
    """ResNet-18 with BatchNorm folded into biases; without its stem the input is [1, 64, size / 4, size / 4]."""
    return _eighteen_layers("ResNet-18", size, stem, binary=False, seed=seed)


def binarynet_vgg(binary: bool, width: int = 128, hidden: int = 1024, size: int = 32, seed: int = 1) -> Workload:
    """BinaryNet's VGG on CIFAR-10's images: its first layer real, then signs before each layer, or ReLU behind each.

    Dense layers are convolutions over all that is left of the image.
    """
    sketch = _Sketch(np.random.default_rng(seed).standard_normal((1, 3, size, size)).astype(np.float32), seed)
    last = sketch.batch_norm(sketch.conv("input", width, 3, relu=not binary))
    left = size
    for channels, pools in ((1, True), (2, False), (2, True), (4, False), (4, True)):
        last = _vgg_layer(sketch, last, channels * width, 3, 1, binary)
        if pools:
            last, left = sketch.add(Pool("max", last, sketch.fresh(), 2, 2)), left // 2
        last = sketch.batch_norm(last)
    for outputs, kernel in ((hidden, left), (hidden, 1), (10, 1)):
        last = sketch.batch_norm(_vgg_layer(sketch, last, outputs, kernel, 0, binary))
    sketch.add(GlobalAverage(last, sketch.fresh()))
    name = f"VGG {'binary' if binary else 'real'}"
    return Workload(name, sketch.finish(name), sketch.values["input"], 1, _macs(sketch))


def _vgg_layer(sketch: _Sketch, source: str, out: int, kernel: int, pad: int, binary: bool) -> str:
    held = sketch.add(Sign(source, sketch.fresh())) if binary else source
    shape = (out, sketch.channels(held), kernel, kernel)
    weights = sketch.signs(*shape) if binary else sketch.normal(*shape)
    return sketch.add(Conv(held, sketch.fresh(), weights, None, 1, pad, relu=not binary, binary=binary))


def _macs(sketch: _Sketch) -> int:
    """Multiply-adds of the convolutions of an image."""
    layers = [node for node in sketch.nodes if isinstance(node, Conv)]
    return sum(node.weights.size * int(np.prod(sketch.values[node.output].shape[2:])) for node in layers)


def birealnet18(size: int = 224, stem: bool = True, seed: int = 1) -> Workload:
    """Bi-Real-Net-18: float stem and shortcuts, a float stream with a residual around every binary convolution."""
    return _eighteen_layers("Bi-Real-Net-18", size, stem, binary=True, seed=seed)


def quantized_resnet18(w: int, a: int, size: int = 224, seed: int = 1) -> Workload:
    """ResNet-18 of w-bit weights on a-bit activations; stem and last layer in 8 bits."""
    random = np.random.default_rng(seed)
    sketch = _Sketch(random.random((1, 3, size, size)).astype(np.float32), seed)
    stem = sketch.quantized_conv(sketch.quantized("input", 8), 64, 8, 7, 2)
    codes = sketch.add(Pool("max", sketch.quantized(stem, a), sketch.fresh(), 3, 2, 1))
    for channels, stride in STAGES:
        codes = _quantized_block(sketch, codes, channels, stride, w, a)
        codes = _quantized_block(sketch, codes, channels, 1, w, a)
    pooled = sketch.add(GlobalAverage(codes, sketch.fresh()))
    sketch.quantized_dense(sketch.quantized(pooled, 8), 1000, 8)
    return Workload("ResNet-18", sketch.finish("ResNet-18"), sketch.values["input"], 1, 0)


def _quantized_block(sketch: _Sketch, source: str, channels: int, stride: int, w: int, a: int) -> str:
    inner = sketch.quantized(sketch.quantized_conv(source, channels, w, 3, stride), a)
    outer = sketch.quantized_conv(inner, channels, w, relu=False)
    shortcut = source if stride == 1 else sketch.quantized_conv(source, channels, w, 1, stride, relu=False)
    return sketch.quantized(sketch.add(Add(outer, shortcut, sketch.fresh(), relu=True)), a)


# output channels and stride of MobileNet's separable layers
_SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def mobilenet_v1(size: int = 224, seed: int = 1) -> Workload:
    """MobileNet-V1 with BatchNorm folded into biases."""
    sketch = _Sketch(np.random.default_rng(seed).random((1, 3, size, size)).astype(np.float32), seed)
    last = sketch.conv("input", 32, 3, 2, relu=True)
    for channels, stride in _SEPARABLE:
        last = sketch.conv(last, sketch.channels(last), 3, stride, relu=True, depthwise=True)
        last = sketch.conv(last, channels, 1, relu=True)
    sketch.dense(sketch.add(GlobalAverage(last, sketch.fresh())), 1000)
    return Workload("MobileNet-V1", sketch.finish("MobileNet-V1"), sketch.values["input"], 1, 0)


def quantized_mobilenet_v1(w: int, a: int, size: int = 224, seed: int = 1) -> Workload:
    """MobileNet-V1 of w-bit weights on a-bit activations; first and last layer in 8 bits."""
    sketch = _Sketch(np.random.default_rng(seed).random((1, 3, size, size)).astype(np.float32), seed)
    last = sketch.quantized(sketch.quantized_conv(sketch.quantized("input", 8), 32, 8, 3, 2), a)
    for channels, stride in _SEPARABLE:
        wide = sketch.channels(last)
        last = sketch.quantized(sketch.quantized_conv(last, wide, w, 3, stride, depthwise=True), a)
        last = sketch.quantized(sketch.quantized_conv(last, channels, w, 1), a)
    pooled = sketch.add(GlobalAverage(last, sketch.fresh()))
    sketch.quantized_dense(sketch.quantized(pooled, 8), 1000, 8)
    return Workload("MobileNet-V1", sketch.finish("MobileNet-V1"), sketch.values["input"], 1, 0)


# expansion, output channels, repeats and first stride of MobileNet-V2's blocks
_INVERTED = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(size: int = 224, seed: int = 1) -> Workload:
    """MobileNet-V2 with BatchNorm folded into biases, and ReLU for ReLU6."""
    sketch = _Sketch(np.random.default_rng(seed).random((1, 3, size, size)).astype(np.float32), seed)
    last = sketch.conv("input", 32, 3, 2, relu=True)
    for expansion, channels, repeats, first in _INVERTED:
        for stride in (first, *[1] * (repeats - 1)):
            last = _inverted(sketch, last, expansion, channels, stride)
    last = sketch.conv(last, 1280, 1, relu=True)
    sketch.dense(sketch.add(GlobalAverage(last, sketch.fresh())), 1000)
    return Workload("MobileNet-V2", sketch.finish("MobileNet-V2"), sketch.values["input"], 1, 0)


def _inverted(sketch: _Sketch, source: str, expansion: int, channels: int, stride: int) -> str:
    given = sketch.channels(source)
    wide = source if expansion == 1 else sketch.conv(source, given * expansion, 1, relu=True)
    wide = sketch.conv(wide, given * expansion, 3, stride, relu=True, depthwise=True)
    narrow = sketch.conv(wide, channels, 1)
    return sketch.add(Add(narrow, source, sketch.fresh())) if (given, stride) == (channels, 1) else narrow
