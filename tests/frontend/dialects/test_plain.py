from __future__ import annotations

from collections import Counter
from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.frontend import canonicalize, load
from qcompiler.ir import oracle
from qcompiler.ir.provenance import NOTE
from qcompiler.ir.quantizing import Quantizer
from tests.frontend.files import graph_text, save

TINY = np.float32(1e-45)
EDGES = np.array([-np.inf, -3, -1, -0.5, -TINY, -0.0, 0.0, TINY, 2**-24, 0.1, 0.5, 1, 3, np.inf], np.float32)
N = EDGES.size

ONE = """zero = Constant <value_float = 0.0> ()
one = Constant <value_float = 1.0> ()
minus = Constant <value_float = -1.0> ()
"""
TWO = """two = Constant <value_float = 2.0> ()
half = Constant <value_float = 0.5> ()
tenth = Constant <value_float = 0.1> ()
"""


def rewritten(folder: Path, body: str, signature: str = f"float[{N}] x", result: str = f"float[{N}] y"):
    text = graph_text(ONE + TWO + body, signature, result)
    return onnx.parser.parse_model(text), canonicalize(save(folder, text))


def ops(model: ir.Model) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph))


def zeros(model: ir.Model) -> list[float]:
    return [node.attributes["zero"].as_float() for node in model.graph if node.op_type == "Binarize"]


