"""Graphs with quantizers of every dialect, written node by node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

QONNX, FINN, NNCF, CHANNELS_LAST = (
    "qonnx.custom_op.general",
    "finn.custom_op.general",
    "org.openvinotoolkit",
    "qonnx.custom_op.channels_last",
)
IMAGE, ROWS = (1, 3, 8, 8), (4, 64)


class Builder:
    """A graph under construction, from x."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.functions: list[onnx.FunctionProto] = []
        self.domains: dict[str, int] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._stored: list[onnx.TensorProto] = []

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self._stored)}"
        self._stored.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def packed(self, array: Any, kind: int) -> str:
        """A stored tensor of a type that numpy lacks."""
        name, array = f"c{len(self._stored)}", np.asarray(array)
        self._stored.append(helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist()))
        return name

    def normal(self, *shape: int) -> str:
        return self.constant(self.random.normal(size=shape))

    def integers(self, low: int, high: int, *shape: int, dtype: Any = np.float32) -> str:
        return self.constant(self.random.integers(low, high, shape), dtype)

    def op(self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> Any:
        number = len(self._nodes)
        names = [f"v{number}.{index}" for index in range(outputs)]
        node = helper.make_node(kind, inputs, names, name=f"{kind}_{number}", domain=domain, **attributes)
        self._nodes.append(node)
        if domain:
            self.domains.setdefault(domain, 1)
        return names[0] if outputs == 1 else names

    def conv(self, x: str, w: str, size: int = 3, **attributes: Any) -> str:
        return str(self.op("Conv", x, w, kernel_shape=[size] * 2, pads=[size // 2] * 4, **attributes))

    def quant(self, x: str, scale: Any, zero: Any, bits: Any, mode: str = "ROUND", **attributes: Any) -> str:
        """QONNX's quantizer; bits: a number, or the name of a value."""
        operands = self.constant(scale), self.constant(zero), bits if isinstance(bits, str) else self.constant(bits)
        settings = {"signed": 1, "narrow": 0, "rounding_mode": mode, **attributes}
        kind, domain = settings.pop("op", "Quant"), settings.pop("domain", QONNX)
        return str(self.op(kind, x, *operands, domain=domain, **settings))

    def fake(self, x: str, low: Any, high: Any, levels: int) -> str:
        limits = self.constant(low), self.constant(high)
        return str(self.op("FakeQuantize", x, *limits, *limits, domain=NNCF, levels=levels))

    def linear(self, x: str, *parameters: str, **attributes: Any) -> str:
        """QuantizeLinear, then DequantizeLinear."""
        return str(
            self.op(
                "DequantizeLinear", self.op("QuantizeLinear", x, *parameters, **attributes), *parameters, **attributes
            )
        )

    def thresholds(self, channels: int, levels: int, size: float) -> str:
        return self.constant(np.sort(self.random.uniform(-size, size, (channels, levels)).round(), 1))

    def model(self, y: str, shape: tuple[int, ...], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
        x = [helper.make_tensor_value_info("x", kind, shape)]
        result = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self._nodes, "graph", x, result, self._stored)
        opsets = [helper.make_opsetid(*each) for each in {"": 21, **self.domains}.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=self.functions)


def rounding(mode: str) -> onnx.ModelProto:
    b = Builder()
    scales = 0.3 * np.linspace(0.5, 1.5, 8).reshape(8, 1, 1, 1)
    y = b.conv(b.quant("x", 0.05, 0, 8, mode), b.quant(b.normal(8, 3, 3, 3), scales, 0, 4, narrow=1))
    y = b.quant(b.op("Relu", y), 0.31, 0, 4, mode, signed=0)
    return b.model(b.conv(y, b.quant(b.normal(6, 8, 3, 3), 0.4, 0, 3)), IMAGE)


def zero_points() -> onnx.ModelProto:
    b = Builder()
    x = b.quant("x", 0.05, 117, 8, signed=0, narrow=1)
    y = b.quant(b.conv(x, b.quant(b.normal(8, 3, 3, 3), 0.2, 7, 4, signed=0)), 0.4, 3, 4, signed=0)
    scales, zeros = np.linspace(0.1, 0.4, 8).reshape(8, 1, 1, 1), np.arange(8).reshape(8, 1, 1, 1)
    return b.model(b.conv(y, b.quant(b.normal(8, 8, 3, 3), scales, zeros, 4, signed=0)), IMAGE)


def scales_of_channels() -> onnx.ModelProto:
    """Before a depthwise convolution any, before others powers of two."""
    b = Builder()
    scales = np.linspace(0.2, 0.6, 8)
    y = b.op("Relu", b.conv(b.quant("x", 0.05, 0, 8), b.quant(b.normal(8, 3, 3, 3), 0.2, 0, 4)))
    y = b.quant(y, scales.reshape(1, 8, 1, 1), 0, 4, signed=0)
    y = b.op("Relu", b.conv(y, b.quant(b.normal(8, 1, 3, 3), scales.reshape(8, 1, 1, 1), 0, 4), group=8))
    y = b.quant(y, 2.0 ** np.array([-1, -2, 0, -1, -1, -2, -2, 0]).reshape(1, 8, 1, 1), 0, 4, signed=0)
    return b.model(b.conv(y, b.quant(b.normal(6, 8, 1, 1), 0.25, 0, 4), 1), IMAGE)


def computed_bits() -> onnx.ModelProto:
    b = Builder()
    four, also = b.op("Add", b.constant(2), b.constant(2)), b.op("Ceil", b.op("Log", b.constant(9)))
    y = b.op("Relu", b.conv(b.quant("x", 0.05, 0, 8), b.quant(b.normal(8, 3, 3, 3), 0.2, 0, four)))
    signs = b.op("BipolarQuant", b.normal(8, 8, 3, 3), b.constant(0.3), domain=QONNX)
    return b.model(b.conv(b.quant(y, 0.3, 0, also, signed=0), signs), IMAGE)


def one_bit() -> onnx.ModelProto:
    b = Builder()
    brevitas = {"op": "IntQuant", "domain": "onnx.brevitas"}
    y = b.conv(b.quant("x", 0.05, 0, 8, "round", **brevitas), b.quant(b.normal(8, 3, 3, 3), 0.2, 0, 1, **brevitas))
    return b.model(
        b.conv(b.quant(y, 0.5, 0, 1, **brevitas), b.quant(b.normal(8, 8, 3, 3), 0.2, 0, 1, **brevitas)), IMAGE
    )


def trunc(version: int) -> onnx.ModelProto:
    b = Builder()
    b.domains[QONNX] = version
    y = b.op("Relu", b.conv(b.quant("x", 0.05, 0, 8), b.quant(b.normal(8, 3, 3, 3), 0.25, 0, 4)))
    y = b.op("AveragePool", b.quant(y, 0.25, 0, 4, signed=0), kernel_shape=[2, 2], strides=[2, 2])
    y = b.op("Mul", y, b.constant(4))
    scale = [b.constant(1)] if version == 2 else []
    settings = {"signed": 0, "narrow": 0} if version == 2 else {}
    operands = y, b.constant(0.25), b.constant(0), b.constant(6), *scale, b.constant(4)
    y = b.op("Trunc", *operands, domain=QONNX, rounding_mode="FLOOR", **settings)
    return b.model(b.conv(y, b.quant(b.normal(6, 8, 3, 3), 0.25, 0, 4)), IMAGE)


def channels_last() -> onnx.ModelProto:
    b = Builder()
    window = {"domain": CHANNELS_LAST, "kernel_shape": [3, 3], "pads": [1] * 4, "strides": [1, 1], "group": 1}
    window["dilations"] = [1, 1]
    x = b.quant(b.op("Transpose", "x", perm=[0, 2, 3, 1]), 0.05, 0, 8)
    y = b.op("Conv", x, b.quant(b.normal(8, 3, 3, 3), 0.3, 0, 4), **window)
    statistics = [b.normal(8), b.normal(8), b.normal(8), b.constant(b.random.uniform(0.5, 2, 8))]
    y = b.op("BatchNormalization", y, *statistics, domain=CHANNELS_LAST, epsilon=1e-5)
    y = b.quant(b.op("Relu", y), 0.2, 0, 3, signed=0)
    y = b.op("MaxPool", y, domain=CHANNELS_LAST, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4)
    return b.model(b.op("Conv", y, b.quant(b.normal(6, 3, 3, 8), 0.3, 0, 2), **window), IMAGE)


def streamlined() -> onnx.ModelProto:
    """FINN: integer weights, thresholds of many levels, a bipolar one at the end."""
    b = Builder()
    first = b.constant(np.linspace(-1, 1, 255)[None])
    y = b.op("MultiThreshold", "x", first, domain=QONNX, out_dtype="INT8", out_bias=-128.0)
    y = b.conv(y, b.integers(-7, 8, 8, 3, 3, 3))
    y = b.conv(b.op("MultiThreshold", y, b.thresholds(8, 7, 1500), domain=QONNX), b.integers(-2, 2, 8, 8, 3, 3))
    bipolar = {"out_dtype": "BIPOLAR", "out_scale": 2.0, "out_bias": -1.0}
    y = b.op("Flatten", b.op("MultiThreshold", y, b.thresholds(8, 1, 30), domain=QONNX, **bipolar))
    y = b.op("MatMul", y, b.constant(b.random.choice([-1, 1], (512, 10))))
    return b.model(b.op("Add", b.op("Mul", y, b.constant(0.013)), b.normal(10)), IMAGE)


def xnor_popcount() -> onnx.ModelProto:
    b = Builder()
    y = b.op("MultiThreshold", "x", b.constant(np.zeros((1, 1))), domain=QONNX)
    y = b.op("XnorPopcountMatMul", y, b.integers(0, 2, 64, 33), domain=FINN)
    y = b.op("MultiThreshold", y, b.integers(25, 45, 33, 1), domain=QONNX)
    return b.model(b.op("XnorPopcountMatMul", y, b.integers(0, 2, 33, 10), domain=FINN), ROWS)


def nncf(levels: int, low: float, high: float) -> onnx.ModelProto:
    b = Builder()
    weights = b.fake(b.normal(8, 3, 3, 3), np.full((8, 1, 1, 1), -1), np.full((8, 1, 1, 1), 1), 255)
    y = b.conv(b.fake("x", -2, 2 * 127 / 128, 256), weights)
    y = b.fake(y if low < 0 else b.op("Relu", y), low, high, levels)
    return b.model(b.conv(y, b.fake(b.normal(6, 8, 3, 3), -1.5, 1.5, 15)), IMAGE)


def small_types() -> onnx.ModelProto:
    """QDQ in int4 and uint4, per channel, with zero points, a bias in int32, pools between the pairs."""
    b = Builder()
    dequantize = "DequantizeLinear"
    x = b.linear("x", b.constant(0.03), b.constant(3, np.int8))
    weights = b.packed(b.random.integers(-8, 8, (8, 3, 3, 3)), TensorProto.INT4)
    weights = b.op(dequantize, weights, b.constant(b.random.uniform(0.05, 0.2, 8)), axis=0)
    bias = b.op(dequantize, b.integers(-99, 99, 8, dtype=np.int32), b.constant(0.003))
    y = b.op("Relu", b.op("Conv", x, weights, bias, kernel_shape=[3, 3], pads=[1] * 4))
    parameters = b.constant(0.4), b.packed(0, TensorProto.UINT4)
    y = b.op("MaxPool", b.linear(y, *parameters), kernel_shape=[2, 2], strides=[2, 2])
    zeros = b.packed(b.random.integers(0, 16, 6), TensorProto.UINT4)
    weights = b.packed(b.random.integers(0, 16, (6, 8, 3, 3)), TensorProto.UINT4)
    weights = b.op(dequantize, weights, b.constant(b.random.uniform(0.05, 0.2, 6)), zeros, axis=0)
    return b.model(b.conv(b.linear(y, *parameters), weights), IMAGE)


def blocks() -> onnx.ModelProto:
    """QDQ with a scale for each block of weights, and parameters behind Identity and Cast."""
    b = Builder()
    zero = b.op("Cast", b.constant(128, np.int32), to=TensorProto.UINT8)
    x = b.linear("x", b.op("Identity", b.constant(0.03)), zero)
    weights = b.packed(b.random.integers(-8, 8, (64, 16)), TensorProto.INT4)
    scales = b.constant(b.random.uniform(0.05, 0.2, (2, 16)))
    y = b.op("MatMul", x, b.op("DequantizeLinear", weights, scales, axis=0, block_size=32))
    y = b.op("Relu", b.linear(y, b.constant(0.2), b.constant(-128, np.int8)))
    last = b.op("DequantizeLinear", b.integers(-128, 128, 16, 10, dtype=np.int8), b.constant(0.01))
    return b.model(b.op("MatMul", y, last), ROWS)


def dynamic() -> onnx.ModelProto:
    """DynamicQuantizeLinear and DequantizeLinear around products."""
    b, y = Builder(), "x"
    for shape, dtype, zero in (((64, 16), np.int8, 0), ((16, 10), np.uint8, 131)):
        codes = b.op("DynamicQuantizeLinear", y, outputs=3)
        limits = np.iinfo(dtype)
        weights = b.integers(limits.min, limits.max + 1, *shape, dtype=dtype)
        weights = b.op("DequantizeLinear", weights, b.constant(0.01), b.constant(zero, dtype))
        y = b.op("MatMul", b.op("DequantizeLinear", *codes), weights)
    return b.model(y, ROWS)


def live_weights() -> onnx.ModelProto:
    """QDQ of float weights, which stay in the file, transposed, and a Gemm."""
    b = Builder()
    x = b.linear("x", b.constant(0.03), b.constant(0, np.int8))
    parameters = b.constant(b.random.uniform(0.01, 0.02, 16)), b.constant(np.zeros(16), np.int8)
    weights = b.op("Transpose", b.linear(b.normal(16, 64), *parameters, axis=0), perm=[1, 0])
    y = b.op("Relu", b.op("Add", b.op("MatMul", x, weights), b.normal(16)))
    y = b.linear(y, b.constant(0.1), b.constant(0, np.uint8))
    last = b.op("DequantizeLinear", b.integers(-127, 128, 10, 16, dtype=np.int8), b.constant(0.01))
    return b.model(b.op("Gemm", y, last, b.normal(10), transB=1), ROWS)


def local_functions() -> onnx.ModelProto:
    """Quantizers and layers in functions of the file."""
    b, domain = Builder(), "my.quant"
    operands, opsets = ["x", "s", "lo", "hi"], [helper.make_opsetid("", 21), helper.make_opsetid(domain, 1)]
    steps = ("Div", "xs", "a"), ("Clip", ("a", "lo", "hi"), "b"), ("Round", "b", "c"), ("Mul", "cs", "y")
    body = [helper.make_node(kind, list(given), [result]) for kind, given, result in steps]
    b.functions.append(helper.make_function(domain, "FakeQuant", operands, ["y"], body, opsets[:1]))
    calls = [
        helper.make_node("FakeQuant", [value, f"s{value}", "lo", "hi"], [f"q{value}"], domain=domain) for value in "xw"
    ]
    layer = helper.make_node("Conv", ["qx", "qw"], ["y"], pads=[1] * 4, kernel_shape=[3, 3])
    given = ["x", "w", "sx", "sw", "lo", "hi"]
    b.functions.append(helper.make_function(domain, "QuantConv", given, ["y"], [*calls, layer], opsets))
    y, limits = "x", (b.constant(-8), b.constant(7))
    for weights in (b.normal(8, 3, 3, 3), b.normal(8, 8, 3, 3)):
        scales = b.constant(0.2), b.constant(0.3)
        y = b.op("Relu", b.op("QuantConv", y, weights, *scales, *limits, domain=domain))
    return b.model(y, IMAGE)


def normalised(colours: bool) -> onnx.ModelProto:
    """An image in bytes, normalised inside the network."""
    b = Builder()
    x = b.op("Div", b.op("Cast", "x", to=TensorProto.FLOAT), b.constant(255))
    means, deviations = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) if colours else ([0.5], [0.5])
    x = b.op("Sub", x, b.constant(np.reshape(means, (1, -1, 1, 1))))
    x = b.op("Div", x, b.constant(np.reshape(deviations, (1, -1, 1, 1))))
    return b.model(b.conv(x, b.quant(b.normal(8, 3, 3, 3), 0.2, 0, 8)), IMAGE, TensorProto.UINT8)


def gate() -> onnx.ModelProto:
    """The product of two quantized streams."""
    b = Builder()
    x = b.quant("x", 0.05, 0, 8)
    y = b.quant(b.op("Relu", b.conv(x, b.quant(b.normal(8, 3, 3, 3), 0.2, 0, 4))), 0.3, 0, 3, signed=0)
    z = b.op("Sigmoid", b.conv(x, b.quant(b.normal(8, 3, 1, 1), 0.2, 0, 4), 1))
    y = b.op("Mul", y, b.quant(z, 1 / 7, 0, 3, signed=0))
    return b.model(b.conv(y, b.quant(b.normal(6, 8, 3, 3), 0.2, 0, 4)), IMAGE)


def residual() -> onnx.ModelProto:
    """The difference of streams of different scales, quantized again."""
    b = Builder()
    x = b.quant("x", 0.05, 0, 8)
    y = b.quant(b.op("Relu", b.conv(x, b.quant(b.normal(8, 3, 3, 3), 0.2, 0, 4))), 0.3, 0, 3, signed=0)
    z = b.quant(b.conv(y, b.quant(b.normal(8, 8, 3, 3), 0.2, 0, 4)), 0.21, 0, 4)
    return b.model(b.conv(b.quant(b.op("Sub", z, y), 0.33, 0, 4), b.quant(b.normal(6, 8, 3, 3), 0.2, 0, 4)), IMAGE)


def bits_of_comparisons() -> onnx.ModelProto:
    """Codes 0 and 1 from comparisons, and signs made of them."""
    b = Builder()
    x = b.op("Cast", b.op("Greater", "x", b.constant(0)), to=TensorProto.FLOAT)
    y = b.op("GreaterOrEqual", b.conv(x, b.quant(b.normal(8, 3, 3, 3), 0.2, 0, 2)), b.constant(0.1))
    y = b.op("Sub", b.op("Mul", b.op("Cast", y, to=TensorProto.FLOAT), b.constant(2)), b.constant(1))
    return b.model(b.conv(y, b.op("BipolarQuant", b.normal(8, 8, 3, 3), b.constant(1), domain=QONNX)), IMAGE)


MODES = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
# the graph, its layers on integers, and its layers
GRAPHS: dict[str, tuple[Callable[[], onnx.ModelProto], int, int]] = {
    **{f"QONNX Quant, {mode}": (lambda mode=mode: rounding(mode), 2, 2) for mode in MODES},
    "QONNX Quant, zero points": (zero_points, 2, 2),
    "QONNX Quant, scales per channel": (scales_of_channels, 3, 3),
    "QONNX Quant, computed widths": (computed_bits, 2, 2),
    "QONNX IntQuant of one bit": (one_bit, 2, 2),
    "QONNX Trunc, version 1": (lambda: trunc(1), 2, 2),
    "QONNX Trunc, version 2": (lambda: trunc(2), 2, 2),
    "QONNX channels last": (channels_last, 2, 2),
    "FINN streamlined": (streamlined, 3, 3),
    "FINN XnorPopcountMatMul": (xnor_popcount, 2, 2),
    "NNCF, 256 levels from 0": (lambda: nncf(256, 0, 2.55), 2, 2),
    "NNCF, 16 levels from 0": (lambda: nncf(16, 0, 3), 2, 2),
    "NNCF, 255 levels around 0": (lambda: nncf(255, -1.27, 1.27), 2, 2),
    "NNCF, 256 levels around 0": (lambda: nncf(256, -1.28, 1.27), 2, 2),
    "QDQ, int4 and uint4": (small_types, 2, 2),
    "QDQ, blocks of weights": (blocks, 3, 3),
    "QDQ, dynamic": (dynamic, 2, 2),
    "QDQ, weights quantized in the file": (live_weights, 2, 2),
    "functions of the file": (local_functions, 2, 2),
    "image normalised inside": (lambda: normalised(False), 1, 1),
    "image normalised inside, per colour": (lambda: normalised(True), 3, 3),
    "product of streams": (gate, 3, 3),
    "difference of streams": (residual, 3, 3),
    "comparisons": (bits_of_comparisons, 2, 2),
}


def written(folder: Path, name: str) -> Path:
    path = folder / "graph.onnx"
    onnx.save(GRAPHS[name][0](), path)
    return path
