"""Real quantized models that nobody of this project wrote, against their reference outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcompiler

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"

# Layers whose weights and activations are both 1 bit. The manifest's bin_exact counts layers with binary weights, which
# includes a first layer on real input (binarynet_vggsmall: 8, of which 7 read signs).
BINARY_LAYERS = {
    "qonnx_zoo.TFC_1W1A": (4, 4),
    "brevitas.CNV_1W1A": (9, 9),
    "torch_bnn.binarynet_vggsmall": (7, 8),
    "torch_bnn.birealnet18_clean": (16, 21),
    "torch_bnn.xnornet_alpha": (4, 6),
    "torch_bnn.bnn_mlp_odd_sizes_batch5": (3, 3),
    "float.mnist_cntk_opset8": (0, 3),
}

# Wider codes: results only.
WIDER = (
    "brevitas.ternary_binary_grouped_conv",
    "brevitas.TFC_1W2A_dynamo",
    "qonnx_zoo.TFC_2W2A",
    "qonnx_zoo.qkeras_jettagging",
    "qonnx_zoo.unsw_nb15-mlp-w2a2",
    "qdq.mlp_qdq_u8act_s4w",
    "qdq.resnet18_int8_qdq_s8s8_perchannel",
)


def manifest() -> dict[str, dict[str, Any]]:
    path = MODELS / "manifest.json"
    return {entry["name"]: entry for entry in json.loads(path.read_text())} if path.exists() else {}


@pytest.mark.skipif(not MODELS.exists(), reason=f"the model collection {MODELS} is not here")
@pytest.mark.parametrize("name", (*BINARY_LAYERS, *WIDER))
def test_model_compiles_and_matches_its_reference(name: str, tmp_path: Path) -> None:
    entry = manifest()[name]
    bundle = qcompiler.compile(MODELS / entry["file"], output=tmp_path / "out")
    rows = [row for row in bundle.report["rows"] if row["macs"]]
    if name in BINARY_LAYERS:
        assert (sum(row["integers"] for row in rows), len(rows)) == BINARY_LAYERS[name]
    folded = entry.get("weights_after_folding")
    if folded:
        assert sum(row["w_bits"] == 1 for row in rows) == folded["bin_exact"]
    reference = np.load(MODELS / entry["reference"])
    for variant in bundle.variants:
        try:
            runnable = qcompiler.load(tmp_path / "out", variant=variant.name)
        except qcompiler.errors.UnsupportedCpu:
            continue
        for index in range(entry["n_sets"]):
            inputs = {t.name: reference[f"in_{index}_{k}"] for k, t in enumerate(runnable.inputs)}
            outputs = runnable.run(inputs)
            for k, tensor in enumerate(runnable.outputs):
                expected = reference[f"out_{index}_{k}"]
                limits = entry["tolerance"]
                np.testing.assert_allclose(
                    outputs[tensor.name], expected, rtol=limits["rtol"], atol=limits["atol"], err_msg=variant.name
                )
