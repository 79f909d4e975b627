"""onnxruntime's fused float ops against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel
from qcompiler.frontend import load
from tests.frontend.dialects.integer_files import one_node, results
from tests.frontend.files import write

GENERATOR = np.random.default_rng(0)
DOMAIN = "com.microsoft"


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype(np.float32)


IMAGE = {"x": normal(1, 3, 6, 6), "w": normal(4, 3, 3, 3), "b": normal(4)}
MATRIX = {"a": normal(2, 4), "b": normal(4, 3), "c": normal(3)}


@pytest.mark.parametrize(
    ("op", "operands", "attributes"),
    [
        ("FusedMatMul", {"a": normal(2, 3, 4), "b": normal(2, 4, 5)}, {}),
        ("FusedMatMul", {"a": normal(2, 4, 3), "b": normal(5, 4)}, {"alpha": 0.3, "transA": 1, "transB": 1}),
        ("FusedMatMul", {"a": normal(4), "b": normal(5, 4)}, {"transA": 1, "transB": 1}),
        ("FusedConv", IMAGE, {"activation": "Relu", "pads": [1, 1, 0, 0]}),
        ("FusedConv", IMAGE | {"z": normal(1, 4, 4, 4)}, {"activation": "Tanh"}),
        ("FusedConv", IMAGE, {"activation": "LeakyRelu", "activation_params": [0.3]}),
        ("FusedConv", IMAGE, {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}),
        ("FusedConv", IMAGE, {"activation": "Clip", "activation_params": [-1.0, 1.5]}),
        ("FusedGemm", MATRIX, {"activation": "Relu", "alpha": 0.5}),
        ("FusedGemm", MATRIX, {"activation": "LeakyRelu", "activation_alpha": 0.25}),
        ("Gelu", {"x": normal(3, 4)}, {}),
        ("BiasGelu", {"x": normal(3, 4), "b": normal(4)}, {}),
        ("QuickGelu", {"x": normal(3, 4)}, {"alpha": 1.5}),
    ],
)
def test_results_are_those_of_onnxruntime(
    tmp_path: Path, op: str, operands: dict[str, np.ndarray], attributes: dict[str, Any]
) -> None:
    first = next(iter(operands))
    proto = one_node(op, list(operands.items()), [first], DOMAIN, **attributes)
    found, want = results(tmp_path, proto, {first: operands[first]})
    np.testing.assert_allclose(found["y"], want["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "error", "words"),
    [
        ("FusedMatMul", MATRIX, {"transBatchA": 1}, UnsupportedModel, "transposed batches"),
        ("FusedMatMul", MATRIX, {"alpha": float("nan")}, InvalidModel, "alpha nan"),
        ("FusedConv", IMAGE, {"activation": "Mystery"}, UnsupportedModel, "activation 'Mystery'"),
        ("FusedConv", IMAGE, {"activation": "Clip", "activation_params": [1.0]}, InvalidModel, "1 parameters of Clip"),
        ("FusedConv", IMAGE | {"w": normal(4, 2, 3, 3)}, {"activation": "Relu"}, InvalidModel, "do not fit"),
        ("QuickGelu", {"x": normal(2, 2)}, {"alpha": float("inf")}, InvalidModel, "alpha inf"),
    ],
)
def test_what_cannot_be_lowered(
    tmp_path: Path, op: str, operands: dict[str, Any], attributes: Any, error: type[QCompilerError], words: str
) -> None:
    count = 2 if op == "FusedMatMul" else len(operands)
    proto = one_node(op, list(operands.items())[:count], [next(iter(operands))], DOMAIN, **attributes)
    with pytest.raises(error, match=words) as caught:
        load(write(tmp_path, proto))
    assert caught.value.node == "node"