# body, operators afterwards, the code at zero
EXACT = {
    "sign": ("y = Sign (x)", {"Binarize": 1}, 0.0),
    "where-ge": ("c = GreaterOrEqual (x, zero) y = Where (c, one, minus)", {"Binarize": 1}, 1.0),
    "where-gt": ("c = Greater (x, zero) y = Where (c, one, minus)", {"Binarize": 1}, -1.0),
    "where-lt": ("c = Less (x, zero) y = Where (c, minus, one)", {"Binarize": 1}, 1.0),
    "where-le": ("c = LessOrEqual (x, zero) y = Where (c, minus, one)", {"Binarize": 1}, -1.0),
    "where-flipped": ("c = Less (zero, x) y = Where (c, one, minus)", {"Binarize": 1}, -1.0),
    "where-flipped-le": ("c = LessOrEqual (zero, x) y = Where (c, one, minus)", {"Binarize": 1}, 1.0),
    "where-not": ("c = Less (x, zero) d = Not (c) y = Where (d, one, minus)", {"Binarize": 1}, 1.0),
    "where-swapped": ("c = GreaterOrEqual (x, zero) y = Where (c, minus, one)", {"Binarize": 1, "Neg": 1}, 1.0),
    "where-scaled": (
        "c = GreaterOrEqual (x, zero) n = Neg (tenth) y = Where (c, tenth, n)",
        {"Binarize": 1, "Mul": 1},
        1.0,
    ),
    "where-sign-fixed": ("s = Sign (x) c = Equal (s, zero) y = Where (c, one, s)", {"Binarize": 1}, 1.0),
    "where-x-fixed": ("s = Sign (x) c = Equal (x, zero) y = Where (c, minus, s)", {"Binarize": 1}, -1.0),
    "where-threefold": (
        "p = Greater (x, zero) n = Less (x, zero) w = Where (n, minus, zero) y = Where (p, one, w)",
        {"Binarize": 1},
        0.0,
    ),
    "cast": (
        "c = GreaterOrEqual (x, zero) f = Cast <to = 1> (c) d = Mul (f, two) y = Sub (d, one)",
        {"Binarize": 1},
        1.0,
    ),
    "cast-gt": (
        "c = Greater (x, zero) f = Cast <to = 1> (c) d = Mul (two, f) y = Add (d, minus)",
        {"Binarize": 1},
        -1.0,
    ),
    "cast-difference": (
        "p = GreaterOrEqual (x, zero) n = Less (x, zero) a = Cast <to = 1> (p) b = Cast <to = 1> (n) y = Sub (a, b)",
        {"Binarize": 1},
        1.0,
    ),
    "larq": ("s = Sign (x) a = Add (s, tenth) y = Sign (a)", {"Binarize": 1}, 1.0),
    "larq-negative": ("s = Sign (x) a = Sub (s, tenth) y = Sign (a)", {"Binarize": 1}, -1.0),
    "clip": ("k = Clip (x, minus, one) y = Sign (k)", {"Binarize": 1}, 0.0),
    "clip-where": (
        "k = Clip (x, minus, one) c = GreaterOrEqual (k, zero) y = Where (c, one, minus)",
        {"Binarize": 1},
        1.0,
    ),
    "clip-at-zero": ("k = Clip (x, zero, one) c = Greater (k, zero) y = Where (c, one, minus)", {"Binarize": 1}, -1.0),
    "relu": ("k = Relu (x) c = Greater (k, zero) y = Where (c, one, minus)", {"Binarize": 1}, -1.0),
    "threshold": ("c = GreaterOrEqual (x, tenth) y = Where (c, one, minus)", {"Sub": 1, "Binarize": 1}, 1.0),
    "threshold-clip": (
        "k = Clip (x, minus, one) c = Less (tenth, k) y = Where (c, one, minus)",
        {"Sub": 1, "Binarize": 1},
        -1.0,
    ),
    "threshold-at-clip": (
        "k = Clip (x, minus, one) c = GreaterOrEqual (k, one) y = Where (c, one, minus)",
        {"Sub": 1, "Binarize": 1},
        1.0,
    ),
    "round": (
        "a = Add (x, one) h = Div (a, two) k = Clip (h, zero, one) r = Round (k) d = Mul (r, two) y = Sub (d, one)",
        {"Sub": 1, "Binarize": 1},
        -1.0,
    ),
    "hard-sigmoid": (
        "h = HardSigmoid <alpha = 0.5, beta = 0.5> (x) r = Round (h) d = Mul (r, two) y = Sub (d, one)",
        {"Sub": 1, "Binarize": 1},
        -1.0,
    ),
    "halves": (
        "c = GreaterOrEqual (x, zero) f = Cast <to = 1> (c) g = Sub (f, half) y = Mul (g, two)",
        {"Binarize": 1},
        1.0,
    ),
    "round-falling": (
        "a = Sub (one, x) h = Mul (a, half) k = Clip (h, zero, one) r = Round (k) d = Mul (r, two) y = Sub (one, d)",
        {"Sub": 1, "Binarize": 1},
        1.0,
    ),
    "floor": (
        "a = Add (x, one) k = Clip (a, zero, one) r = Floor (k) d = Mul (r, two) y = Sub (d, one)",
        {"Sub": 1, "Binarize": 1},
        1.0,
    ),
    "sign-of-code": ("s = Sign (x) a = Add (s, tenth) t = Sign (a) y = Sign (t)", {"Binarize": 1}, 1.0),
    "sign-scaled": ("s = Sign (x) y = Mul (s, tenth)", {"Binarize": 1, "Mul": 1}, 0.0),
    "subtract-itself": ("s = Sign (x) n = Sub (x, x) y = Add (n, s)", {"Binarize": 1}, 0.0),
}


@pytest.mark.parametrize("case", EXACT)
def test_idiom_becomes_binarize_with_equal_values(tmp_path: Path, case: str) -> None:
    body, expected, zero = EXACT[case]
    original, model = rewritten(tmp_path, body)
    assert ops(model) == expected
    assert zeros(model) == [zero]
    x = EDGES if case != "subtract-itself" else EDGES[1:-1]
    x = np.resize(x, N)
    want = oracle.run(original, {"x": x})["y"]
    np.testing.assert_array_equal(oracle.run(model, {"x": x})["y"], want)


@pytest.mark.parametrize("case", ["where-ge", "where-gt", "where-flipped", "cast", "cast-gt", "threshold"])
def test_nan_is_minus_one_as_in_the_comparison(tmp_path: Path, case: str) -> None:
    original, model = rewritten(tmp_path, EXACT[case][0])
    x = np.full(N, np.nan, np.float32)
    np.testing.assert_array_equal(oracle.run(original, {"x": x})["y"], -np.ones(N, np.float32))
    np.testing.assert_array_equal(oracle.run(model, {"x": x})["y"], -np.ones(N, np.float32))


