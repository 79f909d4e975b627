from __future__ import annotations

import itertools

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from qcompiler.ir import oracle
from qcompiler.ir.critical import critical_numbers, index_limit
from qcompiler.ir.samples import samples


def parsed(body: str, inputs: str = "float[1,4] x", result: str = "float[1,4] y", constants: str = "") -> ir.Model:
    imports = "['' : 21, 'qcompiler' : 1]"
    text = f"<ir_version: 10, opset_import: {imports}> g ({inputs}) => ({result}) {constants} {{ {body} }}"
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text.replace("'", '"')))
    return ir.from_proto(model)


@pytest.mark.parametrize(
    ("body", "constants", "numbers"),
    [
        ("y = Sign(x)", "", [0.0]),
        ("a = Sub(x, c) y = Sign(a)", "<float c = {0.75}>", [0.75]),
        ("a = Mul(x, c) b = Add(a, c) y = Sign(b)", "<float c = {-0.5}>", [-1.0]),
        ("a = Div(x, c) y = Round(a)", "<float c = {0.1}>", [0.05, 0.1, -0.25, 0.85]),
        ("a = Transpose(x) b = Reshape(a, s) y = Floor(b)", "<int64[2] s = {1, 4}>", [-3.0, 0.5, 2.0]),
        ("y = Clip(x, c, d)", "<float c = {-0.3}, float d = {0.6}>", [-0.3, 0.6]),
        ("a = Greater(x, c) y = Cast <to = 1> (a)", "<float c = {0.3}>", [0.3]),
        (
            'y = qcompiler.Quantize <low = 0.0, high = 255.0, order = "ROUND_SHIFT"> (x, c, z)',
            "<float c = {0.02}, float z = {3}>",
            [0.01, -0.05, 0.02 * 252.5],
        ),
    ],
)
def test_numbers_at_which_something_turns(body: str, constants: str, numbers: list[float]) -> None:
    found = critical_numbers(parsed(body, constants=constants).graph.inputs[0])
    for number in numbers:
        # and on both sides of it
        near = found[np.abs(found - np.float32(number)) <= 1e-6 * abs(number) + 1e-12]
        assert near.size >= 3


def test_a_value_without_turns_has_no_critical_numbers() -> None:
    assert not critical_numbers(parsed("y = Softmax(x)").graph.inputs[0]).size


def test_indices_stay_within_their_axis() -> None:
    model = parsed(
        "y = Gather <axis = 0> (t, x)", "int64[6] x", "float[6,2] y", "<float[3,2] t = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}>"
    )
    assert index_limit(model.graph.inputs[0]) == 3
    seen = set()
    for sample in itertools.islice(samples(model, 0), 30):
        seen |= set(sample.inputs["x"].tolist())
        oracle.run(model, sample.inputs)
    assert seen == {-3, -2, -1, 0, 1, 2}


def test_every_kind_comes_in_turn_and_is_reproducible() -> None:
    model = parsed(
        "a = Sign(x) y = Add(a, z)", "float[2,64] x, int8[2,64] n, bool[3] b, float[2,64] z", "float[2,64] y"
    )
    first, second = (list(itertools.islice(samples(model, 3), 20)) for _ in range(2))
    kinds = {sample.kind for sample in first}
    assert kinds == {
        "random", "zeros", "levels", "small integers", "constants", "mostly zeros", "extremes",
    }  # fmt: skip
    for one, other in zip(first, second, strict=True):
        assert one.kind == other.kind
        for name, array in one.inputs.items():
            np.testing.assert_array_equal(array, other.inputs[name])
    assert {a.dtype.name for s in first for a in s.inputs.values()} == {"float32", "int8", "bool"}
    by_kind = {sample.kind: sample.inputs for sample in first}
    assert not by_kind["zeros"]["x"].any() and np.signbit(by_kind["zeros"]["x"]).any()
    assert set(np.unique(by_kind["extremes"]["n"]).tolist()) == {-128, 127}
    assert np.unique(by_kind["constants"]["x"]).size == 1


@pytest.mark.parametrize(
    "body",
    [
        "y = qcompiler.Quantize <low = 0.0, high = 255.0> (x, s, z)",
        "a = Reshape(s, one) y = qcompiler.Quantize <low = 0.0, high = 255.0> (x, a, z)",
        "a = Div(x, s) b = Add(a, z) c = Clip(b, z, z) y = Round(c)",
    ],
)
def test_scales_of_run_time_are_positive(body: str) -> None:
    constants = "<float z = {0}, int64[1] one = {1}>"
    model = parsed(body, "float[1,4] x, float s", "float[1,4] y", constants)
    for sample in itertools.islice(samples(model, 0), 20):
        assert sample.inputs["s"] > 0


@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_powers_that_become_integers_are_some(kind: str) -> None:
    code = {"int32": 6, "int64": 7}[kind]
    body = f"a = Cast <to = 11> (x) b = Cast <to = 11> (e) p = Pow (a, b) y = Cast <to = {code}> (p)"
    model = parsed(body, f"{kind}[1,64] x, float[1,64] e", f"{kind}[1,64] y")
    for sample in itertools.islice(samples(model, 0), 20):
        power = sample.inputs["x"].astype(np.float64) ** sample.inputs["e"]
        assert np.isfinite(power).all() and power.max() < 2**31


def test_the_limits_of_64_bits_are_drawn_as_they_are() -> None:
    model = parsed("y = Identity (x)", "uint64[8] x", "uint64[8] y")
    seen = {n for sample in itertools.islice(samples(model, 0), 12) for n in sample.inputs["x"].tolist()}
    assert {0, 2**64 - 1} <= seen
