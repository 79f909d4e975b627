"""Names that mean something to C, shells, terminals, paths or JSON: a network that bears them computes as any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qcompiler
from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import load
from qcompiler.ir import oracle
from tests.frontend.files import graph_text, write

ODD = (
    "a/b:0", "../../etc/passwd", "/abs", "it's", 'say "hi"', "back\\slash\\n", "two\nlines", "\ttab", "*/ int x; /*",
    "//", "??/", "%s%n%d", "$(touch pwned)", "`id`", "ü\u2028ñ", "\U0001f600", "\u202eabc", "x" * 10_000, " ", "0",
    "class", "main", "\x7f\x1b[31m", "a=b=c", "{}", "<T>", "\\x41", "a,b",
)  # fmt: skip


def network(names: Iterator[str]) -> onnx.ModelProto:
    """A quantized layer and a sum of two streams; every node, constant, value, input and output takes a name."""
    x, other, w, w_scale, scale, zero, none, q, d, wd, c, r, y = (next(names) for _ in range(13))
    generator = np.random.default_rng(0)
    constants = {
        w: generator.integers(-8, 8, (5, 3, 3, 3)).astype(np.int8), w_scale: np.float32(0.125),
        scale: np.float32(0.5), zero: np.uint8(3), none: np.int8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", [x, scale, zero], [q], name=next(names)),
        helper.make_node("DequantizeLinear", [q, scale, zero], [d], name=next(names)),
        helper.make_node("DequantizeLinear", [w, w_scale, none], [wd], name=next(names)),
        helper.make_node("Conv", [d, wd], [c], name=next(names), pads=[1] * 4),
        helper.make_node("Relu", [c], [r], name=next(names)),
        helper.make_node("Add", [r, other], [y], name=next(names)),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in ((x, (1, 3, 5, 5)), (other, (1, 5, 5, 5)))
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in (y, q)]
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, next(names), inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("start", [0, 14])
def test_a_network_with_odd_names_computes(tmp_path: Path, start: int) -> None:
    model = network(iter([*ODD[start:], *ODD[:start]]))
    (tmp_path / "here").mkdir()
    bundle = qcompiler.compile(write(tmp_path, model), output=tmp_path / "here" / "out", mcpu=("baseline",))
    generator = np.random.default_rng(1)
    names = [value.name for value in model.graph.input]
    inputs = {
        name: generator.normal(0, 2, shape).astype(np.float32)
        for name, shape in zip(names, ((1, 3, 5, 5), (1, 5, 5, 5)), strict=True)
    }
    found, wanted = bundle.run(inputs), oracle.run(model, inputs)
    assert list(found) == [value.name for value in model.graph.output]
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["out"]


def renamed(node: str = "y", value: str = "x") -> onnx.ModelProto:
    model = onnx.parser.parse_model(graph_text("y = Relu (x)"))
    model.graph.node[0].name = node
    model.graph.node[0].input[0] = model.graph.input[0].name = value
    return model


@pytest.mark.parametrize("name", ["a\0b", "x" * 70_000])
def test_names_that_no_bundle_holds_are_refused(tmp_path: Path, name: str) -> None:
    for model in (renamed(node=name), renamed(value=name)):
        with pytest.raises(UnsupportedModel, match="give it another name") as caught:
            load(write(tmp_path, model))
        assert caught.value.node == name and len(str(caught.value)) < 400


def test_nodes_need_no_names_but_inputs_do(tmp_path: Path) -> None:
    assert [node.name for node in load(write(tmp_path, renamed(node=""))).graph] == ["y"]
    with pytest.raises(InvalidModel):
        load(write(tmp_path, renamed(value="")))


@pytest.mark.parametrize(("signature", "words"), [("inputs", "65 inputs"), ("outputs", "65 outputs")])
def test_more_values_than_a_bundle_holds(tmp_path: Path, signature: str, words: str) -> None:
    many, one = [f"v{index}" for index in range(65)], ["x"]
    inputs, outputs = (many, ["y"]) if signature == "inputs" else (one, many)
    nodes = [helper.make_node("Sum", inputs, ["y"])] if signature == "inputs" else []
    nodes += [helper.make_node("Relu", ["x"], [name]) for name in many if signature == "outputs"]
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in names] for names in (inputs, outputs)
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", *values), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    with pytest.raises(UnsupportedModel, match=words):
        load(write(tmp_path, model))


def test_more_axes_than_a_bundle_holds(tmp_path: Path) -> None:
    shape = ", ".join(["1"] * 17)
    with pytest.raises(UnsupportedModel, match="'x' has 17 axes, expected at most 16"):
        load(
            write(
                tmp_path, onnx.parser.parse_model(graph_text("y = Relu (x)", f"float[{shape}] x", f"float[{shape}] y"))
            )
        )