DETACHED = {
    "x + (q - x)": "s = Sign (x) d = Sub (s, x) y = Add (x, d)",
    "(q - x) + x": "s = Sign (x) d = Sub (s, x) y = Add (d, x)",
    "x - (x - q)": "s = Sign (x) d = Sub (x, s) y = Sub (x, d)",
    "clip": "k = Clip (x, minus, one) s = Sign (k) d = Sub (s, k) y = Add (k, d)",
    "polynomial": "s = Sign (x) q = Mul (x, x) p = Add (q, x) d = Sub (s, p) y = Add (d, p)",
    "twice": "s = Sign (x) d = Sub (s, x) z = Add (x, d) e = Sub (z, x) y = Add (e, x)",
}


@pytest.mark.parametrize("case", DETACHED)
def test_straight_through_remainder_disappears(tmp_path: Path, case: str) -> None:
    original, model = rewritten(tmp_path, DETACHED[case])
    assert {name: count for name, count in ops(model).items() if name != "Identity"} == {"Binarize": 1}
    assert any("straight-through" in node.metadata_props.get(NOTE, "") for node in model.graph)
    x = np.linspace(-2, 2, N, dtype=np.float32)
    np.testing.assert_allclose(oracle.run(model, {"x": x})["y"], oracle.run(original, {"x": x})["y"], atol=1e-6)


def test_straight_through_remainder_of_rounding_is_exact(tmp_path: Path) -> None:
    original, model = rewritten(
        tmp_path, "m = Mul (x, two) r = Round (m) d = Sub (r, m) s = Add (m, d) y = Div (s, two)"
    )
    assert ops(model) == {"Mul": 1, "Round": 1, "Div": 1}
    x = np.linspace(-9, 9, N, dtype=np.float32)
    np.testing.assert_array_equal(oracle.run(model, {"x": x})["y"], oracle.run(original, {"x": x})["y"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scale=st.sampled_from([1.0, 0.5, 0.37]),
    zero=st.integers(-2, 2),
    low=st.integers(-2, 2),
    rounding=st.sampled_from(["ROUND", "FLOOR", "UP", "HALF_DOWN"]),
    order=st.sampled_from(["SHIFT_ROUND", "ROUND_SHIFT"]),
    values=arrays.arrays(np.float32, N, elements=st.floats(-4, 4, width=32)),
)
def test_a_quantizer_of_two_codes_is_a_sign(
    tmp_path: Path, scale: float, zero: int, low: int, rounding: str, order: str, values: np.ndarray
) -> None:
    """2 (q - low) - 1 of codes low and low + 1, as DoReFa has it."""
    text = f"""<ir_version: 10, opset_import: ["": 21, "qcompiler": 1]> g (float[{N}] x) => (float[{N}] y)
    <float s = {{{scale}}}, float z = {{{zero}}}, float l = {{{low}}}, float two = {{2}}, float one = {{1}}> {{
        q = qcompiler.Quantize <low = {float(low)}, high = {float(low + 1)}, rounding = "{rounding}",
                                order = "{order}"> (x, s, z)
        a = Sub (q, l) b = Mul (a, two) y = Sub (b, one) }}"""
    model = canonicalize(save(tmp_path, text))
    assert set(ops(model)) <= {"Sub", "Binarize"}
    exact = {"low": low, "high": low + 1, "rounding": rounding, "order": order}
    codes = Quantizer(**exact)(values, np.float32(scale), np.float32(zero))
    np.testing.assert_array_equal(oracle.run(model, {"x": values})["y"], 2 * (codes - low) - 1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("e = Exp (x) d = Sub (e, x) y = Add (x, d)", {"Exp": 1, "Sub": 1, "Add": 1}),
        ("s = Sign (x) d = Sub (s, x) y = Add (one, d)", {"Binarize": 1, "Sub": 1, "Add": 1}),
        ("s = Sign (x) d = Sub (s, x) y = Sub (x, d)", {"Binarize": 1, "Sub": 2}),
        ("s = Sign (x) d = Sub (x, s) y = Add (x, d)", {"Binarize": 1, "Sub": 1, "Add": 1}),
    ],
)
def test_other_differences_stay(tmp_path: Path, body: str, expected: dict[str, int]) -> None:
    assert ops(rewritten(tmp_path, body)[1]) == expected


