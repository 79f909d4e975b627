from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qcompiler
from qcompiler.passes.spell_out_sums import SpellOutSums
from tests.passes.comparison import apply, graph, normal, ops_of, rewritten

SHAPES = [(2, 3, 4), (1, 3, 1), (4,), (), (3, 4)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(SHAPES), min_size=2, max_size=5), st.integers(0, 99))
def test_any_operands(shapes: list[tuple[int, ...]], seed: int) -> None:
    """Of any shapes that go together, run-time values and constants: the same bits as before, whatever the order."""
    random = np.random.default_rng(seed)
    named = [("xyz"[i] if i < 2 else f"c{i}", shape) for i, shape in enumerate(shapes)]
    types = ["float" + (f"[{', '.join(map(str, shape))}]" if shape else "") for shape in shapes[:2]]
    inputs = ", ".join(f"{kind} {name}" for kind, (name, _) in zip(types, named, strict=False))
    constants = {name: np.asarray(normal(random, *shape), np.float32) for name, shape in named[2:]}
    model = graph(f"g ({inputs}) => (r) {{ r = Sum ({', '.join(name for name, _ in named)}) }}", **constants)
    assert apply(SpellOutSums(), model).rewrites == 1
    assert ops_of(model) == ["Add"] * (len(shapes) - 1)


@pytest.mark.parametrize("text", [
    "g (float[3] x) => (y) { y = Sum (x) }",
    "g (double[3] x, double[3] z) => (y) { y = Sum (x, z) }",
    "g (float[N] x, float[3] z) => (y) { y = Sum (x, z) }",
])  # fmt: skip
def test_others_are_left(text: str) -> None:
    model = graph(text)
    assert SpellOutSums()(model).rewrites == 0
    assert ops_of(model) == ["Sum"]


def test_before_and_after() -> None:
    before = """g (float[2, 3] x, float[2, 3] a, float[3] b) => (y) {
    y = Sum (x, a, b) }"""
    after = """
    Sum_y.add = Add (x, a)
    y = Add (Sum_y.add, b)"""
    assert rewritten(SpellOutSums(), before) == after


def test_a_layer_ends_in_a_sum(tmp_path: Path) -> None:
    """One kernel adds a branch to a convolution, as it does for Add."""
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[1, 16, 6, 6] x) => (float[1, 16, 6, 6] y) {
        c = Conv <pads = [1, 1, 1, 1]> (x, w)
        s = Sum (c, x)
        y = Relu (s)
    }"""
    model = onnx.parser.parse_model(text)
    weights = normal(np.random.default_rng(0), 16, 16, 3, 3)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "net.onnx")
    bundle = qcompiler.compile(tmp_path / "net.onnx", output=tmp_path / "out", mcpu=("baseline",))
    (layer,) = [row for row in bundle.report["rows"] if row["op"] == "Conv"]
    assert len(layer["nodes"]) == 3 and not any(row["kernel"] == "tvm" for row in bundle.report["rows"])
