from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from qcompiler.errors import InvalidModel, UnsupportedModel, UsageError
from qcompiler.ir import oracle
from qcompiler.ir.numerics import binarize

HEADER = '<ir_version: 10, opset_import: ["": 21, "qcompiler": 1, "com.microsoft": 1]>'
SIGNATURE = "g (float[1, 4] x, float[2] unused) => (float[1, 4] y)"
X = np.array([[-1, -0.0, 0.0, 2]], np.float32)
INPUTS = {"x": X, "unused": np.zeros(2, np.float32)}


def proto(body: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f"{HEADER} {SIGNATURE} {{ {body} }}")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(2), "two"))
    model.graph.node[-1].name = "last"
    return model


def test_outputs_and_intermediate_values() -> None:
    model = ir.from_proto(proto("b = qcompiler.Binarize (x) y = Mul (b, two)"))
    assert list(oracle.run(model, INPUTS)) == ["y"]
    found = oracle.run(model, INPUTS, ["b", "x", "two", "y"])
    assert list(found) == ["b", "x", "two", "y"]
    np.testing.assert_array_equal(found["b"], binarize(X))
    np.testing.assert_array_equal(found["y"], 2 * binarize(X))
    assert found["x"] is INPUTS["x"] and found["two"] == 2


def test_the_graph_is_left_as_it_was() -> None:
    model = proto("n = Neg (x) y = Neg (n)")
    before = model.SerializeToString(deterministic=True)
    oracle.run(model, INPUTS, ["n"])
    assert model.SerializeToString(deterministic=True) == before


def test_optimisations_are_off() -> None:
    """At its default level onnxruntime turns this product into one with re-quantized activations, 0.2 % off."""
    generator = np.random.default_rng(0)
    codes = generator.integers(-8, 8, (64, 16))
    scales = generator.random((2, 16), dtype=np.float32)
    nodes = [
        onnx.helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=0, block_size=32),
        onnx.helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    stored = onnx.helper.make_tensor("w", onnx.TensorProto.INT4, codes.shape, codes.reshape(-1).tolist())
    inputs = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, 64])]
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4, 16])]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, [stored, onnx.numpy_helper.from_array(scales, "s")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    x = generator.standard_normal((4, 64), dtype=np.float32)
    want = x.astype(np.float64) @ (codes * np.repeat(scales, 32, axis=0).astype(np.float64))
    np.testing.assert_allclose(oracle.run(model, {"x": x})["y"], want, atol=1e-4)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"x": X}, "no array for input 'unused'"),
        (INPUTS | {"z": X}, "no input 'z'"),
        (INPUTS | {"x": X[:, :3]}, r"shape \[1, 3\], expected \[1, 4\]"),
        (INPUTS | {"x": X.astype(np.float64)}, "float64, expected float32"),
    ],
)
def test_wrong_inputs(inputs: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        oracle.run(proto("y = Neg (x)"), inputs)


def test_unknown_value() -> None:
    with pytest.raises(UsageError, match="no value 'q'"):
        oracle.run(proto("y = Neg (x)"), INPUTS, ["q"])


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("y = Conv (x, unused)", InvalidModel),
        ("y = Frobnicate (x)", InvalidModel),
        ("s = Constant <value_ints = [3, 3]> () y = Reshape (x, s)", InvalidModel),
        ("i = Cast <to = 5> (x) y = Relu (i)", UnsupportedModel),
    ],
)
def test_refusals_name_the_node(body: str, error: type[Exception], capfd: pytest.CaptureFixture[str]) -> None:
    model = proto(body)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].ClearField("type")
    with pytest.raises(error) as caught:
        oracle.run(model, INPUTS)
    assert getattr(caught.value, "node", "") == "last"
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_random_inputs_are_reproducible_and_typed() -> None:
    text = '<ir_version: 10, opset_import: ["": 21]> g (float[3] f, uint8[50] u, int8[50] i, bool[9] b, float[3] w)'
    model = onnx.parser.parse_model(text + " => (float[3] y) { y = Add (f, w) }")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float32), "w"))
    first, second = oracle.random_inputs(model, 1), oracle.random_inputs(model, 1)
    assert {name: array.dtype.name for name, array in first.items()} == {
        "f": "float32",
        "u": "uint8",
        "i": "int8",
        "b": "bool",
    }
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
    assert first["i"].min() < 0
    assert not np.array_equal(first["f"], oracle.random_inputs(model, 2)["f"])


def test_random_inputs_need_fixed_shapes() -> None:
    text = '<ir_version: 10, opset_import: ["": 21]> g (float[N, 3] x) => (float[N, 3] y) { y = Neg (x) }'
    with pytest.raises(UsageError, match="'x' has dynamic dimensions"):
        oracle.random_inputs(onnx.parser.parse_model(text), 0)


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        ("agraph (int64[9] i) => (float[9,2] y) { y = Gather (table, i) }", 3),
        ("agraph (int64[9] i) => (float[9,2] y) { y = Gather (table, i) }", 1),
        ("agraph (int64[40] i, int64[40] j) => (int64[40] y) { y = Div (i, j) }", 1),
    ],
)
def test_random_integers_are_such_that_the_model_runs(body: str, rows: int) -> None:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {body}')
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((rows, 2), np.float32), "table"))
    for seed in range(5):
        oracle.run(proto, oracle.random_inputs(proto, seed))