def test_computed_scale_of_live_weights(tmp_path: Path) -> None:
    body = """
    a = Abs (w) axes = Constant <value_ints = [1]> () m = ReduceMean <keepdims = 1> (a, axes) n = Neg (m)
    c = GreaterOrEqual (w, zero) q = Where (c, m, n) y = MatMul (x, q)"""
    original, model = rewritten(tmp_path, body, "float[2, 3] x, float[3, 4] w", "float[2, 4] y")
    assert ops(model) == {"Abs": 1, "ReduceMean": 1, "Binarize": 1, "Mul": 1, "MatMul": 1}
    inputs = oracle.random_inputs(model, 3)
    np.testing.assert_array_equal(oracle.run(model, inputs)["y"], oracle.run(original, inputs)["y"])


def test_constants_of_the_activation_shape_and_per_channel(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        graph_text(
            "ge = GreaterOrEqual (x, zeros) minus = Neg (ones) s = Where (ge, ones, minus) b = Greater (s, t) "
            "y = Where (b, alpha, beta)",
            "float[2, 3, 4] x",
            "float[2, 3, 4] y",
        )
    )
    alpha = np.array([0.5, -2, 3], np.float32).reshape(3, 1)
    for name, array in {
        "zeros": np.zeros((2, 3, 4), np.float32),
        "ones": np.ones((2, 3, 4), np.float32),
        "t": np.float32(0.25),
        "alpha": alpha,
        "beta": -alpha,
    }.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    result = canonicalize(path)
    assert ops(result) == {"Binarize": 1, "Mul": 1}
    x = np.arange(-12, 12, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(oracle.run(result, {"x": x})["y"], oracle.run(model, {"x": x})["y"])


@pytest.mark.parametrize(
    "body",
    [
        "c = GreaterOrEqual (x, zero) y = Where (c, one, zero)",
        "c = GreaterOrEqual (x, zero) y = Where (c, two, minus)",
        "k = Clip (x, tenth, one) r = Round (k) d = Mul (r, two) y = Sub (d, tenth)",
        "c = GreaterOrEqual (x, zero) y = Where (c, x, minus)",
        "k = Clip (x, zero, two) r = Round (k) y = Sub (r, one)",
    ],
)
def test_what_is_not_plus_minus_one_stays(tmp_path: Path, body: str) -> None:
    original, model = rewritten(tmp_path, body)
    assert "Binarize" not in ops(model)
    np.testing.assert_array_equal(oracle.run(model, {"x": EDGES})["y"], oracle.run(original, {"x": EDGES})["y"])


@pytest.mark.parametrize(("clip", "op"), [("Relu (x)", "Relu"), ("Clip (x, minus, zero)", "Clip")])
def test_sign_of_a_clip_that_ends_at_zero_stays(tmp_path: Path, clip: str, op: str) -> None:
    original, model = rewritten(tmp_path, f"k = {clip} y = Sign (k)")
    assert ops(model) == {op: 1, "Sign": 1}
    np.testing.assert_array_equal(oracle.run(model, {"x": EDGES})["y"], oracle.run(original, {"x": EDGES})["y"])


def test_graph_outputs_keep_their_names(tmp_path: Path) -> None:
    text = graph_text(
        ONE + "s = Sign (x) c = GreaterOrEqual (x, zero) y = Where (c, one, minus)", result="float[8] y, float[8] s"
    )
    model = canonicalize(save(tmp_path, text))
    assert [value.name for value in model.graph.outputs] == ["y", "s"]
    x = np.array([-2, -1, -0.0, 0, 1, 2, 3, 4], np.float32)
    found = oracle.run(model, {"x": x})
    np.testing.assert_array_equal(found["s"], np.sign(x))
    np.testing.assert_array_equal(found["y"], np.where(x >= 0, 1, -1).astype(np.float32))


def test_rewriting_twice_changes_nothing(tmp_path: Path) -> None:
    _, model = rewritten(tmp_path, EXACT["where-scaled"][0])
    again = canonicalize(save_ir(tmp_path, model))
    assert ops(again) == ops(model)
    assert [node.name for node in again.graph] == [node.name for node in model.graph]


def save_ir(folder: Path, model: ir.Model) -> Path:
    path = folder / "again.onnx"
    path.write_bytes(ir.to_proto(model).SerializeToString())
    return path


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    threshold=FLOATS,
    scale=st.floats(2**-10, 2**10, width=32),
    compare=st.sampled_from(["Greater", "GreaterOrEqual", "Less", "LessOrEqual"]),
    x=arrays.arrays(np.float32, 6, elements=FLOATS),
)
def test_any_threshold_is_exact(tmp_path: Path, threshold: float, scale: float, compare: str, x: np.ndarray) -> None:
    body = f"c = {compare} (x, t) y = Where (c, s, n)"
    model = onnx.parser.parse_model(graph_text(body))
    for name, value in {"t": threshold, "s": scale, "n": -scale}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, np.float32), name))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    t = np.float32(threshold)
    x = np.concatenate([x, [t, np.nextafter(t, np.float32(0), dtype=np.float32)]]).astype(np.float32)
    found = canonicalize(path)
    assert "Where" not in ops(found)
    np.testing.assert_array_equal(oracle.run(found, {"x": x})["y"], oracle.run(model, {"x": x})["y"])


