"""QDQ networks of eight bits and fewer: verified on every variant, every layer on integers, none left to floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qcompiler
from qcompiler.errors import UnsupportedModel
from qcompiler.ir import oracle


class Network:
    """A graph that grows by quantized layers; the scale of a quantizer is 2**exponent of its name."""

    def __init__(self, *shape: int) -> None:
        self.generator = np.random.default_rng(sum(shape))
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, Any] = {}
        self.shape = shape

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{op}{len(self.nodes)}", **attributes))
        return output

    def constant(self, array: Any) -> str:
        name = f"c{len(self.stored)}"
        self.stored[name] = np.asarray(array)
        return name

    def quantize(self, value: str, scale: float, zero: int, dtype: type = np.uint8) -> str:
        parameters = [self.constant(np.float32(scale)), self.constant(dtype(zero))]
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [value, *parameters]), *parameters])

    def weights(self, *shape: int, low: int = -127, high: int = 127, axis: int = 0) -> str:
        scale = (self.generator.random(shape[axis]) * 0.01 + 0.001).astype(np.float32)
        integers = self.generator.integers(low, high + 1, shape).astype(np.int8)
        held = [self.constant(integers), self.constant(scale), self.constant(np.zeros(shape[axis], np.int8))]
        return self.node("DequantizeLinear", held, axis=axis)

    def conv(self, value: str, *shape: int, low: int = -127, high: int = 127, **attributes: Any) -> str:
        bias = self.constant(self.generator.standard_normal(shape[0]).astype(np.float32))
        return self.node("Conv", [value, self.weights(*shape, low=low, high=high), bias], **attributes)

    def saved(self, path: Path) -> Path:
        self.nodes[-1].output[0] = "y"
        x = [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)]
        stored = [numpy_helper.from_array(array, name) for name, array in self.stored.items()]
        graph = helper.make_graph(self.nodes, "g", x, [helper.make_empty_tensor_value_info("y")], stored)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
        return path


def wide_convolution(zero: int) -> Network:
    """Sums beyond 2**24: 4608 products of eight bits by eight."""
    net = Network(1, 512, 4, 5)
    hidden = net.conv(net.quantize("x", 0.03, zero), 24, 512, 3, 3, pads=[1, 1, 1, 1])
    net.quantize(net.node("Relu", [hidden]) if zero == 0 else hidden, 1.5, zero)
    return net


def wide_product() -> Network:
    net = Network(3, 4096)
    product = net.node("MatMul", [net.quantize("x", 0.02, 77), net.weights(4096, 20, axis=1)])
    net.quantize(product, 2.0, 120)
    return net


def inverted_residual() -> Network:
    """Pointwise, depthwise and pointwise again, a sum of two quantized streams, a pool and a matrix product."""
    net = Network(1, 16, 8, 8)
    stem = net.quantize("x", 0.05, 121)
    wide = net.quantize(net.node("Relu", [net.conv(stem, 48, 16, 1, 1)]), 0.1, 0)
    deep = net.conv(wide, 48, 1, 3, 3, group=48, pads=[1, 1, 1, 1])
    narrow = net.conv(net.quantize(net.node("Relu", [deep]), 0.2, 0), 16, 48, 1, 1)
    total = net.node("Add", [stem, net.quantize(narrow, 0.3, 100)])
    pooled = net.node("MaxPool", [net.quantize(total, 0.3, 110)], kernel_shape=[2, 2], strides=[2, 2])
    grouped = net.conv(pooled, 64, 4, 3, 3, group=4, low=-8, high=7)
    flat = net.node("Flatten", [net.quantize(grouped, 0.5, 128)])
    net.quantize(net.node("MatMul", [flat, net.weights(256, 10, axis=1)]), 1.0, 128)
    return net


def hourglass() -> Network:
    """Streams that are cut, padded, enlarged, joined, added and averaged between quantizers, by equal grids."""
    net = Network(1, 8, 6, 6)
    stem = net.quantize(net.node("Relu", [net.conv(net.quantize("x", 0.05, 121), 16, 8, 3, 3, pads=[1] * 4)]), 0.25, 0)
    small = net.node("MaxPool", [stem], kernel_shape=[2, 2], strides=[2, 2])
    deep = net.quantize(net.node("Relu", [net.conv(small, 24, 16, 1, 1)]), 0.25, 0)
    twice = net.constant(np.array([1, 1, 2, 2], np.float32))
    settings = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    both = net.node("Concat", [net.node("Resize", [deep, "", twice], **settings), stem], axis=1)
    wide = net.conv(net.quantize(both, 0.25, 0), 16, 40, 3, 3, pads=[1] * 4)
    total = net.quantize(net.node("Add", [net.quantize(wide, 0.125, 99), stem]), 0.25, 64)
    cut = net.node("Slice", [total, *[net.constant(np.array([end])) for end in (1, 6, 2)]])
    mean = net.node("AveragePool", [cut], kernel_shape=[2, 2], strides=[1, 2])
    flat = net.node("Flatten", [net.quantize(mean, 0.25, 70)])
    net.node("MatMul", [flat, net.weights(16 * 4 * 3, 10, axis=1)])
    return net


def attention() -> Network:
    """Products of run-time codes: queries and keys, probabilities and values, of heads."""
    net = Network(1, 12, 32)
    rows = net.quantize("x", 2.0**-4, 121)
    heads = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        line = net.quantize(net.node("MatMul", [rows, net.weights(32, 32, axis=1)]), 2.0**-5, 131)
        split = net.node("Reshape", [line, net.constant(np.array([1, 12, 4, 8]))])
        heads.append(net.node("Transpose", [split], perm=perm))
    scores = net.quantize(net.node("MatMul", heads[:2]), 2.0**-4, 128)
    chances = net.quantize(net.node("Softmax", [scores], axis=-1), 2.0**-8, 0)
    mixed = net.quantize(net.node("MatMul", [chances, heads[2]]), 2.0**-6, 120)
    joined = net.node(
        "Reshape", [net.node("Transpose", [mixed], perm=[0, 2, 1, 3]), net.constant(np.array([1, 12, 32]))]
    )
    net.node("MatMul", [joined, net.weights(32, 10, axis=1)])
    return net


NETWORKS = {
    "attention": (attention, 6),
    "hourglass": (hourglass, 4),
    "wide convolution": (lambda: wide_convolution(0), 1),
    "wide convolution with a zero point": (lambda: wide_convolution(128), 1),
    "wide product": (wide_product, 1),
    "inverted residual": (inverted_residual, 5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_on_integers_on_every_variant(name: str, tmp_path: Path) -> None:
    make, layers = NETWORKS[name]
    path = make().saved(tmp_path / "net.onnx")
    bundle = qcompiler.compile(path, output=tmp_path / "out")
    rows = [row for row in bundle.report["rows"] if row["macs"]]
    assert [row["integers"] for row in rows] == [True] * layers
    shape = bundle.inputs[0].shape
    x = (np.random.default_rng(1).standard_normal(shape) * 3).astype(np.float32)
    expected = oracle.Session(onnx.load(path)).run({"x": x})["y"]
    np.testing.assert_allclose(bundle.run({"x": x})["y"], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("pads", [0, 1])
@pytest.mark.parametrize("channels", [24, 48])
def test_binary_layers_channel_by_channel_read_bytes(channels: int, pads: int, tmp_path: Path) -> None:
    net = Network(1, channels, 8, 9)
    zero, plus, minus = (net.constant(np.float32(number)) for number in (0, 1, -1))
    value, settings = "x", {"group": channels, "pads": [pads] * 4}
    for _ in range(2):
        signs = net.generator.choice(np.float32([-1, 1]), (channels, 1, 3, 3))
        codes = net.node("Where", [net.node("GreaterOrEqual", [value, zero]), plus, minus])
        value = net.node("Conv", [codes, net.constant(signs)], **settings)
    bundle = qcompiler.compile(net.saved(tmp_path / "net.onnx"), output=tmp_path / "out")
    kernels = [kernel for step in bundle.steps if step.macs for kernel in step.kernels]
    assert kernels and all("depthwise" in kernel for kernel in kernels), kernels


def test_layers_of_wide_sums_have_a_width(tmp_path: Path) -> None:
    path = wide_product().saved(tmp_path / "net.onnx")
    with pytest.raises(UnsupportedModel, match="wider than 4 bits"):
        qcompiler.compile(path, output=tmp_path / "out", bits=4)
