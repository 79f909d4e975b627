"""Graphs whose large constants are handed over beside them: they compute the same, and are left as they were."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import UnsupportedModel
from qcompiler.ir import oracle
from qcompiler.ir import portable as portable_module
from qcompiler.ir.portable import portable

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
TYPES = (*INTEGERS, "float16", "float32", "float64", "bool")


def proto(constants: dict[str, np.ndarray], nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """float32 x [1] => the outputs of all nodes."""
    helper = onnx.helper
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    outputs = [helper.make_empty_tensor_value_info(node.output[0]) for node in nodes]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph(nodes, "g", [x], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def of_types(elements: int) -> onnx.ModelProto:
    generator = np.random.default_rng(elements)
    constants = {kind: generator.integers(0, 2, elements).astype(kind) for kind in TYPES}
    return proto(constants, [onnx.helper.make_node("Identity", [kind], [f"{kind}_out"]) for kind in TYPES])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from((1, 511, 512, 513, 1024, 1025, 2049, 4096, 4097, 9000)))
def test_constants_of_every_type_and_size_arrive(elements: int) -> None:
    model = of_types(elements)
    for form in (model, ir.from_proto(model)):
        found = oracle.run(form, {"x": np.ones(1, np.float32)}, [f"{kind}_out" for kind in TYPES])
        for tensor in model.graph.initializer:
            expected = onnx.numpy_helper.to_array(tensor)
            assert found[f"{tensor.name}_out"].dtype == expected.dtype
            np.testing.assert_array_equal(found[f"{tensor.name}_out"], expected)


def product(columns: int, seed: int) -> onnx.ModelProto:
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((1, columns), dtype=np.float32)
    square = generator.standard_normal((columns, 17), dtype=np.float32)
    nodes = [onnx.helper.make_node("Mul", ["x", "w"], ["a"]), onnx.helper.make_node("MatMul", ["a", "s"], ["y"])]
    return proto({"w": weights, "s": square}, nodes)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 99))
def test_results_are_those_of_the_file_bit_for_bit(columns: int, seed: int) -> None:
    model, inputs = product(columns, seed), {"x": np.float32([0.37])}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = oracle.run(ir.from_proto(model), inputs, ["a", "y"])
    for name, expected in zip(("a", "y"), session.run(["a", "y"], inputs), strict=True):
        np.testing.assert_array_equal(found[name], expected)


def test_large_constants_are_shared_and_small_ones_are_in_the_graph() -> None:
    model = ir.from_proto(product(2000, 0))
    model.graph.initializers["w"].const_value = ir.tensor(np.ones((1, 9), np.float32), name="w")
    square = ir.tensor(np.ones((2000, 17), np.float32), name="s")
    model.graph.initializers["s"].const_value = square
    prepared = portable(model)
    assert list(prepared.constants) == ["s"] and np.shares_memory(prepared.constants["s"], square.numpy())
    assert prepared.proto.ByteSize() < 2000 < prepared.nbytes
    assert model.graph.initializers["s"].const_value is square


def test_constants_lie_as_onnxruntime_reads_them() -> None:
    model = ir.from_proto(product(2000, 0))
    turned = np.asfortranarray(np.arange(34000, dtype=np.float32).reshape(2000, 17))
    model.graph.initializers["s"].const_value = ir.tensor(turned, name="s")
    assert all(array.flags.c_contiguous for array in portable(model).constants.values())
    found = oracle.run(model, {"x": np.ones(1, np.float32)})
    np.testing.assert_allclose(found["y"], found["a"] @ turned, rtol=1e-3)


def test_a_graph_that_cannot_be_written_keeps_its_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ir.from_proto(product(2000, 0))
    before = {name: value.const_value for name, value in model.graph.initializers.items()}

    def refuse(_: ir.Model) -> onnx.ModelProto:
        raise ValueError("no")

    monkeypatch.setattr(portable_module.ir, "to_proto", refuse)
    with pytest.raises(ValueError, match="no"):
        portable(model)
    assert {name: value.const_value for name, value in model.graph.initializers.items()} == before


def test_a_wanted_constant_is_given() -> None:
    model = product(2000, 0)
    (square,) = [onnx.numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "s"]
    for form in (model, ir.from_proto(model)):
        np.testing.assert_array_equal(oracle.run(form, {"x": np.ones(1, np.float32)}, ["s"])["s"], square)


@pytest.mark.parametrize("wanted", [("a",), ("y", "unread"), ("unread",)])
def test_constants_that_nothing_reads_may_be_there(wanted: tuple[str, ...]) -> None:
    model, inputs = product(2000, 0), {"x": np.ones(1, np.float32)}
    expected = oracle.run(model, inputs)
    expected["unread"] = np.ones((2000, 2), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(expected["unread"], "unread"))
    for form in (model, ir.from_proto(model)):
        for name, found in oracle.run(form, inputs, wanted).items():
            np.testing.assert_array_equal(found, expected[name])


def test_constants_of_nodes_that_were_taken_out_may_be_there() -> None:
    model, inputs = ir.from_proto(product(2000, 0)), {"x": np.ones(1, np.float32)}
    expected = oracle.run(model, inputs, ["a"])["a"]
    model.graph.outputs.pop()
    (last,) = [node for node in model.graph if node.op_type == "MatMul"]
    model.graph.remove(last)
    np.testing.assert_array_equal(oracle.run(model, inputs)["a"], expected)


BRANCHES = """<ir_version: 10, opset_import: ["": 21]>
g (float[1] x) => (float[2000] y) {
    zero = Constant <value_float = 0.0> ()
    positive = Greater (x, zero)
    y = If (positive) <
        then_branch = left () => (float[2000] a) { a = Identity (w) },
        else_branch = right () => (float[2000] b) { b = Neg (w) }>
}"""


@pytest.mark.parametrize("x", [1.0, -1.0])
def test_constants_that_inner_graphs_read_arrive(x: float) -> None:
    model, w = onnx.parser.parse_model(BRANCHES), np.arange(2000, dtype=np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    for form in (model, ir.from_proto(model)):
        np.testing.assert_array_equal(oracle.run(form, {"x": np.float32([x])})["y"], w * x)


def test_a_proto_is_left_as_it_was() -> None:
    model = product(2000, 0)
    before = model.SerializeToString(deterministic=True)
    oracle.run(model, {"x": np.ones(1, np.float32)})
    assert model.SerializeToString(deterministic=True) == before


def test_a_constant_that_is_also_an_input_keeps_its_value() -> None:
    model = product(2000, 0)
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [1, 2000]))
    found = oracle.run(model, {"x": np.ones(1, np.float32)}, ["a"])["a"]
    np.testing.assert_array_equal(found, onnx.numpy_helper.to_array(model.graph.initializer[0]))


def test_too_many_constants_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "_PROTOBUF_LIMIT", 2000 * 17 * 4)
    with pytest.raises(UnsupportedModel, match="more than 2 GiB of constants"):
        oracle.run(product(2000, 0), {"x": np.ones(1, np.float32)})
