"""Operators that the front end writes with others, against onnxruntime and numpy, over their whole range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import qcompiler
from qcompiler.errors import UnsupportedModel
from qcompiler.frontend import load
from qcompiler.ir import oracle
from tests.frontend.files import write

CHECKS = [HealthCheck.function_scoped_fixture]


def model(body: str, inputs: str, result: str, opset: int = 21) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : {opset}]> g ({inputs}) => ({result} y) {{ {body} }}'
    )


@pytest.mark.parametrize("kind", ["float", "double"])
def test_softplus_keeps_its_digits_everywhere(tmp_path: Path, kind: str) -> None:
    """Compiled: what code generation makes of it counts."""
    path = write(tmp_path, model("y = Softplus (x)", f"{kind}[4000] x", f"{kind}[4000]"))
    bundle = qcompiler.compile(path, mcpu=["x86-64"], output=tmp_path / "out", verify=False)
    dtype = np.dtype(kind if kind == "double" else "float32")
    x = np.concatenate([np.linspace(-80, 80, 3000), np.linspace(-1, 1, 1000)]).astype(dtype)
    want = np.log1p(np.exp(-np.abs(x.astype(np.longdouble)))) + np.maximum(x, 0)
    np.testing.assert_allclose(bundle.run({"x": x})["y"], want.astype(dtype), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("base", ["float", "double", "int32", "int64"])
@pytest.mark.parametrize("exponent", ["float", "double", "int32", "int64"])
def test_powers_of_mixed_types(tmp_path: Path, base: str, exponent: str) -> None:
    original = model("y = Pow (x, e)", f"{base}[3,4] x, {exponent}[4] e", f"{base}[3,4]")
    x, e = np.arange(1, 13).reshape(3, 4), np.array([0, 1, 2, 3])
    inputs = {"x": x.astype(base.replace("float", "float32")), "e": e.astype(exponent.replace("float", "float32"))}
    found = oracle.run(load(write(tmp_path, original)), inputs)["y"]
    np.testing.assert_array_equal(found, oracle.run(original, inputs)["y"], strict=True)


def test_a_constant_exponent_takes_the_type_of_the_base(tmp_path: Path) -> None:
    graph = load(write(tmp_path, model("e = Constant <value_int = 2> () y = Pow (x, e)", "float[3] x", "float[3]")))
    assert [node.op_type for node in graph.graph] == ["Pow"]


NUMBERS = npst.arrays(np.float32, 6, elements=st.floats(-100, 100, width=32))


@given(NUMBERS, NUMBERS.filter(lambda b: bool((np.abs(b) > 1e-3).all())))
@settings(max_examples=60, deadline=None, suppress_health_check=CHECKS)
def test_remainders_have_the_sign_of_the_divisor(tmp_path: Path, a: np.ndarray, b: np.ndarray) -> None:
    graph = load(write(tmp_path, model("y = Mod (a, b)", "float[6] a, float[6] b", "float[6]", opset=28)))
    np.testing.assert_array_equal(oracle.run(graph, {"a": a, "b": b})["y"], np.mod(a, b))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_norms(tmp_path: Path, order: int, axis: int) -> None:
    original = model(f"y = LpNormalization <p = {order}, axis = {axis}> (x)", "float[4,5,3] x", "float[4,5,3]")
    x = np.random.default_rng(0).standard_normal((4, 5, 3), np.float32)
    x[1], x[:, 2], x[..., 1] = 0, 0, 0
    want = oracle.run(original, {"x": x})["y"]
    np.testing.assert_allclose(oracle.run(load(write(tmp_path, original)), {"x": x})["y"], want, rtol=1e-6)


@pytest.mark.parametrize(("time", "batch"), [(0, 1), (1, 0)])
def test_reversed_sequences(tmp_path: Path, time: int, batch: int) -> None:
    body = f"y = ReverseSequence <time_axis = {time}, batch_axis = {batch}> (x, n)"
    original = model(body, "float[4,4,2] x, int64[4] n", "float[4,4,2]")
    inputs = {"x": np.random.default_rng(0).standard_normal((4, 4, 2), np.float32), "n": np.array([4, 1, 3, 2])}
    found = oracle.run(load(write(tmp_path, original)), inputs)["y"]
    np.testing.assert_array_equal(found, oracle.run(original, inputs)["y"])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("y = Shape (x)", "is a constant"),
        ("y = Size (x)", "is a constant"),
        ("z = Neg (x) y = EyeLike (z)", "is a constant"),
        ("z, y = Dropout (x)", "is a constant"),
        ("y = LpNormalization <p = 3> (x)", "LpNormalization of order 3"),
    ],
)
def test_refusals(tmp_path: Path, body: str, words: str) -> None:
    original = model(body, "float[3,4] x", "")
    original.graph.output[0].ClearField("type")
    with pytest.raises(UnsupportedModel, match=words):
        load(write(tmp_path, original))


def test_a_mask_within_the_graph_is_a_constant(tmp_path: Path) -> None:
    body = "a, m = Dropout (x) f = Cast <to = 1> (m) y = Mul (a, f)"
    original = model(body, "float[3,4] x", "float[3,4]")
    x = np.random.default_rng(0).standard_normal((3, 4), np.float32)
    np.testing.assert_array_equal(oracle.run(load(write(tmp_path, original)), {"x": x})["y"], x)


def test_means_of_a_normalization_are_computed(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[3,8] x, float[8] s) => (float[3,8] y, float[3,1] m) {'
    original = onnx.parser.parse_model(text + " y, m = LayerNormalization (x, s) }")
    inputs = oracle.random_inputs(original, 0)
    bundle = qcompiler.compile(write(tmp_path, original), mcpu=["x86-64"], output=tmp_path / "out")
    want = oracle.run(original, inputs)
    for name, array in bundle.run(inputs).items():
        np.testing.assert_allclose(array, want[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("sizes", "left"), [([0, 4, 0], ["Identity"]), ([1, 0, 3], ["Split", "Concat"])])
def test_parts_of_size_zero_are_constants(tmp_path: Path, sizes: list[int], left: list[str]) -> None:
    """As rotary embeddings write them where every channel is turned."""
    body = f"n = Constant <value_ints = {sizes}> () a, b, c = Split <axis = 1> (x, n) z = Concat <axis = 1> (b, a, c)"
    original = model(f"{body} y = Concat <axis = 1> (z, b)", "float[2,4] x", "float[n,m]")
    graph = load(write(tmp_path, original))
    assert all(0 not in value.shape for node in graph.graph for value in (*node.inputs, *node.outputs))
    assert [node.op_type for node in graph.graph][: len(left)] == left
    inputs = oracle.random_inputs(original, 0)
    np.testing.assert_array_equal(oracle.run(graph, inputs)["y"], oracle.run(original, inputs)["y"])


DYNAMIC = """<ir_version: 10, opset_import: ["" : 21]>
g (float[2,5] x) => (uint8[2,5] y, float s, uint8 z) { y, s, z = DynamicQuantizeLinear (x) }"""


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> qcompiler.Bundle:
    folder = tmp_path_factory.mktemp("dynamic")
    path = write(folder, onnx.parser.parse_model(DYNAMIC))
    return qcompiler.compile(path, mcpu=["x86-64"], output=folder / "out", verify=False)


@given(
    npst.arrays(np.float32, (2, 5), elements=st.sampled_from([0.0, -0.0, 1.0, -2.0, 0.375, 1e-3, 1e4]))
    | npst.arrays(np.float32, (2, 5), elements=st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-9))
)
@example(np.zeros((2, 5), np.float32))
@settings(max_examples=100, deadline=None)
def test_scales_of_the_data(dynamic: qcompiler.Bundle, x: np.ndarray) -> None:
    """As in onnxruntime to the bit, also where the data is 0 or all of one sign."""
    found = dynamic.run({"x": x})
    for name, array in oracle.run(onnx.parser.parse_model(DYNAMIC), {"x": x}).items():
        np.testing.assert_array_equal(found[name], array, name)
