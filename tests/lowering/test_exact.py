"""What TVM's functions must not take differently from ONNX: where reductions start, and how floats are rounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import qcompiler
from qcompiler.ir import oracle
from tests.lowering.region import Region, check
from tests.lowering.region import model as region_model

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g ({kind}[5, 7] x) => ({kind}[5] high, {kind}[5] low, int64[5] first, int64[5] last, int64[5] small, int64[5] late) {{
    axis = Constant <value_ints = [1]> ()
    high = ReduceMax <keepdims = 0> (x, axis)
    low = ReduceMin <keepdims = 0> (x, axis)
    first = ArgMax <axis = 1, keepdims = 0> (x)
    last = ArgMax <axis = 1, keepdims = 0, select_last_index = 1> (x)
    small = ArgMin <axis = 1, keepdims = 0> (x)
    late = ArgMin <axis = 1, keepdims = 0, select_last_index = 1> (x)
}}"""


def rows(low: float, high: float, dtype: str) -> np.ndarray:
    x = np.random.default_rng(0).integers(-3, 4, (5, 7)).astype(dtype)
    x[0], x[1], x[2, ::2] = low, high, low
    x[3, 3:] = high
    return x


@pytest.mark.parametrize(
    ("kind", "dtype", "low", "high"),
    [
        ("float", "float32", -np.inf, np.inf),
        ("float", "float32", np.finfo(np.float32).min, np.finfo(np.float32).max),
        ("int32", "int32", np.iinfo(np.int32).min, np.iinfo(np.int32).max),
        ("int64", "int64", np.iinfo(np.int64).min, np.iinfo(np.int64).max),
    ],
)
def test_rows_of_extremes(tmp_path: Path, kind: str, dtype: str, low: float, high: float) -> None:
    model = onnx.parser.parse_model(TEXT.format(kind=kind))
    onnx.save(model, tmp_path / "model.onnx")
    bundle = qcompiler.compile(tmp_path / "model.onnx", mcpu=["x86-64"], output=tmp_path / "out", verify=False)
    inputs = {"x": rows(low, high, dtype)}
    want = oracle.run(model, inputs)
    for name, array in bundle.run(inputs).items():
        np.testing.assert_array_equal(array, want[name], err_msg=name, strict=True)


POOL = """<ir_version: 10, opset_import: ["" : 21]>
g (float[1, 3, 4, 4] x) => (float[1, 3, 2, 2] y) {
    y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
}"""


def test_a_pool_of_infinities(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(POOL)
    onnx.save(model, tmp_path / "model.onnx")
    bundle = qcompiler.compile(tmp_path / "model.onnx", mcpu=["x86-64"], output=tmp_path / "out", verify=False)
    x = np.random.default_rng(0).standard_normal((1, 3, 4, 4), np.float32)
    x[0, 0], x[0, 1, :2] = -np.inf, -np.inf
    want = oracle.run(model, {"x": x})
    np.testing.assert_array_equal(bundle.run({"x": x})["y"], want["y"], strict=True)


ROUNDING = np.float32(3 << 22)
STEPS = {
    "cast": lambda x, c, y: [
        helper.make_node("Clip", [x, "low", "high"], [f"{y}/clip"]),
        helper.make_node("Cast", [f"{y}/clip"], [f"{y}/integer"], to=TensorProto.INT32),
        helper.make_node("Cast", [f"{y}/integer"], [y], to=TensorProto.FLOAT),
    ],
    "add": lambda x, c, y: [helper.make_node("Add", [x, c], [y])],
    "subtract": lambda x, c, y: [helper.make_node("Sub", [x, c], [y])],
    "there and back": lambda x, c, y: [
        helper.make_node("Add", [x, c], [f"{y}/there"]),
        helper.make_node("Sub", [f"{y}/there", c], [y]),
    ],
    "from": lambda x, c, y: [helper.make_node("Sub", [c, x], [y])],
    "twice": lambda x, c, y: [helper.make_node("Add", [x, x], [y])],
    "scale": lambda x, c, y: [helper.make_node("Mul", [x, "half"], [y])],
    "round": lambda x, c, y: [helper.make_node("Round", [x], [y])],
    "relu": lambda x, c, y: [helper.make_node("Relu", [x], [y])],
    "without": lambda x, c, y: [
        helper.make_node("Sub", ["x", c], [f"{y}/shifted"]),
        helper.make_node("Sub", [f"{y}/shifted", x], [y]),
    ],
}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from(["small", "large", "rounding"])), min_size=1))
def test_chains_of_elementwise_ops(chain: list[tuple[str, str]]) -> None:
    check_chain(chain)


