"""FakeQuantize against a numpy transcription of OpenVINO's specification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import canonicalize, load
from qcompiler.ir import oracle
from qcompiler.ir.codes import Codes
from tests.frontend.files import write

SHAPE = (2, 3, 4)
LIMITS = ("input_low", "input_high", "output_low", "output_high")


def one_node(limits: dict[str, Any], levels: int) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in limits.items()]
    node = helper.make_node(
        "FakeQuantize", ["x", *limits], ["y"], name="f", domain="org.openvinotoolkit", levels=levels
    )
    x = [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)]
    graph = helper.make_graph([node], "g", x, [helper.make_empty_tensor_value_info("y")], stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("org.openvinotoolkit", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def specified(x: np.ndarray, low: Any, high: Any, out_low: Any, out_high: Any, levels: int) -> np.ndarray:
    """The specification, element by element in float32, where the limits differ; see the next function."""
    steps = np.float32(levels - 1)
    inside = np.clip(np.round((x - low) / (high - low) * steps), 0, steps)
    return np.asarray(inside / steps * (out_high - out_low) + out_low)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_numbers_are_those_of_the_specification(tmp_path: Path, data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(), (1, 1, 1), (3, 1), (1, 3, 1), (4,)]))
    count, levels = int(np.prod(shape, dtype=int)), data.draw(st.sampled_from([2, 3, 4, 16, 255, 256]))

    def drawn(kind: Any) -> np.ndarray:
        return np.asarray(data.draw(st.lists(kind, min_size=count, max_size=count)), np.float32).reshape(shape)

    low, width = drawn(st.sampled_from([0.0, -1.0, -1.28, 0.3])), drawn(st.sampled_from([1.0, 2.55, 3.0, 0.7]))
    out_low, out_width = drawn(st.sampled_from([0.0, -1.0, 0.3])), drawn(st.sampled_from([1.0, -2.0, 2.55]))
    limits = dict(zip(LIMITS, (low, low + width, out_low, out_low + out_width), strict=True))
    halves = st.integers(-6, 2 * levels + 4).map(lambda n: float(n) / 2 / (levels - 1))
    values = st.one_of(halves, st.floats(-9, 9, width=32))
    x = np.asarray(data.draw(st.lists(values, min_size=24, max_size=24)), np.float32).reshape(SHAPE)
    found = oracle.run(load(write(tmp_path, one_node(limits, levels))), {"x": x})["y"]
    expected = specified(x, *limits.values(), levels)
    if whole_steps(limits, levels):
        largest = max(np.abs(limits["output_low"]).max(), np.abs(limits["output_high"]).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=2.0**-21 * largest)
        assert not found[np.abs(expected) < 1e-5].any()
    else:
        np.testing.assert_array_equal(found, expected)


def whole_steps(limits: dict[str, np.ndarray], levels: int) -> bool:
    """Whether 0 is a level of every channel."""
    step = (limits["output_high"].astype(np.float64) - limits["output_low"]) / (levels - 1)
    steps = limits["output_low"] / step
    return bool(steps.any() and (np.abs(steps - np.rint(steps)) < 1e-5).all())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.sampled_from([0.0, 0.5, -0.37]),
    outputs=st.sampled_from([(-1.0, 1.0), (0.0, 1.0), (0.3, 0.7)]),
    values=st.lists(st.sampled_from([0.0, 0.5, -0.37, 1.0, -1.0, 0.25]), min_size=24, max_size=24),
)
def test_equal_limits_are_a_threshold(
    tmp_path: Path, limit: float, outputs: tuple[float, float], values: list[float]
) -> None:
    """x at the threshold gives output_low."""
    x = np.asarray(values, np.float32).reshape(SHAPE)
    proto = one_node(dict(zip(LIMITS, (limit, limit, *outputs), strict=True)), 2)
    model = canonicalize(write(tmp_path, proto))
    low, high = np.float32(outputs)
    np.testing.assert_array_equal(oracle.run(model, {"x": x})["y"], np.where(x > np.float32(limit), high, low))
    assert any(node.op_type == "Binarize" for node in model.graph) == (outputs == (-1.0, 1.0))


def test_a_quantizer_from_0_to_1_gives_codes(tmp_path: Path) -> None:
    model = load(write(tmp_path, one_node(dict(zip(LIMITS, (0, 1, 0, 1), strict=True)), 2)))
    assert [node.op_type for node in model.graph] == ["Quantize", "Add"]
    assert IntegerRanges().codes(model.graph.outputs[0]) == Codes(0, 1)


@pytest.mark.parametrize(
    ("limits", "levels", "error", "words"),
    [
        ((0, 1, 0, 1), 1, InvalidModel, "1 levels, expected 2"),
        ((0, np.nan, 0, 1), 4, InvalidModel, "input_high that is nan"),
        ((np.zeros(5), 1, 0, 1), 4, InvalidModel, "input_low of shape"),
        ((1, 0, 0, 1), 4, UnsupportedModel, "input_low of at least input_high"),
        (([0, 1, 0, 0], [1, 1, 1, 1], 0, 1), 4, UnsupportedModel, "in some places"),
    ],
)
def test_limits_that_are_none(
    tmp_path: Path, limits: tuple[Any, ...], levels: int, error: type[InvalidModel], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        load(write(tmp_path, one_node(dict(zip(LIMITS, limits, strict=True)), levels)))
    assert caught.value.node == "f"
