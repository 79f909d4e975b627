"""Weights of 8 bits whose products 16 bits seldom overflow are multiplied in another way than others (AVX2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import qcompiler
from qcompiler.targets.architecture import host_features
from qcompiler.targets.x86 import TARGET
from qcompiler.targets.x86.machine import supports
from tests.end_to_end.test_zero_points_of_weights import SHAPES, network

(AVX2,) = TARGET.variants(["avx2"])


@pytest.mark.parametrize(("spread", "family"), [(20, "sorted_conv2d"), (70, "words_conv2d")], ids=["small", "large"])
@pytest.mark.parametrize("kind", ["Conv", "MatMul"])
def test_the_way_follows_the_weights(
    tmp_path: Path, kind: str, spread: int, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "MatMul":
        monkeypatch.setitem(SHAPES, kind, (96, 40))
    weights = np.rint(np.random.default_rng(1).standard_normal(SHAPES[kind]) * spread + 128).clip(0, 255)
    model = network(kind, 128)
    for tensor in model.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.uint8), "w"))
    if kind == "MatMul":
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 40
    # verification runs the library where the processor has the instructions
    runs = supports(AVX2.isa, host_features())
    onnx.save(model, tmp_path / "net.onnx")
    bundle = qcompiler.compile(tmp_path / "net.onnx", output=tmp_path / "out", mcpu=["avx2"], verify=runs)
    (row,) = (row for row in bundle.report["rows"] if row["macs"])
    assert row["kernel"].startswith(family)
