from __future__ import annotations

import json
from pathlib import Path

import qcompiler
from qcompiler.report import Row, table
from tests.networks import binary_cnn


def test_the_report_counts_layers_and_says_why(tmp_path: Path) -> None:
    bundle = qcompiler.compile(binary_cnn(tmp_path / "cnn.onnx"), output=tmp_path / "out", mcpu=("baseline",))
    report = bundle.report
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    rows = [Row(**row) for row in report["rows"]]
    assert (report["layers"], report["binary_layers"]) == (3, 2)
    assert report["macs"] == 16 * 64 * 27 + 16 * 64 * 144 + 5 * 256
    assert report["binary_macs"] == report["macs"] - 16 * 64 * 27
    first = next(row for row in rows if row.op == "Conv")
    assert (first.w_bits, first.a_bits) == (32, 32)
    assert "image" in first.note and "put a sign before it" in first.note
    assert all((row.w_bits, row.a_bits) == (1, 1) for row in rows if row.op.startswith("Binary") and row.macs)
    assert len(table(rows).rows) == len(bundle.steps)
    assert "2 of 3 layers binary" in bundle.report_text.splitlines()[-1]
