"""Pictures of a finished run: its curves, the filters of its first layer, and what it says of a few test images.

They are PNG files in the run's directory, and images in its TensorBoard events.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from qcompiler.ir.pixels import CHANNELS
from qcompiler.train.atomic import write_atomically
from qcompiler.train.data import Data, Split, to_input
from qcompiler.train.loop import BASELINE, BEST
from qcompiler.train.runlog import RunLog
from qcompiler.train.trained import load_trained

CURVES, FILTERS, PREDICTIONS = "curves.png", "filters.png", "predictions.png"
COLUMNS = 8
DPI = 120
# chosen: what is still made out in one picture
MOST_FILTERS, MOST_IMAGES = 64, 24
_TRAIN, _VALIDATION = "#5a9bd4", "#d9713c"
_STYLE = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}


def draw(directory: Path, data: Data) -> None:
    """Write the pictures of a finished run into its directory and its events.

    There is no picture of filters where the first layer does not look at pictures of 1 or 3 channels. Raises UsageError
    where one cannot be written.
    """
    log = RunLog.read(directory)
    twin = RunLog.read(directory / BASELINE) if log.baseline is not None else None
    trained = load_trained(directory / BEST)
    filters = first_filters(trained.model, trained.shape)
    with matplotlib.rc_context(_STYLE):
        figures = {CURVES: curves(log, twin)}
        if filters is not None:
            figures[FILTERS] = filter_sheet(filters)
        if trained.shape[0] in CHANNELS:
            figures[PREDICTIONS] = predictions(trained.model, data.test)
        for name, figure in figures.items():
            write_atomically(directory / name, partial(figure.savefig, format="png", dpi=DPI))
        with SummaryWriter(str(directory)) as events:
            for name, figure in figures.items():
                events.add_figure(Path(name).stem, figure, len(log.epochs), close=False)


def curves(log: RunLog, twin: RunLog | None = None) -> Figure:
    """Loss and accuracy of every epoch, and the one test; dashed those of the float twin."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for run, style, of in ((log, "-", ""), (twin, "--", " of the float twin")):
        if run is None:
            continue
        epochs = [each.epoch for each in run.epochs]
        loss.plot(epochs, [each.loss for each in run.epochs], style, color=_TRAIN, label=f"training{of}")
        shares = {
            "training": ([each.train_accuracy for each in run.epochs], _TRAIN),
            "validation": ([each.validation_accuracy for each in run.epochs], _VALIDATION),
        }
        for name, (values, colour) in shares.items():
            accuracy.plot(epochs, [100 * each for each in values], style, color=colour, label=f"{name}{of}")
        if run.test is not None:
            tested = f"test{of}, {run.test['accuracy']:.2%}"
            accuracy.plot(run.best_epoch, 100 * run.test["accuracy"], "k*" if run is log else "k+", label=tested)
    for axes, title in ((loss, "loss"), (accuracy, "accuracy, %")):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    figure.suptitle(f"{log.name}, {log.network}, seed {log.seed}")
    return figure


@torch.no_grad()
def first_filters(model: nn.Module, shape: Sequence[int]) -> Tensor | None:
    """The weights with which the first layer computes, as pictures: float32 [N, C, H, W] from 0 to 1, at most 64.

    shape: (C, H, W) of the images; rows of a fully connected layer are pictures of that size. None where the first
    layer does not look at pictures of 1 or 3 channels.
    """
    layer = next((each for each in model.modules() if isinstance(each, nn.Conv2d | nn.Linear)), None)
    if layer is None:
        return None
    weight = layer.quantized_weight() if hasattr(layer, "quantized_weight") else layer.weight
    weight = weight[:MOST_FILTERS].float().cpu()
    if isinstance(layer, nn.Linear):
        if layer.in_features != shape[0] * shape[1] * shape[2]:
            return None
        weight = weight.reshape(len(weight), *shape)
    if weight.shape[1] not in CHANNELS:
        return None
    low, high = weight.aminmax()
    return (weight - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)


@torch.no_grad()
def predictions(model: nn.Module, test: Split) -> Figure:
    """The first test images with the class that the network says, and in red the right one where it is another.

    model: in eval mode; images of 1 or 3 channels.
    """
    some = test.first(MOST_IMAGES)
    said = model(to_input(some.images)).argmax(1).tolist()
    rows = -(-len(some) // COLUMNS)
    figure = Figure(figsize=(COLUMNS, 1.2 * rows), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    for axes, image, found, right in zip(panels, some.images, said, some.labels.tolist(), strict=False):
        axes.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255)
        wrong = found != right
        axes.set_title(f"{found}, is {right}" if wrong else str(found), color="red" if wrong else "black")
    return figure


def filter_sheet(filters: Tensor) -> Figure:
    """Filters side by side on grey, float32 [N, C, H, W] from 0 to 1."""
    count, channels, height, width = filters.shape
    rows = -(-count // COLUMNS)
    sheet = torch.full((rows * COLUMNS, channels, height + 1, width + 1), 0.5)
    sheet[:count, :, :height, :width] = filters
    # [row, column, C, y, x] to [row, y, column, x, C]
    picture = sheet.unflatten(0, (rows, COLUMNS)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    figure = Figure(figsize=(COLUMNS, COLUMNS * picture.shape[0] / picture.shape[1]), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1)
    return figure
