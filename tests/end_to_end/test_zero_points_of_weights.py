"""Weights of 8 bits with any zero point: less it, they may lie beyond what a byte with a sign holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qcompiler
from qcompiler.errors import QCompilerError

CHANNELS, OUTPUTS, SIZE = 24, 40, 20
SHAPES: dict[str, tuple[int, ...]] = {
    "Conv": (OUTPUTS, CHANNELS, 3, 3),
    "depthwise": (CHANNELS, 1, 3, 3),
    "grouped": (OUTPUTS, CHANNELS // 4, 3, 3),
    "MatMul": (CHANNELS, OUTPUTS),
}
GROUPS = {"depthwise": CHANNELS, "grouped": 4}


def network(kind: str, zeros: Any, dynamic: bool = False) -> onnx.ModelProto:
    """One layer that reads 8 bits; zeros: the zero point of the weights, or one for each output channel."""
    rng = np.random.default_rng(0)
    shape, axis = SHAPES[kind], 1 if kind == "MatMul" else 0
    count, zeros = shape[axis], np.asarray(zeros, np.uint8)
    constants = {
        "w": rng.integers(0, 256, shape).astype(np.uint8),
        "w_zero": np.resize(zeros, count) if zeros.ndim else zeros,
        "w_scale": rng.uniform(0.005, 0.01, count if zeros.ndim else ()).astype(np.float32),
        "scale": np.float32(0.02),
        "zero": np.uint8(7),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["weights"], axis=axis),
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["read"]),
    ]
    if dynamic:
        nodes = [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "q_scale", "q_zero"]),
            helper.make_node("MatMulInteger", ["q", "w", "q_zero", "w_zero"], ["sums"], name="layer"),
            helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["q_scale", "w_scale"], ["scales"]),
            helper.make_node("Mul", ["floats", "scales"], ["y"]),
        ]
    elif kind == "MatMul":
        nodes.append(helper.make_node("MatMul", ["read", "weights"], ["y"], name="layer"))
    else:
        settings = {"pads": [1] * 4, "group": GROUPS.get(kind, 1)}
        nodes.append(helper.make_node("Conv", ["read", "weights"], ["y"], name="layer", **settings))
    channels = shape[0] if kind == "MatMul" else shape[1] * GROUPS.get(kind, 1)
    given = (9, channels) if kind == "MatMul" else (1, channels, SIZE, SIZE)
    made = (9, OUTPUTS) if kind == "MatMul" else (1, count, SIZE, SIZE)
    infos = [helper.make_tensor_value_info(*each) for each in (("x", 1, given), ("y", 1, made))]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "net", infos[:1], infos[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("zeros", [0, 255, [90, 128, 160, 255, 0]], ids=str)
@pytest.mark.parametrize("kind", SHAPES)
def test_any_zero_point(tmp_path: Path, kind: str, zeros: Any) -> None:
    compiled(network(kind, zeros), tmp_path)


@pytest.mark.parametrize("zeros", [100, 255])
@pytest.mark.parametrize(("kind", "shape"), [("MatMul", (2000, OUTPUTS)), ("Conv", (OUTPUTS, 600, 3, 3))])
def test_sums_beyond_floats(
    tmp_path: Path, kind: str, shape: tuple[int, ...], zeros: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHAPES, kind, shape)
    compiled(network(kind, zeros), tmp_path)


@pytest.mark.parametrize(("zeros", "inputs"), [(128, 65_000), (128, 66_000), (100, 21_000), (100, 22_000)])
def test_sums_that_32_bits_may_not_hold(
    tmp_path: Path, zeros: int, inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such layers stay floats, whatever their sums really are."""
    monkeypatch.setitem(SHAPES, "MatMul", (inputs, 3))
    onnx.save(network("MatMul", zeros), tmp_path / "model.onnx")
    bundle = qcompiler.compile(tmp_path / "model.onnx", target="x86", output=tmp_path / "net", mcpu=["avx2"])
    (step,) = (step for step in bundle.steps if "layer" in step.nodes)
    assert step.kernels[0].startswith(("bytes", "words")) == (inputs in (65_000, 21_000)), step.kernels


@pytest.mark.parametrize("zeros", [3, [90, 128, 160, 255, 0]], ids=str)
def test_any_zero_point_of_an_integer_product(tmp_path: Path, zeros: Any) -> None:
    compiled(network("MatMul", zeros, dynamic=True), tmp_path)


def compiled(model: onnx.ModelProto, folder: Path) -> None:
    """Compile, which verifies all variants, and see the layer on integers, in bytes or channel by channel."""
    onnx.save(model, folder / "model.onnx")
    try:
        bundle = qcompiler.compile(folder / "model.onnx", target="x86", output=folder / "net")
    except QCompilerError as error:
        pytest.fail(str(error))
    layers = [step for step in bundle.steps if "layer" in step.nodes]
    kernels = [kernel for step in layers if step.macs for kernel in step.kernels]
    assert kernels and all(kernel.startswith(("bytes_conv2d", "bytes_depthwise")) for kernel in kernels), kernels
