"""Transposed convolutions with padding in every spelling, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import qcompiler
from qcompiler.errors import QCompilerError, UnsupportedModel
from qcompiler.frontend import load
from qcompiler.ir import oracle
from tests.frontend.files import write

Layer = tuple[onnx.NodeProto, tuple[int, ...], tuple[int, ...]]


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """A node, and the shapes of its image and its weights."""
    rank = draw(st.integers(1, 2))

    def each(low: int, high: int, count: int = rank) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    group = draw(st.integers(1, 2))
    size, kernel, strides = each(1, 4), each(1, 4), each(1, 3)
    attributes: dict[str, Any] = {"strides": strides, "dilations": each(1, 2), "group": group}
    attributes["output_padding"] = [draw(st.integers(0, stride - 1)) for stride in strides]
    spelling = draw(st.sampled_from(("pads", "auto_pad", "output_shape")))
    if spelling == "pads":
        attributes["pads"] = each(0, 1, 2 * rank)
    else:
        attributes["auto_pad"] = draw(st.sampled_from(("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")))
    if spelling == "output_shape":
        attributes["output_shape"] = [draw(st.integers(1, 2 * k + 3 * n)) for n, k in zip(size, kernel, strict=True)]
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], **attributes)
    return node, (2, 2 * group, *size), (2 * group, 3, *kernel)


def model_of(layer: Layer) -> onnx.ModelProto:
    node, shape, weights = layer
    random = np.random.default_rng(0)
    stored = {"w": random.standard_normal(weights), "b": random.standard_normal(weights[1] * weights[0] // 2)}
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@given(layers())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_outputs_are_those_of_onnxruntime(tmp_path: Path, layer: Layer) -> None:
    original = model_of(layer)
    inputs = {"x": np.random.default_rng(1).standard_normal(layer[1], np.float32)}
    try:
        want = oracle.run(original, inputs)["y"]
    except QCompilerError:
        assume(False)
    assume(want.size)
    try:
        model = load(write(tmp_path, original))
    except UnsupportedModel as error:
        assert "output padding" in str(error)
        assume(False)
    np.testing.assert_allclose(oracle.run(model, inputs)["y"], want, rtol=1e-5, atol=1e-6, strict=True)


@given(layers())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_compiled_outputs_are_those_of_onnxruntime(tmp_path: Path, layer: Layer) -> None:
    original = model_of(layer)
    inputs = {"x": np.random.default_rng(1).standard_normal(layer[1], np.float32)}
    try:
        want = oracle.run(original, inputs)["y"]
        assume(want.size)
        path = write(tmp_path, original)
        bundle = qcompiler.compile(path, mcpu=["x86-64"], output=tmp_path / "out", verify=False, force=True)
    except QCompilerError as error:
        assert "output padding" in str(error) or "onnxruntime" in str(error), error
        assume(False)
    np.testing.assert_allclose(bundle.run(inputs)["y"], want, rtol=1e-4, atol=1e-5, strict=True)
