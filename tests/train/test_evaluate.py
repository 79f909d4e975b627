"""Accuracy of checkpoints and of compiled bundles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx.parser
import pytest
import torch

import qcompiler
from qcompiler.errors import InvalidBundle, InvalidData, UsageError
from qcompiler.train.data import Split, to_input
from qcompiler.train.distributed import Group
from qcompiler.train.evaluate import EVALUATION_BATCH, accuracy, bundle_classes, evaluate, evaluate_fixed, load_network
from qcompiler.train.fixed_point import fixed_point
from qcompiler.train.loop import run_directory, train
from tests.train.tiny import CLASSES, SHAPE, config, conv, data, mlp, split


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = mlp(hidden=64, stochastic=False, dropout_hidden=0.0, head="batchnorm")
    chosen = config(tmp_path_factory.mktemp("runs"), network, epochs=1)
    train(chosen, network, data=data())
    return run_directory(chosen)


def test_directory_and_checkpoint_are_the_same(run: Path) -> None:
    network, checkpoint = load_network(run / "best.pt")
    scores = network(to_input(data().test.images))
    expected = (scores.argmax(1) == data().test.labels).double().mean().item()
    assert evaluate(run, data().test) == evaluate(run / "best.pt", data().test) == pytest.approx(expected)
    assert (checkpoint.shape, checkpoint.classes) == (SHAPE, CLASSES)
    assert not network.training


def test_last_checkpoint_can_be_evaluated(run: Path) -> None:
    assert 0 <= evaluate(run / "last.pt", data().test) <= 1


def test_fixed_point_is_near_float(run: Path) -> None:
    accuracy_in_fixed, saturations = evaluate_fixed(run, data().test, data().train.images)
    assert abs(accuracy_in_fixed - evaluate(run, data().test)) <= 0.1
    assert saturations[0].values == data().test.images.numel()


def test_binary_points_are_placed_by_the_calibration_images(run: Path) -> None:
    dark = data().train.images // 64
    network, _ = load_network(run / "best.pt")
    found = [
        [each.format for each in evaluate_fixed(run, data().test, images)[1]] for images in (data().train.images, dark)
    ]
    expected = [
        [each.format for each in fixed_point(network, to_input(images)).saturations()]
        for images in (data().train.images, dark)
    ]
    assert found == expected and found[0] != found[1]


@pytest.mark.parametrize("count", [1, EVALUATION_BATCH, EVALUATION_BATCH + 1])
@pytest.mark.parametrize("processes", [1, 3])
def test_every_image_counts_once(count: int, processes: int) -> None:
    """The class of an image is its first pixel; every process has a share, which the sum would put together."""

    class FirstPixel(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.dtype == torch.float32 and not self.training
            return torch.nn.functional.one_hot(((x[:, 0, 0, 0] + 1) * 128).long(), 256).float()

    images = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8)
    labels = images[:, 0, 0, 0].long()
    labels[0] = (labels[0] + 1) % 256

    class Alone(Group):
        def sum(self, tensor: torch.Tensor) -> torch.Tensor:
            return tensor

    shares = [
        accuracy(FirstPixel(), Split(images, labels), Alone(torch.device("cpu"), i, processes))
        for i in range(processes)
    ]
    assert sum(shares) == pytest.approx((count - 1) / count)


def test_mode_of_the_model_is_restored() -> None:
    model = conv().build(SHAPE, CLASSES).train()
    accuracy(model, split(5, 0))
    assert all(module.training for module in model.modules())


def test_other_images_are_refused(run: Path) -> None:
    other = Split(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"takes images \(1, 8, 8\), the data set has \(3, 8, 8\)"):
        evaluate(run, other)


def test_checkpoint_whose_config_was_changed(run: Path, tmp_path: Path) -> None:
    _, checkpoint = load_network(run / "best.pt")
    path = tmp_path / "changed.pt"
    replace(checkpoint, config={**checkpoint.config, "hidden": 8}).save(path)
    with pytest.raises(UsageError, match=r"is of another network: '.*' is \(.*\), expected \(.*\)"):
        evaluate(path, data().test)
    replace(checkpoint, config={"network": "moons", "colour": 3}).save(path)
    with pytest.raises(UsageError, match="colour"):
        evaluate(path, data().test)


QUADRANTS = """
<ir_version: 8, opset_import: ["": 17]>
quadrants (float[3, 1, 8, 8] image) => (float[3, 4] scores)
{
    pooled = AveragePool <kernel_shape = [4, 4], strides = [4, 4]> (image)
    scores = Flatten (pooled)
}
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The brightest quarter of an image is its class, for three images at a time."""
    directory = tmp_path_factory.mktemp("bundle")
    onnx.save(onnx.parser.parse_model(QUADRANTS), directory / "model.onnx")
    qcompiler.compile(directory / "model.onnx", target="x86", output=directory / "out")
    return directory / "out"


def test_bundle_is_evaluated_on_every_image(bundle: Path) -> None:
    wrong = Split(data().test.images, data().test.labels.clone())
    wrong.labels[-1] = (wrong.labels[-1] + 1) % CLASSES
    # 41 images in batches of three: the last batch is filled up
    assert evaluate(bundle, data().test) == 1
    assert evaluate(bundle, wrong) == pytest.approx(40 / 41)
    assert bundle_classes(qcompiler.load(bundle), wrong).shape == (41,)


def test_bundle_cannot_simulate_fixed_point(bundle: Path) -> None:
    with pytest.raises(UsageError, match="is a compiled bundle"):
        evaluate_fixed(bundle, data().test, data().train.images)


def test_bundle_of_other_images(bundle: Path) -> None:
    other = Split(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"takes image \[3, 1, 8, 8\], the data set has images \[3, 8, 8\]"):
        evaluate(bundle, other)


def test_what_is_no_network(tmp_path: Path) -> None:
    with pytest.raises((UsageError, InvalidBundle)):
        evaluate(tmp_path, data().test)
    with pytest.raises(UsageError, match="cannot read checkpoint"):
        evaluate(tmp_path / "none.pt", data().test)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InvalidData):
        evaluate(tmp_path / "text.pt", data().test)