def check_chain(chain: list[tuple[str, str]]) -> None:
    constants = {
        "small": np.float32(0.3),
        "large": np.float32(1e9),
        "rounding": ROUNDING,
        "half": np.float32(0.5),
        "low": np.float32(-1e6),
        "high": np.float32(1e6),
    }
    nodes = [
        node
        for i, (kind, constant) in enumerate(chain)
        for node in STEPS[kind](f"v{i - 1}" if i else "x", constant, f"v{i}")
    ]
    x = (np.random.default_rng(len(chain)).standard_normal((4, 16)) * 10).astype(np.float32)
    used = {name for node in nodes for name in node.input}
    proto = region_model(nodes, {"x": x}, {k: np.asarray(v) for k, v in constants.items() if k in used})
    check(proto, {"x": x})


@pytest.mark.parametrize("length", [1, 2, 8])
def test_chains_of_casts(length: int) -> None:
    """Each reads its operand many times: what is inlined must not grow exponentially."""
    check_chain([("cast", "small"), ("add", "small")] * length)


@pytest.mark.parametrize(
    "body",
    [
        "y = Relu (x)",
        "y = Clip (x, low, high)",
        "y = Clip (x, low)",
        "y = Clip (x, , high)",
        "y = HardSigmoid (x)",
        "y = Elu (x)",
        "y = Selu (x)",
        "y = LeakyRelu (x)",
        "a = Mul (x, high) b = Relu (a) y = Clip (b, low, high)",
    ],
)
def test_nan_and_negative_zero_pass_bounds(body: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["" : 21]> g (float[1, 19] x) => (float[1, 19] y)
    <float low = {{-0.5}}, float high = {{0.75}}> {{ {body} }}"""
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    x = np.linspace(-2, 2, 19, dtype=np.float32).reshape(1, 19)
    x[0, ::3], x[0, 1::6] = np.nan, -0.0
    assert np.isnan(oracle.run(proto, {"x": x})["y"][0, ::3]).all()
    check(proto, {"x": x}, tolerance=1e-6)
    if body in ("y = Relu (x)", "y = Clip (x, low, high)"):
        assert np.signbit(Region(proto).run({"x": x})["y"][0, 1::6]).all()


TANGENT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[3, 33] x) => (float[3, 33] y) { y = Tanh (x) }"""


@pytest.fixture(scope="module")
def tangent(tmp_path_factory: pytest.TempPathFactory) -> qcompiler.Bundle:
    folder = tmp_path_factory.mktemp("tangent")
    onnx.save(onnx.parser.parse_model(TANGENT), folder / "model.onnx")
    return qcompiler.compile(folder / "model.onnx", mcpu=["x86-64"], output=folder / "out", verify=False)


@settings(max_examples=50, deadline=None)
@given(exponent=st.integers(-126, 7), seed=st.integers(0, 2**31))
def test_tangents_of_small_numbers_keep_their_digits(tangent: qcompiler.Bundle, exponent: int, seed: int) -> None:
    """Relative to each number, not to the largest: a network may hold nothing else."""
    x = np.random.default_rng(seed).uniform(-1, 1, (3, 33)).astype(np.float32) * np.float32(2.0**exponent)
    x[0, :4] = 0.0, -0.0, 1 / 16, -1 / 16
    found, expected = tangent.run({"x": x})["y"], np.tanh(x.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-44)
    assert (np.signbit(found) == np.signbit(x)).all()
