"""Networks as onnxruntime's quantizer writes them, compiled: the codes of onnxruntime's kernels on every variant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qcompiler
from qcompiler.errors import UnsupportedCpu
from qcompiler.ir import oracle
from tests.frontend.dialects.integer_files import codes, one_node
from tests.frontend.files import write

FAULTS = Path(__file__).resolve().parents[3] / "shared" / "faults"
GENERATOR = np.random.default_rng(0)


class Network:
    """Nodes of a network on uint8, whose values all have one scale and zero point."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored = {"s": np.float32(0.05), "z": np.uint8(120), "wz": np.int8(0)}

    def op(self, op: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        """A node; its result."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{op}_{name}", domain=domain, **attributes))
        return name

    def constant(self, array: Any) -> str:
        """A stored array; its name."""
        name = f"c{len(self.stored)}"
        self.stored[name] = np.asarray(array)
        return name

    def conv(self, x: str, inputs: int, outputs: int, **attributes: Any) -> str:
        """A convolution of 3 x 3 with scales per channel and a bias."""
        w = self.constant(codes(GENERATOR, np.int8, (outputs, inputs, 3, 3)))
        scales = self.constant(GENERATOR.uniform(0.0005, 0.002, outputs).astype(np.float32))
        zeros = self.constant(np.zeros(outputs, np.int8))
        bias = self.constant(GENERATOR.integers(-3000, 3000, outputs).astype(np.int32))
        operands = [x, "s", "z", w, scales, zeros, "s", "z", bias]
        return self.op("QLinearConv", operands, pads=[1] * 4, **attributes)

    def file(self, y: str, shape: tuple[int, ...]) -> onnx.ModelProto:
        """The network from real numbers x to real numbers y."""
        head = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize")
        tail = helper.make_node("DequantizeLinear", [y, "s", "z"], ["y"], name="dequantize")
        x = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        outputs = [helper.make_empty_tensor_value_info(name) for name in ("y", y)]
        stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in self.stored.items()]
        graph = helper.make_graph([head, *self.nodes, tail], "network", x, outputs, stored)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def residual() -> onnx.ModelProto:
    """A residual block, a pool of the largest, a concatenation, an average pool, and a layer behind it."""
    net, domain = Network(), "com.microsoft"
    x = net.conv("q", 3, 8)
    block = net.op("QLinearAdd", [x, "s", "z", net.conv(x, 8, 8), "s", "z", "s", "z"], domain)
    pooled = net.op("MaxPool", [block], kernel_shape=[2, 2], strides=[2, 2])
    gate = net.op("QLinearSigmoid", [pooled, "s", "z", "s", "z"], domain)
    product = net.op("QLinearMul", [pooled, "s", "z", gate, "s", "z", "s", "z"], domain)
    joined = net.op("QLinearConcat", ["s", "z", pooled, "s", "z", product, "s", "z"], domain, axis=1)
    averaged = net.op("QLinearAveragePool", [joined, "s", "z", "s", "z"], domain, kernel_shape=[2, 2], strides=[1, 1])
    last = net.op("QLinearGlobalAveragePool", [averaged, "s", "z", "s", "z"], domain)
    rows = net.op("Flatten", [last])
    weights = net.constant(codes(GENERATOR, np.int8, (5, 16)))
    bias, scale = net.constant(np.arange(5, dtype=np.int32)), net.constant(np.float32(0.004))
    y = net.op("QGemm", [rows, "s", "z", weights, scale, "wz", bias, "s", "z"], domain, transB=1)
    return net.file(y, (2, 3, 8, 8))


def test_a_residual_network_gives_the_codes_of_onnxruntime(tmp_path: Path) -> None:
    proto = residual()
    path = write(tmp_path, proto)
    bundle = qcompiler.compile(path, output=tmp_path / "out")
    layers = [row for row in bundle.report["rows"] if row["macs"]]
    assert len(layers) == 3 and all(row["w_bits"] <= 8 and row["a_bits"] <= 8 for row in layers)
    for variant in bundle.variants:
        try:
            runnable = qcompiler.load(tmp_path / "out", variant=variant.name)
        except UnsupportedCpu:
            continue
        for seed in range(20):
            x = np.random.default_rng(seed).normal(0, 2, (2, 3, 8, 8)).astype(np.float32)
            want = oracle.run(proto, {"x": x})
            for name, found in runnable.run({"x": x}).items():
                np.testing.assert_array_equal(found, want[name], err_msg=variant.name, strict=True)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("level", [0, 1, 4])
def test_a_level_of_accuracy_of_4_rounds_the_left_operand(bits: int, level: int, tmp_path: Path) -> None:
    """On every processor; what that does is far beyond the bound of verification."""
    blocks = GENERATOR.integers(0, 256, (70, 3, 4 * bits)).astype(np.uint8)
    operands = [("a", np.zeros((3, 70), np.float32)), ("b", blocks), ("s", np.full((70, 3), 0.1, np.float32))]
    settings = {"K": 70, "N": 70, "bits": bits, "block_size": 32, "accuracy_level": level}
    path = write(tmp_path, one_node("MatMulNBits", operands, ["a"], "com.microsoft", **settings))
    bundle = qcompiler.compile(path, output=tmp_path / "out")
    (row,) = [row for row in bundle.report["rows"] if row["macs"]]
    expected = (bits, 8 if level == 4 else 32)
    assert ((row["w_bits"], row["a_bits"]), row["integers"]) == (expected, level == 4)


@pytest.mark.skipif(not FAULTS.exists(), reason=f"the collection of faults {FAULTS} is not here")
@pytest.mark.parametrize("name", ["qlinear_pc_zp", "qlinear_sat", "nbits2_floatzp", "nbits4"])
def test_files_that_others_refuse(name: str, tmp_path: Path) -> None:
    qcompiler.compile(FAULTS / f"{name}.onnx", output=tmp_path / "out")


@pytest.mark.parametrize("low", [-1, -8])
def test_dynamic_quantizers_and_weights_of_few_bits(low: int, tmp_path: Path) -> None:
    """Exact on all variants, by the kernels for them."""
    rng = np.random.default_rng(0)
    weights = rng.integers(low, 2 if low == -1 else 8, (132, 256)).astype(np.int8)
    weights[0, :2] = low, 1 if low == -1 else 7
    settings = {"opset_imports": [helper.make_opsetid("", 21)], "ir_version": 10}
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["numbers"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["numbers", "scale"], ["y"]),
    ]
    shapes = [("x", [3, 132]), ("y", [3, 256])]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes)
    graph = helper.make_graph(nodes, "g", [x], [y], [onnx.numpy_helper.from_array(weights, "w")])
    proto = helper.make_model(graph, **settings)
    onnx.save(proto, tmp_path / "model.onnx")
    bundle = qcompiler.compile(tmp_path / "model.onnx", output=tmp_path / "out")
    (step,) = [step for step in bundle.steps if step.op == "IntegerMatMul"]
    assert all(name.startswith("fields_conv2d") for name in step.kernels)
    values = {"x": rng.normal(size=(3, 132)).astype(np.float32)}
    np.testing.assert_array_equal(bundle.run(values)["y"], oracle.run(proto, values)["y"])
