"""Every real model beside the repository loads and computes its reference outputs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.frontend import canonicalize, load
from qcompiler.ir import ops, oracle
from tests.frontend.files import MODELS, needs_models

MANIFEST: list[dict[str, Any]] = (
    json.loads((MODELS / "manifest.json").read_text()) if (MODELS / "manifest.json").is_file() else []
)


@needs_models
@pytest.mark.parametrize("rewrite", [load, canonicalize])
@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["name"])
def test_outputs_are_the_references(entry: dict[str, Any], rewrite: Any) -> None:
    model = rewrite(MODELS / entry["file"])
    check_canonical(model)
    reference = np.load(MODELS / entry["reference"])
    for index in range(entry["n_sets"]):
        inputs = {value.name: reference[f"in_{index}_{i}"] for i, value in enumerate(model.graph.inputs)}
        found = oracle.run(model, inputs)
        for i, value in enumerate(model.graph.outputs):
            want, tolerance = reference[f"out_{index}_{i}"], entry["tolerance"]
            np.testing.assert_allclose(found[value.name], want, rtol=tolerance["rtol"], atol=tolerance["atol"])


def check_canonical(model: ir.Model) -> None:
    assert (model.opset_imports[""], model.ir_version) == (ops.OPSET, ops.IR_VERSION)
    assert len({node.name for node in model.graph}) == len(list(model.graph))
    for node in model.graph:
        assert node.domain in ("", ops.DOMAIN)
        assert node.op_type not in ("Constant", "If", "Loop", "Scan")
        for value in node.outputs:
            assert value.dtype is not None and value.shape is not None and value.shape.is_static()


@needs_models
def test_binary_models_become_binary() -> None:
    names = ["torch_bnn/birealnet18_clean", "torch_bnn/binarynet_vggsmall", "qonnx_zoo/TFC_1W1A", "brevitas/CNV_1W1A"]
    for name in names:
        model = canonicalize(MODELS / f"{name}.onnx")
        left = [node.name for node in model.graph if node.op_type in ("Sign", "Where", "GreaterOrEqual")]
        assert left == [], name
        assert any(node.op_type == "Binarize" for node in model.graph)
