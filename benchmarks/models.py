"""The measured networks: chains of equal layers, ResNet-18, and Bi-Real-Net-18, at any size.

Weights are random from a fixed seed: speed does not depend on them. Statistics of BatchNorm and quantization ranges
are taken from one forward pass over the input that is also the measured one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

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

    def signs(self, *shape: int) -> FloatArray:
        return np.where(self.random.standard_normal(shape) >= 0, np.float32(1), np.float32(-1))

    def normal(self, *shape: int) -> FloatArray:
        """He-initialised weights [O, ...]."""
        fan_in = int(np.prod(shape[1:]))
        weights: FloatArray = self.random.standard_normal(shape).astype(np.float32)
        return weights * np.float32(np.sqrt(2 / fan_in))

    def conv(self, source: str, out: int, kernel: int, stride: int = 1, relu: bool = False) -> str:
        weights = self.normal(out, self.channels(source), kernel, kernel)
        bias = (self.random.standard_normal(out) * 0.1).astype(np.float32)
        return self.add(Conv(source, self.fresh(), weights, bias, stride, kernel // 2, relu))

    def binary_conv(self, source: str, out: int, stride: int = 1) -> str:
        bits = self.add(Sign(source, self.fresh()))
        weights = self.signs(out, self.channels(bits), 3, 3)
        return self.add(Conv(bits, self.fresh(), weights, None, stride, 1, binary=True))

    def quantized_conv(self, source: str, out: int, w: int, a: int) -> str:
        """A layer of w-bit weights on a-bit activations of no sign, whose sums are exact: all are by powers of two."""
        largest, high = float(np.quantile(self.values[source], 0.99)), 2 ** (w - 1)
        scale = 2.0 ** np.ceil(np.log2(largest / (2**a - 1)))
        codes = self.add(Quantize(source, self.fresh(), scale, 2**a))
        shape = (out, self.channels(codes), 3, 3)
        integers = self.signs(*shape) if w == 1 else self.random.integers(-high, high, shape)
        unit = 2.0 ** -np.ceil(np.log2(high * np.sqrt(9 * out)))
        plain = Conv(codes, self.fresh(), (integers * unit).astype(np.float32), None, 1, 1)
        # so that about half of the sums are positive
        middle = evaluate_node(plain, self.values).mean((0, 2, 3)) / (scale * unit)
        return self.add(replace(plain, bias=(-np.rint(middle) * scale * unit).astype(np.float32), relu=True))

    def batch_norm(self, source: str) -> str:
        """Calibrated statistics, a fifth of the gammas negative."""
        value, channels = self.values[source], self.channels(source)
        gamma = self.random.uniform(0.3, 1.0, channels) * np.where(self.random.random(channels) < 0.2, -1, 1)
        beta = self.random.standard_normal(channels) * 0.3
        mean, variance = value.mean((0, 2, 3)), value.var((0, 2, 3)) + 1e-3
        single = [parameter.astype(np.float32) for parameter in (gamma, beta, mean, variance)]
        return self.add(BatchNorm(source, self.fresh(), single[0], single[1], single[2], single[3]))

    def dense(self, source: str, out: int) -> str:
        return self.add(Dense(source, self.fresh(), self.normal(out, self.channels(source))))

    def finish(self, name: str) -> Network:
        return Network(name, self.values["input"].shape, tuple(self.nodes))


def conv_chain(channels: int, size: int, repeats: int, binary: bool, seed: int = 1) -> Workload:
    """`repeats` 3x3 convolutions of equal channels; the input is -1/+1 if `binary`, else non-negative."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((1, channels, size, size)).astype(np.float32)
    sketch = _Sketch(np.where(x >= 0, np.float32(1), np.float32(-1)) if binary else np.abs(x), seed)
    for _ in range(repeats):
        if binary:
            sketch.binary_conv(sketch.last, channels)
        else:
            sketch.conv(sketch.last, channels, 3, relu=True)
    name = f"conv 3x3 C{channels} {size}x{size}"
    return Workload(name, sketch.finish(name), sketch.values["input"], repeats, 9 * (channels * size) ** 2)


def quantized_chain(channels: int, size: int, repeats: int, w: int, a: int, seed: int = 1) -> Workload:
    """`repeats` 3x3 convolutions of w-bit weights on a-bit activations, each with a ReLU behind it."""
    random = np.random.default_rng(seed)
    sketch = _Sketch(np.abs(random.standard_normal((1, channels, size, size)).astype(np.float32)), seed)
    for _ in range(repeats):
        sketch.quantized_conv(sketch.last, channels, w, a)
    name = f"conv 3x3 C{channels} {size}x{size} w{w}a{a}"
    return Workload(name, sketch.finish(name), sketch.values["input"], repeats, 9 * (channels * size) ** 2)


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


def birealnet18(size: int = 224, stem: bool = True, seed: int = 1) -> Workload:
    """Bi-Real-Net-18: float stem and shortcuts, a float stream with a residual around every binary convolution."""
    return _eighteen_layers("Bi-Real-Net-18", size, stem, binary=True, seed=seed)
