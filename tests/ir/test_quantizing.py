"""Quantize: its body in onnxruntime and its evaluation in numpy against the definition, at halves and far outside."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir import oracle
from qcompiler.ir.ops import attach_functions, quantizer_of
from qcompiler.ir.quantizing import ORDERS, ROUND_SHIFT, ROUNDINGS, SHIFT_ROUND, Quantizer

TEXT = """<ir_version: 10, opset_import: ["": 21, "qcompiler": 1]>
g (float[3,16] x, float[{c},1] s, float[{c},1] z) => (float[3,16] y) {{
    y = qcompiler.Quantize <low = {low}, high = {high}, rounding = "{rounding}", order = "{order}"> (x, s, z)
}}"""
DEFINITIONS = {
    "ROUND": np.round,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "UP": lambda v: np.sign(v) * np.ceil(np.abs(v)),
    "DOWN": np.fix,
    "HALF_UP": lambda v: np.sign(v) * np.floor(np.abs(v) + np.float32(0.5)),
    "HALF_DOWN": lambda v: np.sign(v) * np.ceil(np.abs(v) - np.float32(0.5)),
}


def model(channels: int, low: int, high: int, rounding: str, order: str) -> ir.Model:
    text = TEXT.format(c=channels, low=float(low), high=float(high), rounding=rounding, order=order)
    return ir.from_proto(onnx.parser.parse_model(text))


def defined(x: np.ndarray, s: np.ndarray, z: np.ndarray, quantizer: Quantizer) -> np.ndarray:
    rounded, low, high = DEFINITIONS[quantizer.rounding], np.float32(quantizer.low), np.float32(quantizer.high)
    if quantizer.order == SHIFT_ROUND:
        return np.asarray(rounded(np.clip(x / s + z, low, high)))
    return np.clip(rounded(x / s) + z, low, high)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_body_numpy_and_definition_are_one(data: st.DataObject) -> None:
    channels = data.draw(st.sampled_from([1, 3]))
    low = data.draw(st.integers(-300, 300))
    quantizer = Quantizer(
        low,
        low + data.draw(st.integers(0, 300)),
        data.draw(st.sampled_from(sorted(ROUNDINGS))),
        data.draw(st.sampled_from(ORDERS)),
    )
    numbers = st.one_of(st.integers(-40, 40).map(lambda n: n / 4), st.floats(-1e6, 1e6, width=32))
    x = np.asarray(data.draw(st.lists(numbers, min_size=48, max_size=48)), np.float32).reshape(3, 16)
    scales = st.sampled_from([1.0, 0.5, 0.0371, 3.25])
    s, z = (
        np.asarray(data.draw(st.lists(kind, min_size=channels, max_size=channels)), np.float32)[:, None]
        for kind in (scales, st.integers(-5, 5))
    )
    graph = model(channels, int(quantizer.low), int(quantizer.high), quantizer.rounding, quantizer.order)
    assert quantizer_of(graph.graph[0]) == quantizer
    want = defined(x, s, z, quantizer)
    np.testing.assert_array_equal(quantizer(x, s, z), want)
    np.testing.assert_array_equal(oracle.run(graph, {"x": x, "s": s, "z": z})["y"], want)


def test_the_orders_differ_at_halves_with_an_odd_zero_point() -> None:
    """Half to even of 0.5 is 0, and of 0.5 + 1 is 2."""
    x, one = np.asarray([0.5], np.float32), np.ones((), np.float32)
    codes = {order: float(Quantizer(0, 255, order=order)(x, one, one)[0]) for order in ORDERS}
    assert codes == {SHIFT_ROUND: 2.0, ROUND_SHIFT: 1.0}


def test_kinds_of_one_graph_have_bodies_of_their_own() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "qcompiler": 1]>
    g (float[1,16] x, float s, float z) => (float[1,16] a, float[1,16] b, float[1,16] c) {
        a = qcompiler.Quantize <low = -8.0, high = 7.0, rounding = "FLOOR"> (x, s, z)
        b = qcompiler.Quantize <low = -8.0, high = 7.0, rounding = "CEIL"> (x, s, z)
        c = qcompiler.Quantize <low = -4.0, high = 3.0> (x, s, z)
    }"""
    graph = ir.from_proto(onnx.parser.parse_model(text))
    attach_functions(graph)
    assert [key[2] for key in sorted(graph.functions)] == ["", "CEIL.SHIFT_ROUND", "FLOOR.SHIFT_ROUND"]
    x = np.linspace(-6, 6, 16, dtype=np.float32).reshape(1, 16)
    found = oracle.run(graph, {"x": x, "s": np.ones((), np.float32), "z": np.zeros((), np.float32)})
    for name, want in (("a", np.floor(x)), ("b", np.ceil(x)), ("c", np.clip(np.round(x), -4, 3))):
        np.testing.assert_array_equal(found[name], want)


@pytest.mark.parametrize("order", ORDERS)
def test_nan_stays_nan(order: str) -> None:
    found = Quantizer(0, 3, order=order)(np.asarray([np.nan], np.float32), np.ones((), np.float32), np.zeros(()))
    assert np.isnan(found).all()
