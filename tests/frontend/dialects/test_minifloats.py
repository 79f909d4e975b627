"""FloatQuant of stored numbers, against a transcription of its reference implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import canonicalize
from qcompiler.ir import oracle
from tests.frontend.files import write

DOMAIN = "qonnx.custom_op.general"
E4M3 = {"scale": 1.0, "exponent": 4.0, "mantissa": 3.0, "bias": 7.0, "largest": 448.0}


def model(w: np.ndarray, numbers: dict[str, float], stored: bool = True, **settings: object) -> onnx.ModelProto:
    """x + FloatQuant(w), or with w as an input."""
    quantize = helper.make_node("FloatQuant", ["w", *numbers], ["q"], name="culprit", domain=DOMAIN, **settings)
    nodes = [quantize, helper.make_node("Add", ["x", "q"], ["y"], name="add")]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, w.shape) for name in ("x", "w")]
    tensors = [numpy_helper.from_array(np.asarray(number, np.float32), name) for name, number in numbers.items()]
    tensors += [numpy_helper.from_array(w, "w")] if stored else []
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, w.shape)]
    graph = helper.make_graph(nodes, "g", inputs[: 1 if stored else 2], result, tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def transcribed(w: np.ndarray, numbers: dict[str, float], rounding: np.ufunc) -> np.ndarray:
    scaled = w / np.float32(numbers["scale"])
    exponents = np.floor(np.log2(np.abs(scaled) + np.finfo(np.float32).tiny)) - numbers["mantissa"]
    ulp = np.exp2(np.maximum(exponents, 1 - numbers["bias"] - numbers["mantissa"])).astype(np.float32)
    largest = np.sum(2.0 ** -np.arange(numbers["mantissa"] + 1)) * 2 ** (2 ** numbers["exponent"] - 1 - numbers["bias"])
    largest = min(largest, numbers["largest"])
    return np.clip(ulp * rounding(scaled / ulp), np.float32(-largest), np.float32(largest)) * np.float32(
        numbers["scale"]
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 5),
    st.integers(0, 4),
    st.sampled_from([0.25, 1.0, 0.37]),
    st.sampled_from(["ROUND", "CEIL", "floor"]),
    st.lists(st.floats(-500, 500, width=32), min_size=8, max_size=8),
)
def test_numbers_are_those_of_the_reference(
    tmp_path: Path, exponent: int, mantissa: int, scale: float, mode: str, w: list[float]
) -> None:
    bias = 2.0 ** (exponent - 1) - 1
    numbers = {"scale": scale, "exponent": exponent, "mantissa": mantissa, "bias": bias, "largest": 448.0}
    stored = np.asarray(w, np.float32)
    found = canonicalize(write(tmp_path, model(stored, numbers, rounding_mode=mode)))
    y = oracle.run(found, {"x": np.zeros(8, np.float32)})["y"]
    rounding = {"ROUND": np.rint, "CEIL": np.ceil, "FLOOR": np.floor}[mode.upper()]
    np.testing.assert_array_equal(y, transcribed(stored, numbers, rounding))


@pytest.mark.parametrize(
    ("changed", "stored", "settings", "error", "words"),
    [
        ({}, False, {}, UnsupportedModel, "activations"),
        ({}, True, {"rounding_mode": "UP"}, InvalidModel, "rounding mode 'UP'"),
        ({}, True, {"saturation": 0}, UnsupportedModel, "infinite or NaN"),
        ({"scale": 0.0}, True, {}, InvalidModel, "scale"),
        ({"exponent": -1.0}, True, {}, InvalidModel, "exponent bits"),
        ({"mantissa": np.nan}, True, {}, InvalidModel, "mantissa bits"),
        ({"bias": 1e9}, True, {}, InvalidModel, "exponent bias"),
        ({"largest": -3.0}, True, {}, InvalidModel, "largest number"),
    ],
)
def test_refusals(tmp_path: Path, changed, stored: bool, settings, error, words: str) -> None:
    w = np.asarray([1000.0, 0.3], np.float32)
    with pytest.raises(error, match=words) as caught:
        canonicalize(write(tmp_path, model(w, E4M3 | changed, stored, **settings)))
    assert caught.value.node == "culprit"
