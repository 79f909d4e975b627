"""The table of deployed networks: its rows, where the weights are from, and what a cell says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.networks import chosen, images_of, main, trained
from benchmarks.networks_page import COLUMNS, Entry, page
from benchmarks.zoo import ROWS, scaled
from qcompiler.errors import UsageError
from qcompiler.train import deploy as deploying
from qcompiler.train.checkpoint import Checkpoint
from qcompiler.train.data import Data, Split
from tests.train.files import write_mnist

DEPLOYMENT = {
    "onnx_bytes": 123_456, "images": 1000, "same_class_onnxruntime": 1000, "onnxruntime_us_per_image": 1234.56,
    "quantized_layers": 3, "same_class_bundle": 999, "differing": 1,
    "library_bytes": 5_000, "weight_bytes": 2_000, "exact": False, "us_per_image": 1.26, "lacks": "w4a4 (2 layers)",
}  # fmt: skip


def cells(text: str) -> dict[str, dict[str, str]]:
    """The cells of the table by network and column."""
    head, _, *lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {line[0]: dict(zip(head, line, strict=True)) for line in lines}


def test_cells_of_the_page() -> None:
    lines = [
        Entry("wide", "w4a4", "random", 4000, "1x2x3", DEPLOYMENT),
        Entry("broken", "w1a1", "random", 10, "1x2x3", None, "no | way"),
    ]
    text = page(lines, "a machine", 0.5, 8)
    assert "on a machine" in text and "size times 0.5" in text and "on 8 images" in text
    found = cells(text.replace("\\|", "/"))
    assert list(found["wide"]) == list(COLUMNS)
    assert list(found["wide"].values()) == [
        "wide", "w4a4", "1x2x3", "random", "4,000", "123.5", "5.0", "2.0", "8.0", "1.3", "1,234.6", "1,000", "1,000",
        "999", "1", "3", "no", "w4a4 (2 layers)",
    ]  # fmt: skip
    assert (found["broken"]["µs"], found["broken"]["exact"]) == ("-", "-")
    assert found["broken"]["lacks"] == "failed: no / way"


def checkpoint(path: Path, weights: str, size: int, **settings: object) -> None:
    config = {"network": "keras_mlp", "dataset": "mnist", "weights": weights, "name": "x", "seed": 0, **settings}
    path.parent.mkdir(parents=True)
    best = {"epoch": 1, "accuracy": 0.5}
    Checkpoint(config, (1, 8, 8), 10, "", 1, {"w": torch.zeros(size)}, best, [], 0.0).save(path)


def test_the_largest_trained_network_of_the_kind_is_taken(tmp_path: Path) -> None:
    row = ROWS["keras_mlp-ternary"]
    assert trained(row, (1, 8, 8), tmp_path) is None
    checkpoint(tmp_path / "a" / "best.pt", "binary", 10_000)
    checkpoint(tmp_path / "b" / "best.pt", "ternary", 10_000, dataset="svhn")
    assert trained(row, (1, 8, 8), tmp_path) is None
    for name, size in (("c", 10), ("d", 1000), ("e", 1000)):
        checkpoint(tmp_path / name / "best.pt", "ternary", size)
    assert trained(row, (1, 8, 8), tmp_path) == tmp_path / "d" / "best.pt"
    assert trained(row, (1, 28, 28), tmp_path) is None


@pytest.mark.parametrize("label", ROWS)
def test_widths_are_scaled(label: str) -> None:
    network = ROWS[label].network
    assert scaled(network, 1) == network
    smaller = scaled(network, 1 / 8)
    assert (smaller.w_bits, smaller.a_bits) == (network.w_bits, network.a_bits)
    assert (smaller != network) == (label != "quicknet")
    scaled(network, 1e-6).check()


def test_images_are_enlarged() -> None:
    images = torch.arange(8 * 3 * 4 * 5, dtype=torch.uint8).reshape(8, 3, 4, 5)
    split = Split(images, torch.arange(8))
    data = Data(split, split, split, (3, 4, 5), 10, "", "")
    row = ROWS["bireal18"]
    found = images_of(row, data, 2)
    assert (found.shape, found.classes, len(found.test), len(found.train)) == ((3, 28, 35), 1000, 2, 8)
    assert torch.equal(found.test.images[:, :, ::7, ::7], images[:2])
    assert torch.equal(found.test.images[:, :, 6::7, 6::7], images[:2])


def test_rows_by_name() -> None:
    assert list(chosen(["keras_mlp", "lenet"])) == ["lenet", "keras_mlp-binary", "keras_mlp-ternary", "keras_mlp-w4a4"]
    assert list(chosen([])) == list(ROWS)
    with pytest.raises(UsageError, match="no network 'vgg'"):
        chosen(["vgg"])


def test_one_network_from_images_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "SECONDS", 0.01)
    write_mnist(tmp_path / "mnist")
    output = tmp_path / "networks.md"
    arguments = ["--data-dir", str(tmp_path), "--images", "12", "--width-scale", "0.05", "-o", str(output)]
    assert main([*arguments, "--networks", "scratch_mlp-sign"]) == 0
    (line,) = cells(output.read_text()).values()
    assert (line["network"], line["weights"], line["image"]) == ("scratch_mlp-sign", "random", "1x28x28")
    same = (line["images"], line["same class, onnxruntime"], line["same class, bundle"])
    assert same == ("12",) * 3
    assert (line["exact"], line["lacks"], line["quantized layers"]) == ("yes", "-", "4")
    assert main(["--networks", "none"]) == 2
