from __future__ import annotations

import time

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from qcompiler.passes.jumps import TIE, Jump, jumps, jumps_before


def parsed(body: str) -> ir.Graph:
    text = f"<ir_version: 10, opset_import: ['' : 18, 'qcompiler' : 1]> g (float[1,4] x) => (float[1,4] y) {{ {body} }}"
    return ir.from_proto(onnx.parser.parse_model(text.replace("'", '"'))).graph


@pytest.mark.parametrize(
    ("op", "places"),
    [("Sign", [0.0]), ("Binarize", [0.0]), ("Round", [-1.5, 0.5, 7.5]), ("Floor", [-3.0, 0.0, 7.0]), ("Ceil", [2.0])],
)
def test_near_a_jump(op: str, places: list[float]) -> None:
    place, far = np.array(places), np.full(len(places), 0.25)
    jump, largest = Jump(op, "x"), np.array([8.25])
    inside, outside = 0.9 * TIE * 8.25, 1.1 * TIE * 8.25
    values = np.concatenate([place, place + inside, place - inside, place + outside, place - outside, far, largest])
    near = jump.near(values)
    assert near.tolist() == [True] * 3 * len(places) + [False] * (3 * len(places) + 1)
    # those that lie on the jump itself are decided
    assert jump.undecided(values) == 2 * len(places)


def test_quantization_rounds_multiples_of_its_scale() -> None:
    values = np.array([[0.25, 0.26, 40.0], [0.25, 0.5, 0.75]])
    each = Jump("QuantizeLinear", "x", (0.5, 1.0), 0)
    assert each.near(values).tolist() == [[True, False, False], [False, True, False]]
    one = Jump("QuantizeLinear", "x", (0.5,))
    assert one.near(values).tolist() == [[True, False, False], [True, False, True]]


def test_infinities_are_no_scale() -> None:
    assert Jump("Sign", "x").near(np.array([np.inf, 1.0, 1e-6])).tolist() == [False, False, True]


def test_jumps_of_a_graph() -> None:
    graph = parsed("a = Round(x) b = Relu(a) c = qcompiler.Binarize(b) d = Sign(c) y = Softmax(d)")
    assert jumps(graph) == [Jump("Round", "x"), Jump("Binarize", "b"), Jump("Sign", "c")]


def test_jumps_before_a_stored_value() -> None:
    graph = parsed("a = Round(x) b = Relu(a) c = Floor(b) d = Softmax(c) e = Sign(d) y = Add(e, c)")
    assert jumps_before(graph, {"x", "b", "d", "y"}) == {
        "b": [Jump("Round", "x")],
        "d": [],
        "y": [Jump("Floor", "b"), Jump("Sign", "d")],
    }


def test_quantizations_in_a_graph() -> None:
    body = "q = QuantizeLinear <axis = 0> (x, s) d = DequantizeLinear(q, s) y = QuantizeLinear(d, x)"
    head = "<ir_version: 10, opset_import: ['' : 21]> g (float[1,4] x) => (uint8[1,4] y) <float s = {0.5}>"
    text = f"{head} {{ {body} }}"
    graph = ir.from_proto(onnx.parser.parse_model(text.replace("'", '"'))).graph
    # the second one has a scale of run time
    assert jumps_before(graph, {"d"}) == {"d": [Jump("QuantizeLinear", "x", (0.5,), 0)]}
    assert jumps(graph) == [Jump("QuantizeLinear", "x", (0.5,), 0)]


def test_shared_values_are_seen_once() -> None:
    doubled = " ".join(f"v{i + 1} = Add(v{i}, v{i})" for i in range(2000))
    graph = parsed(f"v0 = Round(x) {doubled} y = Neg(v2000)")
    start = time.monotonic()
    assert jumps_before(graph, {"y"}) == {"y": [Jump("Round", "x")]}
    assert time.monotonic() - start < 5
