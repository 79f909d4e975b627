"""Layers of every width, drawn: weights, what they read, how they walk, what follows, and how the file says so.

All numbers are multiples of powers of two and all sums below 2^24, so that float32 gives one result in any order of
additions: it has to be equal to the bit. Where the file holds integer ops (QLinearConv, QLinearMatMul), scales are any
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from tests.fuzz.bodies import DOMAIN
from tests.fuzz.grid import Grid
from tests.fuzz.net import Array, Net, Value

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]

TERNARY = 0
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8)
FORMS = ("QONNX", "QDQ", "plain", "QOperator")
KINDS = (
    "conv2d", "conv1d", "grouped", "depthwise", "dilated", "strided", "pointwise", "transposed", "Gemm", "MatMul"
)  # fmt: skip
FOLLOWERS = ("float", "bias", "quantizer", "relu", "batch norm")
_CHANNELS = (3, 1, 5, 8, 17, 32, 33)
_MOST_SUM = 2**24


@dataclass(frozen=True)
class Layer:
    """One layer of the sweep.

    w: bits of the weights, TERNARY for -1, 0 and +1. a: bits of what it reads. a_zero, w_zero: zero points. narrow:
    without the code that has no opposite. spread: a scale for each output channel. size: of the image along each axis.
    again: whether another layer of the same weights reads the result.
    """

    w: int
    a: int
    signed: bool
    form: str
    kind: str
    follower: str
    a_zero: int
    w_zero: int
    narrow: bool
    spread: bool
    channels: int
    outputs: int
    batch: int
    size: int
    kernel: int
    result_bits: int
    again: bool
    seed: int

    @property
    def codes(self) -> tuple[int, int]:
        """The least and the largest code of what the layer reads."""
        return _codes(self.a, self.signed, self.narrow)

    @property
    def weights(self) -> tuple[int, int]:
        """The least and the largest number of the weights less their zero point."""
        if self.w == TERNARY:
            return -1, 1
        low, high = _codes(self.w, True, self.narrow)
        return low - self.w_zero, high - self.w_zero

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items())


def _codes(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    if signed:
        return -(2 ** (bits - 1)) + narrow * (bits > 1), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow * (bits > 1)


def drawn(choose: Choose[Any], w: int, a: int, signed: bool, seed: int) -> Layer:
    """A layer of these widths, everything else chosen; choose: one of some options, the simplest first."""
    form, narrow = choose(FORMS), choose((False, True))
    # there is no QLinearConvTranspose
    kind = choose(KINDS if form != "QOperator" else [each for each in KINDS if each != "transposed"])
    low, high = _codes(a, signed, narrow)
    zeros = [z for z in dict.fromkeys((0, 1, low, high, (low + high) // 2)) if low <= z <= high]
    # one bit with a sign is -1 and +1, which leaves no room for a zero point
    a_zero = 0 if a == 1 and signed or form == "plain" else choose(zeros)
    w_zero = choose((0, 1, *_codes(w, True, narrow))) if w > 1 and form != "plain" else 0
    return Layer(
        w=w,
        a=a,
        signed=signed,
        form=form,
        kind=kind,
        follower=choose(FOLLOWERS),
        a_zero=a_zero,
        w_zero=w_zero,
        narrow=narrow,
        spread=choose((False, True)),
        channels=choose(_CHANNELS),
        outputs=choose(_CHANNELS),
        batch=choose((1, 2)),
        size=choose((5, 1, 2, 7, 8)),
        kernel=choose((3, 1, 2)),
        result_bits=choose((4, 1, 2, 3, 5, 6, 7, 8)),
        again=choose((False, True, True)),
        seed=seed,
    )


def add(net: Net, layer: Layer) -> Value:
    """Add the layer, from an input of its own to an output."""
    made = _Made(net, layer)
    return made.on_integers() if layer.form == "QOperator" else made.in_floats()


@dataclass(frozen=True)
class _Weights:
    """Weights to be drawn: their shape, the axis of output channels, and the largest magnitude of what they read."""

    shape: tuple[int, ...]
    axis: int
    most: int

    @property
    def spread(self) -> list[int]:
        """The shape of a scale for each output channel."""
        return [-1 if axis == self.axis else 1 for axis in range(len(self.shape))]

    def largest_sum(self, integers: Array) -> float:
        """Of products, and a bias of as much, before a result is normalised."""
        axes = tuple(axis for axis in range(integers.ndim) if axis != self.axis)
        return float(np.abs(integers).sum(axis=axes).max()) * self.most * 4


class _Made:
    """A layer in the making."""

    def __init__(self, net: Net, layer: Layer) -> None:
        self._net, self._layer = net, layer
        self._random = np.random.default_rng([layer.seed, layer.w, layer.a])
        self._shape, weight_shape, self._settings = _geometry(layer)
        low, high = layer.codes
        most = 1 if layer.a == 1 else max(abs(low - layer.a_zero), abs(high - layer.a_zero))
        self._first = _Weights(weight_shape, _out_axis(layer), most)
        self._scale = float(self._random.choice([0.25, 0.5, 1, 2]))

    def in_floats(self) -> Value:
        """The layer as a product of floats that quantizers made."""
        x = self._activations(self._input())
        op = {"Gemm": "Gemm", "MatMul": "MatMul", "transposed": "ConvTranspose"}.get(self._layer.kind, "Conv")
        operands: list[Any] = [x, self._weights(self._first)]
        (product,) = self._net.node(op, *operands, *self._bias(op), **self._settings)
        result = self._followed(product)
        if self._layer.again and result != product:
            result = self._again(result)
        return self._kept(result)

    def _again(self, x: str) -> str:
        """Another layer of weights of the same width, which reads the codes of the first one."""
        shape, most = self._net.shape(x), 2**self._layer.result_bits
        if self._layer.kind == "MatMul":
            (name,) = self._net.node("MatMul", x, self._weights(_Weights((shape[-1], 3), 1, most)))
        elif self._layer.kind == "Gemm":
            (name,) = self._net.node("Gemm", x, self._weights(_Weights((shape[-1], 3), 1, most)))
        else:
            wanted = _Weights((3, shape[1], *[1] * (len(shape) - 2)), 0, most)
            (name,) = self._net.node("Conv", x, self._weights(wanted))
        return name

    # --- what the layer reads ---------------------------------------------------------------------------------------

    def _input(self) -> Value:
        """Quarters of steps, beyond both ends of the codes."""
        low, high = self._layer.codes
        most = max(abs(low - self._layer.a_zero), abs(high - self._layer.a_zero)) + 3
        return self._net.input(self._shape, Grid(self._scale / 4, most * self._scale))

    def _activations(self, x: Value) -> str:
        layer, scale = self._layer, np.float32(self._scale)
        if layer.a == 1 and layer.signed:
            return self._signs(x.name, scale)
        if layer.form == "QONNX":
            return self._quant(x.name, x.shape, scale, layer.a_zero, layer.a, layer.signed, layer.narrow)
        low, high = layer.codes
        if layer.form == "plain":
            return self._plain(x.name, scale, low, high)
        return self._pair(x.name, scale, layer.a_zero, low, high, layer.signed)

    def _signs(self, x: str, scale: np.float32) -> str:
        if self._layer.form == "QONNX":
            (name,) = self._net.node("BipolarQuant", x, scale, shape=self._net.shape(x), domain=DOMAIN)
            return name
        (positive,) = self._net.node("GreaterOrEqual", x, np.float32(0))
        (name,) = self._net.node("Where", positive, scale, -scale)
        return name

    def _quant(
        self, x: Any, shape: Sequence[int], scale: Array, zero: int, bits: int, signed: bool, narrow: bool
    ) -> str:
        operands = x, np.asarray(scale, np.float32), np.float32(zero), np.float32(bits)
        kind = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        (name,) = self._net.node("Quant", *operands, shape=shape, domain=DOMAIN, **kind)
        return name

    def _plain(self, x: str, scale: np.float32, low: int, high: int) -> str:
        (divided,) = self._net.node("Div", x, scale)
        (clipped,) = self._net.node("Clip", divided, np.float32(low), np.float32(high))
        (rounded,) = self._net.node("Round", clipped)
        (name,) = self._net.node("Mul", rounded, scale)
        return name

    def _pair(self, x: str, scale: np.float32, zero: int, low: int, high: int, signed: bool) -> str:
        kind = np.int8 if signed else np.uint8
        codes = self._narrowed(x, scale, kind(zero), low, high)
        (name,) = self._net.node("DequantizeLinear", codes, scale, kind(zero))
        return name

    def _narrowed(self, x: str, scale: np.float32, zero: Any, low: int, high: int) -> str:
        """Codes of eight bits, clipped to fewer."""
        (codes,) = self._net.node("QuantizeLinear", x, scale, zero)
        limits = np.iinfo(type(zero))
        if (low, high) == (limits.min, limits.max):
            return codes
        (codes,) = self._net.node("Clip", codes, type(zero)(low), type(zero)(high))
        return codes

    # --- weights ------------------------------------------------------------------------------------------------------

    def _integers(self, wanted: _Weights) -> Array:
        """Codes of weights less their zero point, with both ends among them; signs where they have one bit."""
        if self._layer.w == 1:
            return self._random.choice(np.float32([-1, 1]), wanted.shape)
        low, high = self._layer.weights
        found = self._random.integers(low, high + 1, wanted.shape).astype(np.float32)
        while wanted.largest_sum(found) >= _MOST_SUM:
            found *= self._random.random(wanted.shape) < 0.7
        found.flat[0], found.flat[-1] = low, high
        return found

    def _weights(self, wanted: _Weights) -> str:
        """The name of an operand of new weights."""
        layer, integers = self._layer, self._integers(wanted)
        scales = self._random.choice(np.float32([0.25, 0.5, 1]), wanted.shape[wanted.axis] if layer.spread else 1)
        spread = scales.reshape(wanted.spread if layer.spread else ())
        if layer.form == "plain":
            return self._net.constant(integers * spread)
        if layer.form == "QONNX":
            return self._latent(integers * spread, spread)
        stored, zeros = self._stored(integers, scales.size)
        operands = (scales, zeros) if layer.spread else (scales.reshape(()), zeros.reshape(()))
        settings = {"axis": wanted.axis} if layer.spread else {}
        (name,) = self._net.node("DequantizeLinear", stored, *operands, **settings)
        return name

    def _stored(self, integers: Array, count: int) -> tuple[Array, Array]:
        """Weights as int8, and their zero points, int8 [count]."""
        zero = self._layer.w_zero if self._layer.w > 1 else 0
        return (integers + zero).astype(np.int8), np.full(count, zero, np.int8)

    def _latent(self, numbers: Array, scale: Array) -> str:
        """Weights between the codes behind the quantizer that makes codes of them."""
        layer = self._layer
        if layer.w == 1:
            latent = (numbers * 0.75).astype(np.float32)
            (name,) = self._net.node("BipolarQuant", latent, scale, shape=latent.shape, domain=DOMAIN)
            return name
        latent = (numbers + np.sign(numbers) * scale / 4).astype(np.float32)
        bits, narrow = (2, True) if layer.w == TERNARY else (layer.w, layer.narrow)
        return self._quant(latent, latent.shape, scale, layer.w_zero * (layer.w > 1), bits, True, narrow)

    # --- what follows -------------------------------------------------------------------------------------------------

    def _bias(self, op: str) -> list[Array]:
        """Multiples of the steps of the sums; none where there is none."""
        if self._layer.follower != "bias" or op == "MatMul":
            return []
        return [(self._random.integers(-8, 9, self._outputs) * self._scale / 4).astype(np.float32)]

    @property
    def _outputs(self) -> int:
        return self._first.shape[self._first.axis]

    def _followed(self, product: str) -> str:
        layer = self._layer
        if layer.follower == "float":
            return product
        value, signed = product, layer.follower != "relu"
        if layer.follower == "batch norm" and layer.kind != "MatMul":
            value = self._normalised(product)
        if layer.follower == "relu":
            (value,) = self._net.node("Relu", product)
        low, high = _codes(layer.result_bits, signed, layer.narrow)
        scale = np.float32(self._scale * self._random.choice([1, 2, 4, 8]))
        if layer.result_bits == 1 and signed:
            return self._signs(value, scale)
        if layer.form == "QONNX":
            return self._quant(value, self._net.shape(value), scale, 0, layer.result_bits, signed, layer.narrow)
        if layer.form == "plain":
            return self._plain(value, scale, low, high)
        return self._pair(value, scale, 0, low, high, signed)

    def _normalised(self, product: str) -> str:
        """Any factors: onnxruntime's arithmetic is single operations, of which a search finds the thresholds."""
        count = self._net.shape(product)[1]
        gamma = self._random.normal(size=count) * (self._random.random(count) < 0.9)
        beta, mean = self._random.normal(size=(2, count)) * self._scale * 4
        variance = self._random.uniform(0.5, 4, count)
        operands = [each.astype(np.float32) for each in (gamma, beta, mean, variance)]
        (name,) = self._net.node("BatchNormalization", product, *operands)
        return name

    def _kept(self, name: str) -> Value:
        return self._net.end(name, self._net.shape(name), Grid(1.0, 1.0))

    # --- integer ops --------------------------------------------------------------------------------------------------

    def on_integers(self) -> Value:
        """QLinearConv or QLinearMatMul, once or twice, between a quantizer and its opposite; scales are any numbers."""
        layer = self._layer
        low, high = layer.codes if layer.a > 1 or not layer.signed else (-1, 0)
        kind = np.int8 if layer.signed else np.uint8
        scale = np.float32(self._random.uniform(0.01, 0.5))
        x = self._net.input(self._shape, Grid(0.125, (high - low + 3) * float(scale) + 0.125))
        ends = [self._narrowed(x.name, scale, kind(layer.a_zero), low, high), scale, kind(layer.a_zero)]
        has_bias = layer.follower == "bias" and layer.kind not in ("Gemm", "MatMul")
        bias = [self._random.integers(-50, 51, self._outputs).astype(np.int32)] * has_bias
        ends = self._qlinear(ends, self._first, bias, self._settings)
        if layer.again:
            shape = self._net.shape(ends[0])
            matrix = layer.kind in ("Gemm", "MatMul")
            wanted = (shape[-1], 3) if matrix else (3, shape[1], *[1] * (len(shape) - 2))
            ends = self._qlinear(ends, _Weights(wanted, int(matrix), 255), [], {})
        (name,) = self._net.node("DequantizeLinear", *ends)
        return self._kept(name)

    def _qlinear(self, ends: list[Any], wanted: _Weights, bias: list[Array], settings: dict[str, Any]) -> list[Any]:
        """A layer on codes, scale and zero point; those of its result."""
        layer, integers, kind = self._layer, self._integers(wanted), type(ends[2])
        count = wanted.shape[wanted.axis] if layer.spread else 1
        stored, zeros = self._stored(integers, count)
        scales = self._random.uniform(0.01, 0.2, count).astype(np.float32)
        weights = [stored, *(each if layer.spread else each.reshape(()) for each in (scales, zeros))]
        result = np.float32(float(ends[1]) * self._random.uniform(0.05, 0.5) * max(1.0, integers[0].size ** 0.5))
        zero = kind(self._random.integers(0, 4))
        op = "QLinearMatMul" if layer.kind in ("Gemm", "MatMul") else "QLinearConv"
        (made,) = self._net.node(op, *ends, *weights, result, zero, *bias, **settings)
        return [made, result, zero]


