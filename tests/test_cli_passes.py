"""Passes by hand: what they print, what they write, and how they end on wrong input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from tests.networks import binary_cnn

ROOT = Path(__file__).resolve().parents[1]


def passes(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qcompiler.passes", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_all_passes_and_a_file_that_onnxruntime_runs(tmp_path: Path) -> None:
    model = binary_cnn(tmp_path / "cnn.onnx")
    done = passes(model, "--time", "-o", tmp_path / "out.onnx")
    assert done.returncode == 0, done.stderr
    assert " ms  fold-thresholds: 1 rewrites" in done.stdout
    assert "activations are real: it reads the graph input" in done.stdout
    assert {node.domain for node in onnx.load(tmp_path / "out.onnx").graph.node} >= {"qcompiler"}
    before, after = (onnxruntime.InferenceSession(path) for path in (model, tmp_path / "out.onnx"))
    (tensor,) = before.get_inputs()
    image = np.random.default_rng(0).standard_normal(tensor.shape).astype(np.float32)
    for one, other in zip(before.run(None, {tensor.name: image}), after.run(None, {tensor.name: image}), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_chosen_passes_run_in_their_order(tmp_path: Path) -> None:
    done = passes(binary_cnn(tmp_path / "cnn.onnx"), "-p", "split-biases,fold-constants", "--no-refusals")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["split-biases", "fold-constants"]


def test_wrong_names_and_broken_files(tmp_path: Path) -> None:
    model = binary_cnn(tmp_path / "cnn.onnx")
    done = passes(model, "-p", "fold-nothing")
    assert (done.returncode, done.stdout) == (2, "") and "choose among: fold-constants" in done.stderr
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    assert passes(tmp_path / "broken.onnx").returncode == 4
    assert passes(model, "-o", tmp_path / "nowhere" / "out.onnx").returncode == 2
