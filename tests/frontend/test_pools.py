"""Pools of every opset and shape against onnxruntime, which runs each opset natively."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import qcompiler
from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel
from qcompiler.frontend import load
from qcompiler.ir import oracle
from tests.frontend.files import write

SIZES = st.integers(1, 7)


@st.composite
def pools(draw: st.DrawFn) -> tuple[onnx.NodeProto, tuple[int, ...], int]:
    """A pool, the shape of its image, and its opset."""
    op = draw(st.sampled_from(("MaxPool", "AveragePool")))
    opset = draw(st.sampled_from((10, 11, 18, 19, 21, 22)))
    rank = draw(st.integers(1, 2))

    def each(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(values, min_size=rank, max_size=rank))

    kernel = each(st.integers(1, 4))
    pads = [draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": each(st.integers(1, 4))}
    if draw(st.booleans()):
        attributes["auto_pad"] = draw(st.sampled_from(("SAME_UPPER", "SAME_LOWER", "VALID")))
    else:
        attributes["pads"] = pads
    if draw(st.booleans()):
        attributes["ceil_mode"] = 1
    if op == "MaxPool" or opset >= 19:
        attributes["dilations"] = each(st.integers(1, 2))
    if op == "AveragePool" and draw(st.booleans()):
        attributes["count_include_pad"] = 1
    return helper.make_node(op, ["x"], ["y"], **attributes), (1, 2, *each(SIZES)), opset


def model_of(node: onnx.NodeProto, shape: tuple[int, ...], opset: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info("y")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@given(pools())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_are_those_of_onnxruntime(tmp_path: Path, case: tuple[onnx.NodeProto, tuple[int, ...], int]) -> None:
    original = model_of(*case)
    inputs = {"x": np.random.default_rng(0).standard_normal(case[1], np.float32)}
    try:
        want = oracle.run(original, inputs)["y"]
    except QCompilerError:
        assume(False)
    try:
        model = load(write(tmp_path, original))
    except (UnsupportedModel, InvalidModel) as error:
        assert "auto_pad of" in str(error) or 0 in want.shape, error
        assume(False)
    assert tuple(model.graph.outputs[0].shape) == want.shape
    np.testing.assert_allclose(oracle.run(model, inputs)["y"], want, rtol=1e-6, atol=1e-6)


# overhanging, dropped and oversized windows, with and without padding in the average
TOGETHER = [
    {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": ceil}
    for kernel, strides, pads in (
        ([2, 3], [2, 2], [1, 1, 1, 1]),
        ([2, 2], [3, 2], [1, 0, 1, 1]),
        ([3, 3], [2, 3], [0, 2, 2, 1]),
        ([4, 1], [3, 2], [1, 0, 1, 0]),
        ([4, 4], [1, 4], [0, 0, 0, 0]),
    )
    for ceil in (0, 1)
]


@pytest.mark.parametrize(("opset", "size"), [(14, (3, 8)), (22, (5, 5)), (13, (3, 2))])
def test_compiled_windows_are_those_of_onnxruntime(tmp_path: Path, opset: int, size: tuple[int, int]) -> None:
    shape = (2, 3, *size)
    kinds: list[dict[str, Any]] = [{"op_type": "MaxPool"}, {"op_type": "AveragePool"}]
    kinds.append({"op_type": "AveragePool", "count_include_pad": 1})
    nodes = [helper.make_node(inputs=["x"], outputs=["y"], **kind, **given) for kind in kinds for given in TOGETHER]
    inputs = {"x": np.random.default_rng(1).standard_normal(shape, np.float32)}
    want, kept = {}, []
    for index, node in enumerate(nodes):
        try:
            found = oracle.run(model_of(node, shape, opset), inputs)["y"]
        except QCompilerError:
            continue
        if not found.size:
            continue
        want[f"y{index}"] = found
        node.output[0] = f"y{index}"
        kept.append(node)
    assert len(kept) >= 18
    original = model_of(kept[0], shape, opset)
    del original.graph.node[:], original.graph.output[:]
    original.graph.node.extend(kept)
    original.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in want)
    bundle = qcompiler.compile(write(tmp_path, original), mcpu=["x86-64"], output=tmp_path / "out")
    for name, array in bundle.run(inputs).items():
        np.testing.assert_allclose(array, want[name], rtol=1e-6, atol=1e-6, strict=True, err_msg=name)
