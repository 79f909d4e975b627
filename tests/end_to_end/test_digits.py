"""The committed digits network: what the README's first command shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime

import qcompiler

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"


def test_every_variant_reproduces_all_held_out_digits_bit_for_bit(tmp_path: Path) -> None:
    held = np.load(DIGITS / "heldout.npz")
    images = held["pixels"].astype(np.float32) / 16
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(DIGITS / "model.onnx", settings, providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    compiled = qcompiler.compile(DIGITS / "model.onnx", output=tmp_path / "out")
    features = set(Path("/proc/cpuinfo").read_text().split())
    usable = [variant for variant in compiled.variants if features.issuperset(variant.features)]
    assert usable
    for variant in usable:
        bundle = qcompiler.load(tmp_path / "out", variant=variant.name)
        scores = np.concatenate([bundle.run({"image": image[None]})["scores"] for image in images])
        np.testing.assert_array_equal(scores, expected, err_msg=variant.name)
        assert (scores.argmax(1) == held["labels"]).mean() >= 0.96


def test_three_of_its_four_layers_are_binary(tmp_path: Path) -> None:
    report = qcompiler.compile(DIGITS / "model.onnx", output=tmp_path / "out", verify=False).report
    assert (report["binary_layers"], report["layers"]) == (3, 4)


def test_quickstart_prints_accuracy_agreement_size_and_speed() -> None:
    done = subprocess.run(
        [sys.executable, DIGITS / "quickstart.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "98.61% of 359 held-out digits" in done.stdout
    assert "100.00% equal predictions, largest difference 0\n" in done.stdout
    assert "KiB of weights" in done.stdout
    assert "µs per digit" in done.stdout
