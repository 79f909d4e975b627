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
    with pytest.raises(InvalidModel, match=r"node 'y': Neg gives an empty result of shape \[0, 4\]; check the shapes"):
        load(path)


def test_operands_without_elements_beside_data_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, graph_text(f"{START} c = ReduceSum (x) y = Gemm (f, t, c)", "float[2, 4] x", "float[2, 2] y"))
    with pytest.raises(UnsupportedModel, match=r"node 'y': Gemm reads 'f' of shape \[2, 0\], which has no elements"):
        load(path)
