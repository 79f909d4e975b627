"""The table of networks quantized after training: what a cell says, and one network from training to the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.posttraining import main
from benchmarks.posttraining_page import Entry, page
from tests.benchmarks.test_networks import cells
from tests.train.files import write_mnist


def test_changes_are_against_the_same_network_in_float() -> None:
    lines = [
        Entry("a", None, 0.9, 1000, 40_000),
        Entry("b", None, 0.5, 1000, 80_000),
    ]
    text = page([*lines, Entry("a", 4, 0.875, 1000, 5_120)], "a machine", 17)
    assert "on a machine" in text and "with 17 training images" in text
    assert text.splitlines()[-1] == "| a | 4 | 1,000 | 87.50 | -2.50 | 5.1 |"
    assert cells(text)["b"] == {
        "network": "b", "bits": "float32", "test images": "1,000", "accuracy %": "50.00", "change": "-",
        "weights kB": "80.0",
    }  # fmt: skip


def test_a_network_from_training_to_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mnist(tmp_path / "mnist")
    output, runs = tmp_path / "page.md", tmp_path / "runs"
    arguments = ["--data-dir", str(tmp_path), "--runs", str(runs), "--networks", "lenet", "-o", str(output)]
    arguments += ["--set", "epochs=1", "filters=4", "hidden=8", "validation=8", "batch_size=8"]
    assert main([*arguments, "--bits", "8"]) == 0
    rows = [line.split(" | ") for line in output.read_text().splitlines() if line.startswith("| lenet")]
    assert [row[1] for row in rows] == ["float32", "8"]
    assert abs(float(rows[1][4])) <= 10 and float(rows[1][5].rstrip(" |")) < float(rows[0][5].rstrip(" |"))
    before = (runs / "lenet_float" / "seed0" / "best.pt").stat().st_mtime_ns
    assert main([*arguments, "--bits", "4"]) == 0
    assert (runs / "lenet_float" / "seed0" / "best.pt").stat().st_mtime_ns == before
    capsys.readouterr()
    assert main([*arguments, "--bits", "9"]) == 2
    assert "expected widths of 1 to 8" in capsys.readouterr().err
