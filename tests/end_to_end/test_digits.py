"""The committed digits network: what the README's first command shows, and the code that trained it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import qcompiler
from examples.digits import train
from qcompiler.nn import export_onnx
from tests.end_to_end.exact import exact_scores

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
MODEL = DIGITS / "model.onnx"


def test_every_variant_reproduces_all_held_out_digits_bit_for_bit(tmp_path: Path) -> None:
    held = np.load(DIGITS / "heldout.npz")
    images = held["pixels"].astype(np.float32) / 16
    compiled = qcompiler.compile(MODEL, output=tmp_path / "out")
    assert (compiled.report["binary_layers"], compiled.report["layers"]) == (3, 4)
    features = set(Path("/proc/cpuinfo").read_text().split())
    usable = [variant for variant in compiled.variants if features.issuperset(variant.features)]
    assert usable
    for variant in usable:
        scores = exact_scores(qcompiler.load(tmp_path / "out", variant=variant.name), MODEL, images)
        assert (scores.argmax(1) == held["labels"]).mean() >= 0.98


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


def test_the_committed_data_are_those_that_training_never_sees() -> None:
    training, _, images, labels = train.load()
    held = np.load(DIGITS / "heldout.npz")
    np.testing.assert_array_equal(held["pixels"] / 16, images.numpy())
    np.testing.assert_array_equal(held["labels"], labels.numpy())
    assert len(training) + len(images) == 1797
    three = torch.from_numpy(np.fromfile(DIGITS / "three.bin", np.float32)).reshape(1, 1, 8, 8)
    assert labels[(images == three).all(dim=(1, 2, 3))].tolist() == [3]


@pytest.mark.usefixtures("one_thread")
def test_training_learns_and_exports_the_graph_that_is_committed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images, labels, held_images, held_labels = train.load()
    net = train.network()
    train.fit(net, images, labels, epochs=2)
    assert train.accuracy(net, held_images, held_labels) >= 0.8
    export_onnx(net, held_images[:1], tmp_path / "model.onnx", check=False)
    files = [onnx.load(path).graph for path in (tmp_path / "model.onnx", MODEL)]
    mine, committed = ([(node.domain, node.op_type) for node in graph.node] for graph in files)
    assert mine == committed
