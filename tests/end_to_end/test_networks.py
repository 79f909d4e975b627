"""Every network that can be trained: the same classes in torch, in onnxruntime and compiled, quantized layers exact.

Narrow networks with random weights and BatchNorm statistics of real images (generated ones where MNIST and CIFAR-10 are
not at hand): one kind of every family on a few images; every kind on the whole test sets with `-m slow`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.networks import calibrated
from benchmarks.zoo import ROWS, Row, resized
from qcompiler.train import deploy as deploying
from qcompiler.train.data import Data, Split, to_input
from qcompiler.train.data.cifar10 import PACKS, read_pack
from qcompiler.train.data.mnist import MNIST, read_idx
from qcompiler.train.deploy import Deployment, deploy
from qcompiler.train.networks import NETWORKS

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
WIDTHS = {"hidden": 64, "width": 24, "filters": 24, "nfa": 32, "nfb": 32, "nfc": 32, "size": "small"}
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
# AlexNet takes no smaller image
ENLARGED = {"xnornet_alexnet": 2}
IMAGES = 100
CALIBRATION = 200
# random weights decide narrowly, so that a sign on the other side can change the class
DIFFERING = 5e-3

# nothing but weights is quantized, or not even they
REAL = {"moons-float", "moons-qnn", "moons-bnn", "scratch_mlp-relu"}
# one kind of every family, and Moons' n-bit one, in the default run; QuickNet, which cannot be narrowed, takes too long
SAMPLED = (
    "binarynet_mlp-ternary", "binarynet_vgg-binary", "xnornet_mlp", "xnornet_vgg-alpha", "xnornet_alexnet-alpha",
    "moons-full-qnn-w4a4", "moons-full-bnn", "lenet", "resnet18-w1a1", "lsq_resnet18-w2a2", "reactnet18", "bireal18",
    "keras_mlp-w4a4", "keras_cnn-binary",
    "scratch_mlp-relu",
)  # fmt: skip


def quantized(labels: Iterable[str]) -> list[str]:
    """The labels of networks with quantized layers."""
    return [label for label in labels if label not in REAL]


@functools.cache
def images(name: str) -> torch.Tensor:
    """Test images, uint8 [N, C, H, W]."""
    if name == "mnist" and (SHARED / "mnist").is_dir():
        file = MNIST.files[2]
        return torch.from_numpy(read_idx(SHARED / "mnist" / file.remote.name, file)[0])[:, None]
    if name == "cifar10" and (SHARED / "cifar10" / PACKS[1]).exists():
        return torch.from_numpy(read_pack(SHARED / "cifar10" / PACKS[1])[0])
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (CALIBRATION, *SHAPES[name]), dtype=torch.uint8, generator=generator)


def split(chosen: torch.Tensor, factor: int) -> Split:
    enlarged = chosen.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return Split(enlarged, torch.zeros(len(enlarged), dtype=torch.int64))


def data(row: Row, count: int | None) -> Data:
    factor = ENLARGED.get(row.name, 1)
    test, calibration = split(images(row.data)[:count], factor), split(images(row.data)[-CALIBRATION:], factor)
    channels, height, width = test.images.shape[1:]
    return Data(calibration, calibration, test, (channels, height, width), 10, row.data, "")


@functools.cache
def deployed(label: str, count: int | None, folder: Path) -> dict[str, Any]:
    """The deployment of the narrow network of a row; measured once for the tests of one label."""
    row = ROWS[label]
    network = resized(row.network, WIDTHS)
    source = data(row, count)
    torch.set_num_threads(1)
    return deploy(calibrated(network, source), source, folder / label, mcpu=("native",))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "SECONDS", 0.01)


def rounded_otherwise(label: str, count: int | None) -> int:
    """How many images have another class in torch where it computes in float64."""
    row = ROWS[label]
    source = data(row, count)
    network = calibrated(resized(row.network, WIDTHS), source).eval()
    single, double = (classes(network.to(dtype), source.test, dtype) for dtype in (torch.float32, torch.float64))
    return int((single != double).sum())


@torch.no_grad()
def classes(network: torch.nn.Module, images: Split, dtype: torch.dtype) -> torch.Tensor:
    return torch.cat([network(to_input(part).to(dtype)).argmax(1) for part in images.images.split(500)])


def check_classes(result: dict[str, Any], label: str, count: int | None) -> None:
    """Every image has torch's class, but for those where `deploy` shows that float rounding errors decide.

    They may be few; more only where torch itself differs as much between its own two precisions.
    """
    assert list(result) == list(Deployment.__dataclass_fields__)
    assert result["images"] == (count or len(images(ROWS[label].data)))
    unlike = result["images"] - min(result["same_class_onnxruntime"], result["same_class_bundle"])
    assert unlike <= result["differing"]
    if result["differing"] > result["images"] * DIFFERING:
        assert result["differing"] <= 2 * rounded_otherwise(label, count)


def check_exact(result: dict[str, Any]) -> None:
    assert result["quantized_layers"] > 1
    assert (result["lacks"], result["exact"]) == (None, True)


def test_every_network_is_here() -> None:
    assert {row.name for row in ROWS.values()} == set(NETWORKS)
    assert {ROWS[label].name for label in SAMPLED} == set(NETWORKS) - {"quicknet"}
    assert ROWS.keys() >= REAL


@pytest.mark.parametrize("label", SAMPLED)
def test_the_same_classes(label: str, folder: Path) -> None:
    check_classes(deployed(label, IMAGES, folder), label, IMAGES)


@pytest.mark.parametrize("label", quantized(SAMPLED))
def test_quantized_layers_are_exact(label: str, folder: Path) -> None:
    check_exact(deployed(label, IMAGES, folder))


@pytest.mark.slow
@pytest.mark.parametrize("label", ROWS)
def test_the_same_classes_on_the_whole_test_set(label: str, folder: Path) -> None:
    check_classes(deployed(label, None, folder), label, None)


@pytest.mark.slow
@pytest.mark.parametrize("label", quantized(ROWS))
def test_quantized_layers_are_exact_after_the_whole_test_set(label: str, folder: Path) -> None:
    check_exact(deployed(label, None, folder))
