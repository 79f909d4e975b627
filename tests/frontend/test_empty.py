"""Values without elements inside of a network, as onnxruntime has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import qcompiler
from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import load
from qcompiler.ir import oracle
from tests.frontend.files import graph_text, save, write

# e: no rows of x; f: no columns
START = """
    a0 = Constant <value_ints = [0]> () a1 = Constant <value_ints = [1]> ()
    e = Slice (x, a0, a0, a0) f = Slice (x, a0, a0, a1) t = Transpose (f)
"""
BODIES = (
    "y = Concat <axis = 0> (x, e, x)",
    "n = Neg (e) r = Relu (n) y = Concat <axis = 0> (r, x)",
    "s = Softmax (f) y = Concat <axis = 1> (s, x)",
    "s = ReduceSum (e, a0) y = Add (x, s)",
    "p = ReduceProd (f, a1) y = Mul (x, p)",
    "m = MatMul (f, t) o = ReduceMax (m) y = Add (x, o)",
    "p = Constant <value_ints = [0, 1, 0, 3]> () q = Pad (f, p) y = Add (x, q)",
    "s = Size (e) c = Cast <to = 1> (s) y = Add (x, c)",
    "i = Cast <to = 7> (e) y = ScatterElements <axis = 0> (x, i, e)",
    "i = Cast <to = 7> (e) j = GatherElements (x, i) y = Concat <axis = 0> (j, x)",
    "b = Constant <value_floats = [1., 2.]> () g = Gemm (f, t, b) o = ReduceMax (g) y = Add (x, o)",
    "w = MatMul (t, x) y = Concat <axis = 0> (w, x)",
    "c = Greater (e, e) h = Where (c, e, e) y = Concat <axis = 0> (h, x)",
)


@pytest.mark.parametrize("body", BODIES)
def test_what_becomes_of_nothing(tmp_path: Path, body: str) -> None:
    text = graph_text(START + body, "float[2, 4] x", "float[M, K] y")
    x = {"x": np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)}
    found = oracle.run(load(save(tmp_path, text)), x)["y"]
    np.testing.assert_array_equal(found, oracle.run(onnx.parser.parse_model(text), x)["y"], strict=True)


def test_a_network_with_such_values_compiles(tmp_path: Path) -> None:
    text = graph_text(START + BODIES[0], "float[2, 4] x", "float[4, 4] y")
    bundle = qcompiler.compile(save(tmp_path, text), output=tmp_path / "out", mcpu=("baseline",))
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(bundle.run({"x": x})["y"], np.concatenate([x, x]))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_slices_and_concatenations(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Parts of a tensor, some of them without elements, through pointwise ops and back together along their axis."""
    axis = data.draw(st.integers(0, 2))
    cuts = sorted(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=5)))
    bounds = list(zip([0, *cuts], [*cuts, 3], strict=True))
    nodes, tensors = [], [numpy_helper.from_array(np.array([axis]), "axis")]
    for index, (first, last) in enumerate(bounds):
        tensors += [numpy_helper.from_array(np.array([n]), f"{what}{index}") for what, n in (("f", first), ("l", last))]
        op = data.draw(st.sampled_from(["Neg", "Relu", "Softmax", "Identity"]))
        nodes.append(helper.make_node("Slice", ["x", f"f{index}", f"l{index}", "axis"], [f"s{index}"]))
        nodes.append(helper.make_node(op, [f"s{index}"], [f"p{index}"]))
    nodes.append(helper.make_node("Concat", [f"p{index}" for index in range(len(bounds))], ["y"], axis=axis))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 3, 3]) for name in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors), opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    )
    inputs = {"x": np.random.default_rng(len(bounds)).standard_normal((3, 3, 3)).astype(np.float32)}
    found = oracle.run(load(write(tmp_path_factory.getbasetemp(), model, "empty.onnx")), inputs)["y"]
    np.testing.assert_array_equal(found, oracle.run(model, inputs)["y"])


