"""Reductions of rows that hold nothing but infinities or extremes, compiled, against onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import qcompiler
from qcompiler.ir import oracle

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