def _out_axis(layer: Layer) -> int:
    """The axis of the weights along which output channels lie."""
    return int(layer.kind in ("MatMul", "transposed") or (layer.kind == "Gemm" and not _is_turned(layer)))


def _is_turned(layer: Layer) -> bool:
    """Whether a Gemm takes its weights transposed."""
    return layer.seed % 2 == 1 and layer.form != "QOperator"


def _geometry(layer: Layer) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Shapes of the operand and of the weights, and the attributes of the node."""
    channels, outputs, kernel = layer.channels, layer.outputs, layer.kernel
    if layer.kind == "Gemm" and _is_turned(layer):
        return (layer.batch, channels * layer.size), (outputs, channels * layer.size), {"transB": 1}
    if layer.kind == "Gemm" or (layer.kind == "MatMul" and layer.size % 2):
        return (layer.batch, channels * layer.size), (channels * layer.size, outputs), {}
    if layer.kind == "MatMul":
        return (layer.batch, layer.size, channels), (channels, outputs), {}
    axes = 1 if layer.kind == "conv1d" else 2
    groups = {"grouped": 2, "depthwise": channels}.get(layer.kind, 1)
    if layer.kind == "grouped":
        channels, outputs = 2 * channels, 2 * outputs
    if layer.kind == "depthwise":
        outputs = channels * (1 + layer.outputs % 2)
    if layer.kind == "pointwise":
        kernel = 1
    size = layer.size
    settings: dict[str, Any] = {"kernel_shape": [kernel] * axes, "group": groups}
    if layer.kind == "transposed":
        settings["strides"] = [1 + layer.seed % 2] * axes
        return (layer.batch, channels, *[size] * axes), (channels, outputs, *[kernel] * axes), settings
    if layer.kind == "dilated":
        settings["dilations"] = [2] * axes
    if layer.kind == "strided":
        settings["strides"] = [2] * axes
    reach = (kernel - 1) * settings.get("dilations", [1])[0] + 1
    # as little padding as there must be, or one more
    pad = max(-(-(reach - size) // 2), 0) + layer.seed % 2
    settings["pads"] = [pad] * (2 * axes)
    return (layer.batch, channels, *[size] * axes), (outputs, channels // groups, *[kernel] * axes), settings
