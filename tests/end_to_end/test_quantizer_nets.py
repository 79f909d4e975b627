"""Networks by onnxruntime's quantizers: all compile, are verified, and have layers of the widths that they should."""

from __future__ import annotations

from pathlib import Path

import pytest

import qcompiler
from tests.end_to_end.quantizer_nets import BLOCKS, NETS, QUANTIZERS, made

ALL = [(net, quantizer) for net in NETS for quantizer in QUANTIZERS]
ALL += [(net, quantizer) for net in ("mlp", "attention") for quantizer in BLOCKS]
FEW = [("resnet", "qoperator_s8s8_channels"), ("depthwise", "dynamic_u8_channels")]


def check(folder: Path, net: str, quantizer: str) -> None:
    bundle = qcompiler.compile(made(folder, net, quantizer), output=folder / "out")
    layers = [row for row in bundle.report["rows"] if row["macs"]]
    # run-time products have no weights, and blocks of weights are no grid of one scale
    constant = [row for row in layers if row["w_bits"] <= 8]
    if quantizer in QUANTIZERS:
        bits = 16 if "u16" in quantizer else 8
        assert len(constant) >= 3 and all(row["a_bits"] <= bits for row in constant)


@pytest.mark.parametrize(("net", "quantizer"), FEW)
def test_a_few(tmp_path: Path, net: str, quantizer: str) -> None:
    check(tmp_path, net, quantizer)


@pytest.mark.slow
@pytest.mark.parametrize(("net", "quantizer"), [each for each in ALL if each not in FEW])
def test_all_others(tmp_path: Path, net: str, quantizer: str) -> None:
    check(tmp_path, net, quantizer)
