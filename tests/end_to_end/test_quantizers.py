"""Networks whose quantizers have any rounding and zero point: verified, and as fused as those with the usual ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qcompiler

GENERAL = "qonnx.custom_op.general"
GENERATOR = np.random.default_rng(0)


def saved(folder: Path, nodes: list[onnx.NodeProto], constants: dict[str, Any]) -> Path:
    x = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8, 6, 6))]
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", x, [helper.make_empty_tensor_value_info("y")], stored)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(GENERAL, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "net.onnx")
    return folder / "net.onnx"


def signs(*shape: int) -> np.ndarray:
    return np.where(GENERATOR.random(shape) < 0.5, -1, 1).astype(np.float32)


@pytest.mark.parametrize(("first", "second"), [("UP", "DOWN"), ("HALF_UP", "HALF_DOWN"), ("FLOOR", "CEIL")])
def test_layers_read_codes_of_any_rounding(tmp_path: Path, first: str, second: str) -> None:
    nodes = [
        helper.make_node(
            "Quant", ["x", "s", "z", "b"], ["q"], name="q1", domain=GENERAL, signed=0, rounding_mode=first
        ),
        helper.make_node("Conv", ["q", "w1"], ["c"], name="c1", pads=[1] * 4),
        helper.make_node(
            "Quant", ["c", "t", "z", "b"], ["r"], name="q2", domain=GENERAL, signed=0, rounding_mode=second
        ),
        helper.make_node("Conv", ["r", "w2"], ["y"], name="c2"),
    ]
    constants = {
        "s": np.float32(0.5), "t": np.float32(3), "z": np.float32(0), "b": np.float32(2), "w1": signs(8, 8, 3, 3),
        "w2": signs(4, 8, 1, 1),
    }  # fmt: skip
    bundle = qcompiler.compile(saved(tmp_path, nodes, constants), output=tmp_path / "out", mcpu=["x86-64-v3"])
    assert [row["op"] for row in bundle.report["rows"] if row["macs"]] == ["IntegerConv", "IntegerConv"]


def test_quantizers_of_the_standard_end_kernels(tmp_path: Path) -> None:
    """Two in the epilogue of one convolution, between them a run-time sum; none is left to TVM."""
    pairs = [("x", "a", 3), ("c", "d", 7), ("e", "y", 0)]
    nodes, constants = [], {"w": GENERATOR.standard_normal((8, 8, 3, 3)).astype(np.float32), "s": np.float32(0.07)}
    for source, result, zero in pairs:
        constants[f"z{zero}"] = np.uint8(zero)
        operands = ["s", f"z{zero}"]
        nodes.append(helper.make_node("QuantizeLinear", [source, *operands], [f"{result}_q"], name=f"{result}_q"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{result}_q", *operands], [result], name=f"{result}_d"))
    nodes.insert(2, helper.make_node("Conv", ["a", "w"], ["c"], name="conv", pads=[1] * 4))
    nodes.insert(5, helper.make_node("Add", ["d", "a"], ["e"], name="sum"))
    bundle = qcompiler.compile(saved(tmp_path, nodes, constants), output=tmp_path / "out", mcpu=["x86-64-v3"])
    (conv,) = (row for row in bundle.report["rows"] if row["macs"])
    assert {"conv", "d_q", "d_d", "sum", "y_q", "y_d"} <= set(conv["nodes"])


def test_sums_that_rounding_errors_decide_are_ties(tmp_path: Path) -> None:
    """In every channel the shift of the BatchNorm puts one sum beside the half of a code of 4 bits."""
    random, channels = np.random.default_rng(0), 64
    activation, weight, step = np.float32([0.13, 0.021, 0.37])
    codes, integers = random.integers(0, 16, (1, 8, 6, 6)), random.integers(-7, 8, (channels, 8, 3, 3))
    constants = {
        "s": activation, "t": step, "z": 0, "b": 4, "w1": integers * weight, "m": random.normal(size=channels),
        "g": random.choice([-1, 1], channels) * random.uniform(1, 2, channels), "v": random.uniform(0.5, 1, channels),
        "w2": random.integers(-7, 8, (4, channels, 1, 1)) * weight,
    }  # fmt: skip
    stored = {name: np.asarray(array, np.float32) for name, array in constants.items()}
    gamma, mean, variance = (stored[name].astype(np.float64) for name in "gmv")
    sums = np.einsum("ihw,oihw->o", codes[0, :, 1:4, 1:4], integers) * (np.float64(activation) * weight)
    halves = (random.integers(2, 12, channels) + 0.5) * step
    stored["a"] = (halves - gamma * (sums - mean) / np.sqrt(variance + 1e-5)).astype(np.float32)
    nodes = [
        helper.make_node("Quant", ["x", "s", "z", "b"], ["q"], name="q1", domain=GENERAL, signed=0),
        helper.make_node("Conv", ["q", "w1"], ["c"], name="c1"),
        helper.make_node("BatchNormalization", ["c", "g", "a", "m", "v"], ["n"], name="n1"),
        helper.make_node("Quant", ["n", "t", "z", "b"], ["r"], name="q2", domain=GENERAL, signed=0),
        helper.make_node("Conv", ["r", "w2"], ["y"], name="c2"),
    ]
    x = {"x": (codes * activation).astype(np.float32)}
    bundle = qcompiler.compile(saved(tmp_path, nodes, stored), output=tmp_path / "out", mcpu=["x86-64-v3"], inputs=x)
    assert [row["op"] for row in bundle.report["rows"] if row["macs"]] == ["IntegerConv", "IntegerConv"]
