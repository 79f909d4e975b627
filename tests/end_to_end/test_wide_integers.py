"""Conversions between floats and integers of 64 bits, which 32-bit processors leave to helpers of the compiler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qcompiler
from tests.end_to_end.test_deployment import needs

PLACES = [("arm", "armv7", "arm"), ("arm", "generic", "aarch64"), ("cortex-m", "cortex-m4", "cortex-m"),
          ("cortex-m", "cortex-m0", "cortex-m"), ("wasm", "plain", "wasm32"), ("rv64", "rv64gc", "riscv64"),
          ("x86", "baseline", "x86_64")]  # fmt: skip


def there_and_back(path: Path) -> Path:
    """Floats made integers of 64 bits, two less, and floats again; and sums of such integers."""
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Sub", ["whole", "two"], ["less"]),
        helper.make_node("Cast", ["less"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["less", "axes"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["z"], to=TensorProto.FLOAT),
    ]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
             for name, shape in (("x", [1, 2, 2, 5]), ("y", [1, 2, 2, 5]), ("z", [1, 2, 2]))]  # fmt: skip
    constants = {"two": np.int64(2), "axes": np.asarray([3])}
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "wide", infos[:1], infos[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("target", "mcpu"), [pytest.param(*each, marks=needs(name), id="-".join(each)) for *each, name in PLACES]
)
def test_every_processor_converts_as_onnxruntime_does(target: str, mcpu: str, tmp_path: Path) -> None:
    model = there_and_back(tmp_path / "wide.onnx")
    says: list[str] = []
    qcompiler.compile(model, target=target, output=tmp_path / "out", mcpu=[mcpu], progress=says.append)
    assert any("verifying" in line for line in says)
