"""Old operators in onnxruntime, which runs opset 7 and later natively, against their canonical form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompiler.errors import UnsupportedModel
from qcompiler.frontend import load
from qcompiler.ir import oracle
from tests.frontend.files import write

F, I64 = TensorProto.FLOAT, TensorProto.INT64
X = ("x", [1, 4, 6, 6])


def one_node(
    op: str, opset: int, shape: list[int], extra: list[Any], outputs: int = 1, **settings: Any
) -> onnx.ModelProto:
    """A model of one node: x of `shape`, constants `extra`."""
    constants = [numpy_helper.from_array(np.asarray(array), f"c{index}") for index, array in enumerate(extra)]
    names = [f"y{index}" for index in range(outputs)]
    node = helper.make_node(op, ["x", *(tensor.name for tensor in constants)], names, name="n", **settings)
    results = [helper.make_empty_tensor_value_info(name) for name in names]
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", F, shape)], results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def vectors(seed: int, count: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [np.abs(generator.standard_normal(4, np.float32)) + np.float32(0.5) for _ in range(count)]


IMAGE = [1, 4, 6, 6]
SCALES = np.array([1, 1, 2, 3], np.float32)
CASES: dict[str, tuple[str, int, list[int], list[Any], int, dict[str, Any]]] = {
    "batchnorm-7": ("BatchNormalization", 7, IMAGE, vectors(0, 4), 1, {"spatial": 1, "momentum": 0.8}),
    "batchnorm-9": ("BatchNormalization", 9, IMAGE, vectors(1, 4), 1, {"epsilon": 1e-3}),
    "batchnorm-14": ("BatchNormalization", 14, IMAGE, vectors(2, 4), 1, {"training_mode": 0}),
    "clip-7": ("Clip", 7, IMAGE, [], 1, {"min": -0.5, "max": 0.25}),
    "clip-7-min": ("Clip", 7, IMAGE, [], 1, {"min": -0.5}),
    "clip-7-max": ("Clip", 10, IMAGE, [], 1, {"max": 0.25}),
    "clip-7-none": ("Clip", 7, IMAGE, [], 1, {}),
    "unsqueeze-9": ("Unsqueeze", 9, IMAGE, [], 1, {"axes": [0, 3]}),
    "squeeze-11": ("Squeeze", 11, [1, 4, 1], [], 1, {"axes": [-1]}),
    "squeeze-9-all": ("Squeeze", 9, [1, 4, 1], [], 1, {}),
    "dropout-7": ("Dropout", 7, IMAGE, [], 1, {"ratio": 0.5}),
    "dropout-12": ("Dropout", 12, IMAGE, [np.float32(0.5)], 1, {}),
    "upsample-7": ("Upsample", 7, IMAGE, [], 1, {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}),
    "upsample-9": ("Upsample", 9, IMAGE, [SCALES], 1, {"mode": "nearest"}),
    "upsample-9-linear": ("Upsample", 9, IMAGE, [SCALES], 1, {"mode": "linear"}),
    "resize-10": ("Resize", 10, IMAGE, [SCALES], 1, {"mode": "nearest"}),
    "resize-10-odd": ("Resize", 10, IMAGE, [np.array([1, 1, 1.3, 1.7], np.float32)], 1, {"mode": "nearest"}),
    "resize-10-down": ("Resize", 10, IMAGE, [np.array([1, 1, 0.4, 0.7], np.float32)], 1, {"mode": "nearest"}),
    "resize-10-linear": ("Resize", 10, IMAGE, [np.array([1, 1, 0.5, 0.7], np.float32)], 1, {"mode": "linear"}),
    "resize-11": ("Resize", 11, IMAGE, [np.zeros(0, np.float32), SCALES], 1, {"mode": "linear"}),
    "resize-11-sizes": (
        "Resize",
        11,
        IMAGE,
        [np.zeros(0, np.float32), np.zeros(0, np.float32), np.array([1, 4, 9, 7])],
        1,
        {"mode": "cubic", "coordinate_transformation_mode": "align_corners"},
    ),
    "pad-7": ("Pad", 7, IMAGE, [], 1, {"pads": [0, 0, 1, 2, 0, 1, 0, 1], "value": 1.5}),
    "pad-7-reflect": ("Pad", 7, IMAGE, [], 1, {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "mode": "reflect"}),
    "slice-7": ("Slice", 7, IMAGE, [], 1, {"starts": [1, -3], "ends": [3, 1000], "axes": [1, 2]}),
    "slice-9-no-axes": ("Slice", 9, IMAGE, [], 1, {"starts": [0, 1], "ends": [1, 3]}),
    "split-7": ("Split", 7, IMAGE, [], 2, {"axis": 1}),
    "split-11-sizes": ("Split", 11, IMAGE, [], 2, {"axis": 1, "split": [1, 3]}),
    "split-13": ("Split", 13, IMAGE, [], 3, {"axis": -1}),
    "topk-7": ("TopK", 7, IMAGE, [], 2, {"axis": 1, "k": 2}),
    "softmax-7": ("Softmax", 7, IMAGE, [], 1, {"axis": 1}),
    "softmax-11": ("Softmax", 11, [3, 5], [], 1, {}),
    "softmax-11-negative": ("Softmax", 11, IMAGE, [], 1, {"axis": -2}),
    "logsoftmax-9": ("LogSoftmax", 9, IMAGE, [], 1, {"axis": 2}),
    "hardmax-11": ("Hardmax", 11, IMAGE, [], 1, {"axis": 0}),
    "softmax-13": ("Softmax", 13, IMAGE, [], 1, {"axis": 1}),
    "reducemean-7": ("ReduceMean", 7, IMAGE, [], 1, {"axes": [2, 3], "keepdims": 0}),
    "reducesum-11": ("ReduceSum", 11, IMAGE, [], 1, {"axes": [1]}),
    "reducesum-11-all": ("ReduceSum", 11, IMAGE, [], 1, {"keepdims": 0}),
    "reducemax-12": ("ReduceMax", 12, IMAGE, [], 1, {"axes": [-1]}),
    "reducel2-17": ("ReduceL2", 17, IMAGE, [], 1, {"axes": [-1]}),
    "maxpool-7": ("MaxPool", 7, IMAGE, [], 1, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "maxpool-8-indices": ("MaxPool", 8, IMAGE, [], 2, {"kernel_shape": [2, 2]}),
    "averagepool-10": ("AveragePool", 10, IMAGE, [], 1, {"kernel_shape": [4, 4], "strides": [4, 4], "ceil_mode": 1}),
    "scatter-9": ("Scatter", 9, [1, 4], [np.array([[2]]), np.array([[7]], np.float32)], 1, {"axis": 1}),
    "gridsample-16": (
        "GridSample",
        16,
        [1, 1, 4, 4],
        [np.linspace(-1, 1, 18, dtype=np.float32).reshape(1, 3, 3, 2)],
        1,
        {"mode": "bilinear"},
    ),
    "cast-7": ("Cast", 7, IMAGE, [], 1, {"to": I64}),
    "gemm-7": ("Gemm", 7, [2, 3], [np.ones((3, 4), np.float32), np.ones(4, np.float32)], 1, {"alpha": 0.5}),
    "reshape-7": ("Reshape", 7, IMAGE, [np.array([0, -1])], 1, {}),
    "prelu-7": ("PRelu", 7, IMAGE, [np.full((4, 1, 1), 0.25, np.float32)], 1, {}),
    "quantize-10": ("QuantizeLinear", 10, IMAGE, [np.float32(0.1), np.int8(3)], 1, {}),
    "conv-22": ("Conv", 22, IMAGE, [np.ones((2, 4, 3, 3), np.float32)], 1, {"auto_pad": "SAME_UPPER"}),
    "cast-24": ("Cast", 24, IMAGE, [], 1, {"to": I64, "round_mode": "up"}),
    "reducemean-26": ("ReduceMean", 26, IMAGE, [np.array([1])], 1, {}),
    "swish-24": ("Swish", 24, IMAGE, [], 1, {"alpha": 0.5}),
    "quantize-25": ("QuantizeLinear", 25, IMAGE, [np.float32(0.1), np.uint8(3)], 1, {"precision": 0}),
}


@pytest.mark.parametrize("case", CASES)
def test_canonical_form_computes_the_same(tmp_path: Path, case: str) -> None:
    op, opset, shape, extra, outputs, settings = CASES[case]
    original = one_node(op, opset, shape, extra, outputs, **settings)
    model = load(write(tmp_path, original))
    assert model.opset_imports[""] == 21
    assert all(value.shape is not None and value.shape.is_static() for node in model.graph for value in node.outputs)
    inputs = oracle.random_inputs(model, 5)
    want = oracle.run(original, inputs)
    for name, array in oracle.run(model, inputs).items():
        np.testing.assert_array_equal(array, want[name], strict=True)


def test_newer_operator_is_replaced_by_its_definition(tmp_path: Path) -> None:
    scale = np.linspace(1, 2, 6, dtype=np.float32)
    original = one_node("RMSNormalization", 23, IMAGE, [scale], epsilon=0.25)
    model = load(write(tmp_path, original))
    assert "RMSNormalization" not in {node.op_type for node in model.graph}
    inputs = oracle.random_inputs(model, 5)
    want = oracle.run(original, inputs)["y0"]
    np.testing.assert_allclose(oracle.run(model, inputs)["y0"], want, rtol=1e-6)


def test_group_normalization_spreads_its_parameters(tmp_path: Path) -> None:
    scale, bias = np.array([2, 3], np.float32), np.array([1, -1], np.float32)
    model = load(write(tmp_path, one_node("GroupNormalization", 18, IMAGE, [scale, bias], num_groups=2)))
    x = oracle.random_inputs(model, 1)["x"]
    grouped = x.reshape(1, 2, -1)
    normal = (grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(grouped.var(-1, keepdims=True) + 1e-5)
    want = (normal * scale[:, None] + bias[:, None]).reshape(x.shape)
    np.testing.assert_allclose(oracle.run(model, {"x": x})["y0"], want, atol=1e-5)


@pytest.mark.parametrize("kind", [TensorProto.INT2, TensorProto.UINT2])
@pytest.mark.parametrize("by_type", [True, False])
def test_two_bit_quantization(tmp_path: Path, kind: int, by_type: bool) -> None:
    low, high = (-2, 1) if kind == TensorProto.INT2 else (0, 3)
    constants = [numpy_helper.from_array(np.array(0.5, np.float32), "s"), helper.make_tensor("z", kind, [], [1])]
    operands = ["x", "s"] if by_type else ["x", "s", "z"]
    quantize = helper.make_node("QuantizeLinear", operands, ["q"], **({"output_dtype": kind} if by_type else {}))
    nodes = [quantize, helper.make_node("DequantizeLinear", ["q", *operands[1:]], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, [9])],
        [helper.make_tensor_value_info("y", F, [9])],
        constants[: len(operands) - 1],
    )
    model = load(write(tmp_path, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)))
    x = np.linspace(-3, 3, 9, dtype=np.float32)
    zero = 0 if by_type else 1
    want = (np.clip(np.round(x / 0.5) + zero, low, high) - zero) * np.float32(0.5)
    np.testing.assert_array_equal(oracle.run(model, {"x": x})["y"], want)


def test_two_bit_weights_are_widened(tmp_path: Path) -> None:
    weights = helper.make_tensor("w", TensorProto.INT2, [8], [-2, -1, 0, 1, 1, 0, -1, -2])
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"]),
        helper.make_node("Mul", ["x", "d"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, [8])],
        [helper.make_tensor_value_info("y", F, [8])],
        [weights, numpy_helper.from_array(np.array(0.5, np.float32), "s")],
    )
    model = load(write(tmp_path, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 26)], ir_version=13)))
    found = oracle.run(model, {"x": np.ones(8, np.float32)})["y"]
    np.testing.assert_array_equal(found, np.array([-1, -0.5, 0, 0.5, 0.5, 0, -0.5, -1], np.float32))


@pytest.mark.parametrize(
    ("op", "opset", "extra", "settings", "words"),
    [
        ("BatchNormalization", 7, vectors(3, 4), {"spatial": 0}, "eval mode"),
        ("BatchNormalization", 15, vectors(3, 4), {"training_mode": 1}, "eval mode"),
        ("Dropout", 12, [np.float32(0.5), np.bool_(True)], {}, "eval mode"),
        ("Resize", 10, [np.array([1, 1, 2, 0.5], np.float32)], {}, "two steps"),
        ("Upsample", 10, [SCALES], {}, "unknown in ONNX opset 10"),
        ("Gelu", 19, [], {}, "unknown in ONNX opset 19"),
        ("CumProd", 26, [np.int64(1)], {}, "no form at opset 21"),
        ("Cast", 24, [], {"to": F, "round_mode": "nearest"}, "round_mode"),
    ],
)
def test_refusals_say_why(
    tmp_path: Path, op: str, opset: int, extra: list[Any], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnsupportedModel, match=words) as caught:
        load(write(tmp_path, one_node(op, opset, IMAGE, extra, **settings)))
    assert caught.value.node == "n"
    assert caught.value.remedy


def test_every_node_has_a_unique_name(tmp_path: Path) -> None:
    model = one_node("Softmax", 9, IMAGE, [], axis=1)
    model.graph.node.append(helper.make_node("Softmax", ["y0"], ["z"], name="n", axis=1))
    model.graph.node.append(helper.make_node("Relu", ["z"], ["r"]))
    model.graph.output[0].name = "r"
    names = [node.name for node in load(write(tmp_path, model)).graph]
    assert names == ["n/reshape", "n/softmax", "n", "n/reshape_2", "n/softmax_2", "n_2", "r"]
    assert isinstance(load(write(tmp_path, model)), ir.Model)
