"""Pictures of a run show its epochs, its float twin, its filters and its predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from qcompiler.errors import UsageError
from qcompiler.train.data import Split, to_input
from qcompiler.train.loop import BASELINE, run_directory, train
from qcompiler.train.plots import CURVES, FILTERS, PREDICTIONS, curves, draw, filter_sheet, first_filters, predictions
from qcompiler.train.runlog import RunLog
from qcompiler.train.trained import load_trained
from tests.train.tiny import SHAPE, config, data, mlp


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its float twin, drawn."""
    chosen = config(tmp_path_factory.mktemp("drawn"), epochs=2, baseline=True)
    train(chosen, mlp(), data=data(), finished=draw)
    return run_directory(chosen)


def test_pictures_lie_in_the_directory_and_in_tensorboard(directory: Path) -> None:
    assert {path.name for path in directory.glob("*.png")} == {CURVES, FILTERS, PREDICTIONS}
    for name in (CURVES, FILTERS, PREDICTIONS):
        with Image.open(directory / name) as picture:
            picture.load()
            assert picture.format == "PNG" and picture.width > 800
    events = EventAccumulator(str(directory))
    events.Reload()
    assert events.Tags()["images"] == ["curves", "filters", "predictions"]
    assert [each.step for each in events.Images("curves")] == [2]


def test_curves_are_of_the_run_and_dashed_of_its_twin(directory: Path) -> None:
    log, twin = RunLog.read(directory), RunLog.read(directory / BASELINE)
    loss, accuracy = curves(log, twin).axes
    assert [list(line.get_ydata()) for line in loss.lines] == [
        [each.loss for each in run.epochs] for run in (log, twin)
    ]
    assert [line.get_linestyle() for line in loss.lines] == ["-", "--"]
    shown = {line.get_label().partition(",")[0]: list(line.get_ydata()) for line in accuracy.lines}
    assert log.test is not None and twin.test is not None
    assert shown == {
        "training": [100 * each.train_accuracy for each in log.epochs],
        "validation": [100 * each.validation_accuracy for each in log.epochs],
        "test": [100 * log.test["accuracy"]],
        "training of the float twin": [100 * each.train_accuracy for each in twin.epochs],
        "validation of the float twin": [100 * each.validation_accuracy for each in twin.epochs],
        "test of the float twin": [100 * twin.test["accuracy"]],
    }
    assert len(curves(replace(log, baseline=None)).axes[1].lines) == 3


def test_filters_are_the_weights_that_the_first_layer_computes_with(directory: Path) -> None:
    model = load_trained(directory / "best.pt").model
    (first, *_) = [each for each in model.modules() if isinstance(each, nn.Linear)]
    found = first_filters(model, SHAPE)
    assert found is not None
    # binary: black where -1, white where +1
    assert torch.equal(found.reshape(16, 64), (first.weight >= 0).float())


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.Conv2d(3, 100, 5), (64, 3, 5, 5)), (nn.Conv2d(2, 4, 5), None), (nn.Linear(63, 4), None)]
)
def test_filters_of_other_first_layers(layer: nn.Module, shape: tuple[int, ...] | None) -> None:
    found = first_filters(nn.Sequential(layer, nn.ReLU()), SHAPE)
    assert (None if found is None else tuple(found.shape)) == shape
    assert found is None or (found.min(), found.max()) == (0, 1)


def test_filters_lie_side_by_side() -> None:
    filters = torch.rand(10, 3, 4, 5)
    (image,) = filter_sheet(filters).axes[0].images
    sheet = torch.from_numpy(image.get_array().data)
    assert sheet.shape == (10, 48, 3)
    for index, picture in enumerate(filters):
        top, left = 5 * (index // 8), 6 * (index % 8)
        assert torch.equal(sheet[top : top + 4, left : left + 5], picture.permute(1, 2, 0))


def test_filters_of_one_value_are_a_picture_too() -> None:
    layer = nn.Conv2d(1, 2, 3)
    nn.init.constant_(layer.weight, 0.5)
    found = first_filters(layer, SHAPE)
    assert found is not None and torch.equal(found, torch.zeros(2, 1, 3, 3))


def test_predictions_name_what_is_said_and_what_is_right(directory: Path) -> None:
    model, test = load_trained(directory / "best.pt").model, data().test
    labels = test.labels.clone()
    said = model(to_input(test.images)).argmax(1)
    labels[:5], labels[5:] = (said[:5] + 1) % 4, said[5:]
    titles = [axes.title for axes in predictions(model, Split(test.images, labels)).axes]
    assert [title.get_text() for title in titles] == [
        f"{found}, is {right}" if found != right else str(found)
        for found, right in zip(said[:24].tolist(), labels[:24].tolist(), strict=True)
    ]
    assert [title.get_color() for title in titles] == ["red"] * 5 + ["black"] * 19


def test_a_picture_that_cannot_be_written_is_one_line(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "elsewhere").mkdir()
    for name in ("run.json", "best.pt"):
        (directory / "elsewhere" / name).write_bytes((directory / name).read_bytes())
    (directory / "elsewhere" / BASELINE).symlink_to(directory / BASELINE)
    (directory / "elsewhere" / CURVES).mkdir()
    with pytest.raises(UsageError, match=rf"cannot write '.*/elsewhere/{CURVES}': Is a directory"):
        draw(directory / "elsewhere", data())
