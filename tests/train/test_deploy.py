from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import qcompiler
from qcompiler.ir import oracle
from qcompiler.nn import QActivation, QConv2d, QLinear, input_quantizer
from qcompiler.train import deploy as deploying
from qcompiler.train.data import Data, Split, pixels_of, to_input
from qcompiler.train.deploy import Deployment, deploy, deployment_lines, missing_widths
from qcompiler.train.networks import NETWORKS, Network
from qcompiler.train.workload import LayerWork

IMAGES = 30


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(deploying, "SECONDS", 0.01)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def data() -> Data:
    images = torch.randint(0, 256, (IMAGES, 3, 8, 8), dtype=torch.uint8)
    split = Split(images, torch.zeros(IMAGES, dtype=torch.int64))
    return Data(split, split, split, (3, 8, 8), 10, "random", "")


def network(bits: int, data: Data) -> nn.Module:
    model = nn.Sequential(
        input_quantizer(),
        QConv2d(3, 32, 3, padding=1, bias=False, w_bits=bits),
        nn.BatchNorm2d(32),
        QActivation(bits),
        QConv2d(32, 32, 3, padding=1, bias=False, w_bits=bits),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(32),
        QActivation(bits),
        nn.Flatten(),
        QLinear(512, 10, bias=False, w_bits=bits),
        nn.BatchNorm1d(10),
    )
    model(to_input(data.train.images))
    return model


def test_a_binary_network(tmp_path: Path) -> None:
    images = data()
    model = network(1, images)
    result = deploy(model, images, tmp_path / "run")
    assert model.training
    assert list(result) == list(Deployment.__dataclass_fields__) and json.loads(json.dumps(result)) == result
    assert (result["images"], result["same_class_onnxruntime"], result["same_class_bundle"]) == (IMAGES,) * 3
    assert (result["quantized_layers"], result["exact"], result["lacks"]) == (3, True, None)
    assert result["us_per_image"] > 0 and result["onnxruntime_us_per_image"] > 0
    path = tmp_path / "run" / "model.onnx"
    bundle = qcompiler.load(tmp_path / "run" / "model.qc")
    assert bundle.manifest.pixels == pixels_of(images.test.images.shape[1])
    assert result["onnx_bytes"] == path.stat().st_size
    assert result["library_bytes"] == next(bundle.directory.glob("*.so")).stat().st_size
    # 1-bit weights of the binary layers, float ones of the first, and thresholds
    assert (9 * 32 * 32 + 512 * 10) / 8 < result["weight_bytes"] < result["onnx_bytes"] / 2
    image = to_input(images.test.images[:1]).numpy()
    expected = oracle.run(onnx.load(path), {"image": image})["scores"]
    np.testing.assert_allclose(bundle.run({"image": image})["scores"], expected, rtol=1e-5, atol=1e-5)


def test_a_wider_network_is_exact_too(tmp_path: Path) -> None:
    images = data()
    result = deploy(network(5, images), images, tmp_path)
    assert (result["same_class_onnxruntime"], result["same_class_bundle"]) == (IMAGES, IMAGES)
    assert (result["quantized_layers"], result["lacks"], result["exact"]) == (3, None, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [
        NETWORKS["scratch_mlp"](hidden=256, layers=3, head="batchnorm"),
        NETWORKS["binarynet_mlp"](hidden=256, layers=3, activation="relu"),
    ],
    ids=["from scratch", "BinaryConnect"],
)
def test_binary_weights_behind_real_activations_are_stored_as_bits(chosen: Network, tmp_path: Path) -> None:
    images = data()
    model = chosen.build(images.shape, images.classes)
    model(to_input(images.train.images))
    result = deploy(model, images, tmp_path, mcpu=["x86-64-v3"])
    assert (result["same_class_onnxruntime"], result["same_class_bundle"]) == (IMAGES, IMAGES)
    # beside the bits a grid of two floats, a scale and an offset for each output; the first layer's are at most bytes
    hidden, outputs = (2 * 256 + 16) * 256 // 8, 3 * 256 + 16
    assert hidden < result["weight_bytes"] < 192 * 256 + hidden + outputs * 5 * 4
    assert result["onnx_bytes"] > 4 * (192 + 2 * 256) * 256


class Determinants(nn.Module):
    """What no compiler of networks knows."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.det(x)


def test_a_refusal_of_the_compiler_is_recorded(tmp_path: Path) -> None:
    result = deploy(Determinants(), data(), tmp_path)
    assert "Det" in result["lacks"] and result["same_class_onnxruntime"] == IMAGES
    assert result["same_class_bundle"] is None and result["us_per_image"] is None
    assert (tmp_path / "model.onnx").exists() and not (tmp_path / "model.qc").exists()


def layer(name: str, w_bits: int, a_bits: int) -> LayerWork:
    return LayerWork(name, 1, 1, w_bits, a_bits, 1, 1)


def test_missing_widths() -> None:
    layers = [layer("a", 4, 8), layer("b", 4, 4), layer("c.0", 2, 2), layer("d", 32, 4), layer("e", 4, 4)]
    rows = [
        {"op": "Conv", "nodes": ["a/Conv", "x/BatchNormalization"]},
        {"op": "MatMul", "nodes": ["b/Gemm"]},
        {"op": "IntegerConv", "nodes": ["c.0/Conv"]},
        {"op": "Conv", "nodes": ["d/Conv"]},
        {"op": "Conv", "nodes": ["e/Conv_2"]},
    ]
    assert missing_widths(layers, rows) == ["w4a4 (2 layers)"]
    assert missing_widths(layers[:2], rows) == ["w4a4 (1 layer)"]
    assert missing_widths(layers[:1], rows) == []


def test_lines_for_a_reader() -> None:
    measured = Deployment(2048, 20, 20, 12.3456, 2, same_class_bundle=19, exact=True, us_per_image=3.0)
    assert deployment_lines(asdict(measured)) == [
        "ONNX file: 2.0 KiB",
        "test images: 20",
        "same class in onnxruntime: 20",
        "time of onnxruntime: 12.346 us per image",
        "quantized layers: 2",
        "same class in the bundle: 19",
        "images of another class: -",
        "library: -",
        "weights: -",
        "all quantized layers on integers: yes",
        "time of the bundle: 3 us per image",
        "lacks: -",
    ]