FINITE = EDGES[1:-1]
CONSTANTS = {"zero": 0.0, "one": 1.0, "minus": -1.0, "half": 0.5, "two": 2.0, "tenth": 0.1}
NAMES = st.sampled_from(sorted(CONSTANTS))


@st.composite
def elementwise_nodes(draw: st.DrawFn) -> str:
    """Nodes v0, v1, ... that read x, earlier nodes and constants; the last of them is y."""
    floats, conditions, lines = ["x"], [], []
    for index in range(draw(st.integers(2, 9))):
        kind = draw(st.sampled_from(["unary", "binary", "compare", "where", "cast", "not"]))
        operand = st.sampled_from(floats[-3:])
        name = f"v{index}"
        if kind == "compare" or (kind in ("where", "cast", "not") and not conditions):
            op = draw(st.sampled_from(["Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"]))
            sides = draw(st.permutations([draw(operand), draw(NAMES)]))
            lines.append(f"{name} = {op} ({sides[0]}, {sides[1]})")
            conditions.append(name)
            continue
        if kind == "unary":
            op = draw(st.sampled_from(["Sign", "Neg", "Relu", "Abs", "Round", "Floor", "Identity"]))
            lines.append(f"{name} = {op} ({draw(operand)})")
        elif kind == "binary":
            op = draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Max", "Min"]))
            other = draw(st.sampled_from(["one", "minus", "half", "two", "tenth"]))
            lines.append(f"{name} = {op} ({draw(operand)}, {other})")
        elif kind == "where":
            branches = st.one_of(operand, NAMES, NAMES)
            lines.append(f"{name} = Where ({draw(st.sampled_from(conditions))}, {draw(branches)}, {draw(branches)})")
        elif kind == "cast":
            lines.append(f"{name} = Cast <to = 1> ({draw(st.sampled_from(conditions))})")
        else:
            lines.append(f"{name} = Not ({draw(st.sampled_from(conditions))})")
            conditions.append(name)
            continue
        floats.append(name)
    return "\n".join([*lines, f"k = Clip ({floats[-1]}, minus, one) s = Sign (k) y = Add (s, {floats[-1]})"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=elementwise_nodes())
def test_any_elementwise_graph_keeps_its_values(tmp_path: Path, body: str) -> None:
    shape = f"float[{FINITE.size}]"
    path = save(tmp_path, graph_text(ONE + TWO + body, f"{shape} x", f"{shape} y, {shape} s"))
    want = oracle.run(load(path), {"x": FINITE})
    found = oracle.run(canonicalize(path), {"x": FINITE})
    for name in ("y", "s"):
        np.testing.assert_array_equal(found[name], want[name])
