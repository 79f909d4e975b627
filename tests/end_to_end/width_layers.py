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
    w_zero = choose((0, 1)) if w > 1 and form != "plain" else 0
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
        seed=seed,
    )


def add(net: Net, layer: Layer) -> Value:
    """Add the layer, from an input of its own to an output."""
    made = _Made(net, layer)
    return made.on_integers() if layer.form == "QOperator" else made.in_floats()


class _Made:
    """A layer in the making."""

    def __init__(self, net: Net, layer: Layer) -> None:
        self._net, self._layer = net, layer
        self._random = np.random.default_rng([layer.seed, layer.w, layer.a])
        self._shape, self._weight_shape, self._settings = _geometry(layer)
        self._out_axis = _out_axis(layer)
        self._scale = float(self._random.choice([0.25, 0.5, 1, 2]))

    def in_floats(self) -> Value:
        """The layer as a product of floats that quantizers made."""
        x = self._activations(self._input())
        weights, name = self._weights()
        op = {"Gemm": "Gemm", "MatMul": "MatMul", "transposed": "ConvTranspose"}.get(self._layer.kind, "Conv")
        operands: list[Any] = [x, name]
        if self._layer.follower == "bias" and op != "MatMul":
            operands.append(self._bias(weights))
        (product,) = self._net.node(op, *operands, **self._settings)
        return self._kept(self._followed(product))

    # --- what the layer reads ---------------------------------------------------------------------------------------

    def _input(self) -> Value:
        """Quarters of steps, beyond both ends of the codes."""
        low, high = self._layer.codes
        most = max(abs(low - self._layer.a_zero), abs(high - self._layer.a_zero)) + 3
        return self._net.input(self._shape, Grid(self._scale / 4, most * self._scale))

    def _activations(self, x: Value) -> str:
        layer, scale = self._layer, np.float32(self._scale)
        if layer.a == 1 and layer.signed:
            return self._signs(x)
        if layer.form == "QONNX":
            return self._quant(x.name, x.shape, scale, layer.a_zero, layer.a, layer.signed, layer.narrow)
        low, high = layer.codes
        if layer.form == "plain":
            return self._plain(x.name, scale, low, high)
        return self._pair(x.name, scale, layer.a_zero, low, high, layer.signed)

    def _signs(self, x: Value) -> str:
        if self._layer.form == "QONNX":
            (name,) = self._net.node("BipolarQuant", x, np.float32(self._scale), shape=x.shape, domain=DOMAIN)
            return name
        (positive,) = self._net.node("GreaterOrEqual", x, np.float32(0))
        (name,) = self._net.node("Where", positive, np.float32(self._scale), np.float32(-self._scale))
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

    def _integers(self) -> Array:
        """Codes of the weights less their zero point; signs where they have one bit."""
        layer = self._layer
        if layer.w == 1:
            return self._random.choice(np.float32([-1, 1]), self._weight_shape)
        low, high = layer.weights
        found = self._random.integers(low, high + 1, self._weight_shape)
        # the ends, and a channel of zeros, are rare otherwise
        found.flat[0], found.flat[-1] = low, high
        return found.astype(np.float32)

    def _weights(self) -> tuple[Array, str]:
        """The numbers of the weights, and the name of the operand."""
        layer, integers = self._layer, self._integers()
        while self._largest_sum(integers) >= _MOST_SUM:
            # both ends stay
            flat = integers.reshape(-1)
            flat[1:-1] *= self._random.random(flat.size - 2) < 0.7
        scales = self._random.choice(np.float32([0.25, 0.5, 1]), self._outputs if layer.spread else 1)
        spread = scales.reshape([-1 if axis == self._out_axis else 1 for axis in range(integers.ndim)])
        if not layer.spread:
            spread = scales.reshape(())
        numbers = integers * spread
        if layer.form == "plain":
            return numbers, self._net.constant(numbers)
        if layer.form == "QONNX":
            return numbers, self._latent(numbers, spread)
        stored = integers + layer.w_zero if layer.w > 1 else integers
        zeros = np.full(spread.size, layer.w_zero if layer.w > 1 else 0, np.int8)
        operands = (scales, zeros) if layer.spread else (scales.reshape(()), zeros.reshape(()))
        settings = {"axis": self._out_axis} if layer.spread else {}
        (name,) = self._net.node("DequantizeLinear", stored.astype(np.int8), *operands, **settings)
        return numbers, name

    def _latent(self, numbers: Array, scale: Array) -> str:
        """Weights between the codes behind the quantizer that makes codes of them."""
        layer = self._layer
        latent = (numbers * np.float32(0.75) if layer.w == 1 else numbers + np.sign(numbers) * scale / 4).astype(
            np.float32
        )
        if layer.w == 1:
            (name,) = self._net.node("BipolarQuant", latent, scale, shape=latent.shape, domain=DOMAIN)
            return name
        bits = 2 if layer.w == TERNARY else layer.w
        zero = layer.w_zero if layer.w != TERNARY else 0
        return self._quant(latent, latent.shape, scale, zero, bits, True, layer.narrow or layer.w == TERNARY)

    @property
    def _outputs(self) -> int:
        outputs = self._weight_shape[self._out_axis]
        return outputs * self._settings.get("group", 1) if self._layer.kind == "transposed" else outputs

    def _largest_sum(self, integers: Array) -> float:
        low, high = self._layer.codes
        most = 1 if self._layer.a == 1 else max(abs(low - self._layer.a_zero), abs(high - self._layer.a_zero))
        axes = tuple(axis for axis in range(integers.ndim) if axis != self._out_axis)
        # a bias of as much, and a result that is normalised
        return float(np.abs(integers).sum(axis=axes).max()) * most * 4

    # --- what follows -------------------------------------------------------------------------------------------------

    def _bias(self, weights: Array) -> Array:
        """Multiples of the steps of the sums."""
        return (self._random.integers(-8, 9, self._outputs) * self._scale / 4).astype(np.float32)

    def _followed(self, product: str) -> str:
        layer = self._layer
        if layer.follower in ("float", "bias"):
            return product
        value = product
        if layer.follower == "batch norm" and layer.kind not in ("MatMul",):
            value = self._normalised(product)
        if layer.follower == "relu":
            (value,) = self._net.node("Relu", product)
        signed = layer.follower != "relu"
        low, high = _codes(layer.result_bits, signed, layer.narrow)
        scale = np.float32(self._scale * self._random.choice([1, 2, 4, 8]))
        if layer.result_bits == 1 and signed:
            return self._plain(value, scale, -1, 1)
        if layer.form == "QONNX":
            shape = self._net.shape(value)
            return self._quant(value, shape, scale, 0, layer.result_bits, signed, layer.narrow)
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
        shape = self._net.shape(name)
        return self._net.end(name, shape, Grid(1.0, 1.0))

    # --- integer ops --------------------------------------------------------------------------------------------------

    def on_integers(self) -> Value:
        """QLinearConv or QLinearMatMul between a quantizer and its opposite; scales are any numbers."""
        layer = self._layer
        low, high = layer.codes if layer.a > 1 or not layer.signed else (-1, 0)
        kind = np.int8 if layer.signed else np.uint8
        scale, result = (np.float32(self._random.uniform(0.01, 0.5)) for _ in range(2))
        # quarters of the step are no quarters any more, and still end in the same code for all
        x = self._net.input(self._shape, Grid(0.125, (high - low + 3) * float(scale) + 0.125))
        codes = self._narrowed(x.name, scale, kind(layer.a_zero), low, high)
        integers = self._integers()
        stored = (integers + layer.w_zero if layer.w > 1 else integers).astype(np.int8)
        count = self._outputs if layer.spread else 1
        scales = self._random.uniform(0.01, 0.2, count).astype(np.float32)
        zeros = np.full(count, layer.w_zero if layer.w > 1 else 0, np.int8)
        weights = [stored, *(each if layer.spread else each.reshape(()) for each in (scales, zeros))]
        result *= np.float32(max(1.0, np.sqrt(integers[..., :1].size)))
        ends = [codes, scale, kind(layer.a_zero)], [result, kind(self._random.integers(0, 4))]
        if layer.kind in ("Gemm", "MatMul"):
            (made,) = self._net.node("QLinearMatMul", *ends[0], *weights, *ends[1])
        else:
            bias = [self._random.integers(-50, 51, self._outputs).astype(np.int32)] * (layer.follower == "bias")
            (made,) = self._net.node("QLinearConv", *ends[0], *weights, *ends[1], *bias, **self._settings)
        (name,) = self._net.node("DequantizeLinear", made, *ends[1])
        return self._kept(name)


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
