"""Plots of speeds show what a run measured: every width of a layer, every peer beside it, and whole networks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.arena import Result, Settings
from benchmarks.machine import Machine
from benchmarks.plots import BY_LAYER, SUMMARY, by_layer, layers, summary, timed, write
from benchmarks.table import write_json

MACHINE = Machine("a processor", 2, 2.5, {})


def result(row: str, contestant: str, precision: str, median: float | None, threads: int = 1, **more: str) -> Result:
    return Result(row, threads, contestant, precision, "1.0", 1000, median=median, **more)


RESULTS = [
    result("conv64", "qcompiler binary", "binary", 100e-6),
    result("conv64", "qcompiler int8", "int8", 500e-6),
    result("conv64", "OpenVINO binary", "binary", 130e-6),
    result("conv64", "LiteRT int8", "int8", 540e-6),
    result("conv64", "OpenVINO float32", "float32", 2000e-6),
    result("conv64-w2a2", "qcompiler few bits", "few bits", 310e-6),
    result("conv64-w2a2", "qcompiler int8", "int8", 501e-6),
    result("conv64-w2a2", "LiteRT int8", "int8", 541e-6),
    result("conv64-w2a2", "OpenVINO int8", "int8", None, failure="wrong output"),
    result("conv128-w1a4", "qcompiler few bits", "few bits", 210e-6),
    result("fc4096", "qcompiler binary", "binary", 24e-6),
    result("network", "qcompiler binary", "binary", 4200e-6),
    result("network", "onnxruntime int8", "int8", 10000e-6),
    result("network", "qcompiler binary", "binary", 2400e-6, threads=2),
]


def test_bars_are_of_every_width_and_markers_of_the_peers_in_the_same_rows() -> None:
    assert list(layers(timed(RESULTS, 1))) == ["conv64", "conv128"]
    layer = by_layer(RESULTS, MACHINE).axes[0]
    assert layer.get_title() == "conv 3x3, C64, 56x56"
    assert [text.get_text() for text in layer.get_xticklabels()] == ["w1a1", "w2a2", "w8a8"]
    assert [bar.get_height() for bar in layer.patches] == pytest.approx([100, 310, 500])
    shown = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in layer.lines}
    assert shown == {
        "OpenVINO binary": [(0, pytest.approx(130))],
        "LiteRT int8": [(0, pytest.approx(540)), (1, pytest.approx(541)), (2, pytest.approx(540))],
    }


def test_networks_stand_beside_the_layer_on_as_few_threads_as_were_measured() -> None:
    figure = summary(RESULTS, MACHINE)
    assert figure.get_suptitle() == "a processor, 2.50 GHz, 1 thread; less is faster"
    layer, networks = figure.axes
    assert len(layer.patches) == 3
    assert [bar.get_width() for bar in networks.patches] == pytest.approx([4.2, 10.0])
    assert [text.get_text().strip() for text in networks.texts] == ["qcompiler binary", "onnxruntime int8"]
    alone = [each for each in RESULTS if each.row != "network"]
    assert len(summary(alone, MACHINE).axes) == 1


def test_one_command_writes_the_same_bytes_again(tmp_path: Path) -> None:
    write_json(tmp_path / "results.json", MACHINE, Settings(), RESULTS)
    command = [sys.executable, "-m", "benchmarks.plots", tmp_path / "results.json", "-o", tmp_path / "pictures"]
    subprocess.run(command, check=True)
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {SUMMARY, BY_LAYER}
    write(RESULTS, MACHINE, tmp_path / "again")
    for name in names:
        drawn = (tmp_path / "pictures" / name).read_bytes()
        assert re.search(rb"<svg [^>]*xmlns", drawn) and drawn == (tmp_path / "again" / name).read_bytes()


def test_a_run_without_layers_of_few_bits_is_refused(tmp_path: Path) -> None:
    for results in (RESULTS[:5], []):
        with pytest.raises(ValueError, match="no layer was measured in few bits"):
            write(results, MACHINE, tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()