def test_results_without_elements_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, graph_text(f"{START} y = Neg (e)", "float[2, 4] x", "float[M, K] y"))
    with pytest.raises(UnsupportedModel, match=r"node 'y': Neg gives an empty result of shape \[0, 4\], expected elem"):
        load(path)


EMPTY = (
    "y = Concat <axis = 0> (e, e)",
    "w = Constant <value = float[4,0] {}> () y = MatMul (x, w)",
    "s = Constant <value_ints = [0, 2, 4]> () y = Expand (x, s)",
    "y, z = TopK (x, a0)",
    "s = Constant <value_ints = [0, 4]> () y, z = Split <axis = 1> (x, s)",
    "c = Constant <value = float[0,4] {}> () s = Slice (x, a0, a1, a0) y = Add (s, c)",
    "h = Constant <value_float = 0.5> () z = Constant <value = uint8 {3}> () y = QuantizeLinear (e, h, z)",
    "y = Cast <to = 6> (e)",
    "y = Softmax (f)",
    "y = ArgMax <axis = 1> (e)",
    "c = Constant <value = float[0] {}> () y = BatchNormalization (f, c, c, c, c)",
    "i = Constant <value = float[2,2,1,1] {1, 1, 1, 1}> () u = Unsqueeze (f, k) v = Reshape (u, n) y = Conv (v, i)",
)


@pytest.mark.parametrize("body", EMPTY)
def test_networks_with_such_results_are_valid_and_not_compiled(tmp_path: Path, body: str) -> None:
    constants = "k = Constant <value_ints = [2, 3]> () n = Constant <value_ints = [0, 2, 1, 1]> ()"
    allowed = body.replace("Reshape (", "Reshape <allowzero = 1> (")
    text = graph_text(f"{START} {constants} {allowed}", "float[2, 4] x", "y")
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].ClearField("type")
    x = {"x": np.ones((2, 4), np.float32)}
    assert oracle.run(proto, x, ["y"])["y"].size == 0
    with pytest.raises(UnsupportedModel, match="empty result") as caught:
        load(write(tmp_path, proto))
    assert caught.value.node.split("/")[0] == "y"


@pytest.mark.parametrize("body", ["y = Conv (x, w)", "y = ConvTranspose <pads = [9, 9, 9, 9]> (x, w)"])
def test_windows_that_do_not_fit_are_a_mistake(tmp_path: Path, body: str) -> None:
    path = save(tmp_path, graph_text(body, "float[1, 2, 2, 2] x, float[2, 2, 3, 3] w", "float[N] y"))
    with pytest.raises(InvalidModel, match="node 'y'"):
        load(path)


@pytest.mark.parametrize("op", ["GRU", "LSTM", "RNN"])
def test_sequences_without_steps_never_reach_onnxruntime(tmp_path: Path, op: str) -> None:
    """It ends the process."""
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[op]
    proto = onnx.parser.parse_model(
        graph_text(
            f"a = Constant <value_ints = [0]> () e = Slice (x, a, a, a) v, h = {op} <hidden_size = 2> (e, w, r)"
            " s = Squeeze (h, a) y = Add (s, x)",
            "float[2, 1, 2] x",
            "float[2, 1, 2] y",
        )
    )
    proto.graph.node[-3].output[0] = ""
    for name in "wr":
        weights = np.ones((1, 2 * gates, 2), np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(weights, name))
    with pytest.raises(UnsupportedModel, match="reads 'e' of shape .0, 1, 2., which has no elements"):
        load(write(tmp_path, proto))


def test_operands_without_elements_beside_data_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, graph_text(f"{START} c = ReduceSum (x) y = Gemm (f, t, c)", "float[2, 4] x", "float[2, 2] y"))
    with pytest.raises(UnsupportedModel, match=r"node 'y': Gemm reads 'f' of shape \[2, 0\], which has no elements"):
        load(path)
