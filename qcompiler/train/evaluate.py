"""Accuracy of a network on a split of the data: in training, from a checkpoint, or compiled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from qcompiler.errors import UsageError
from qcompiler.train.checkpoint import Checkpoint, load_checkpoint
from qcompiler.train.data import Split, to_input
from qcompiler.train.distributed import Group, choose_device
from qcompiler.train.trained import load_trained

if TYPE_CHECKING:
    from qcompiler.bundle.load import Bundle
    from qcompiler.train.fixed_point import Saturation

EVALUATION_BATCH = 250
CALIBRATION_IMAGES = 500


def evaluate(path: str | Path, split: Split, *, device: str = "auto") -> float:
    """Accuracy on `split` of a checkpoint, a packed network, the best of a run's directory, or a compiled bundle.

    Raises UsageError for images of another shape and where `path` is none of these; InvalidData or InvalidBundle where
    it is damaged.
    """
    path = Path(path)
    if _is_bundle(path):
        import qcompiler

        return bundle_accuracy(qcompiler.load(path), split)
    model = _trained_for(path, split)
    result: float = accuracy(model.to(choose_device(device)), split)
    return result


def evaluate_fixed(path: str | Path, split: Split, calibration: Tensor) -> tuple[float, tuple[Saturation, ...]]:
    """Accuracy on `split` of a checkpoint or packed network in simulated fixed point, and how often values did not fit.

    calibration: uint8 [N, C, H, W], training images that place the binary points. Raises as `evaluate` does, and
    UsageError for a bundle.
    """
    from qcompiler.train.fixed_point import fixed_point

    path = Path(path)
    if _is_bundle(path):
        message = f"'{path}' is a compiled bundle, which computes as it was compiled"
        raise UsageError(message, remedy="leave mode at float, or name a checkpoint")
    model = fixed_point(_trained_for(path, split), to_input(calibration[:CALIBRATION_IMAGES]))
    return accuracy(model, split), model.saturations()


def _is_bundle(path: Path) -> bool:
    return path.is_dir() and not (path / "best.pt").exists()


def _trained_for(path: Path, split: Split) -> nn.Module:
    """The trained network of a file or run; UsageError where it takes other images than those of `split`."""
    path = path / "best.pt" if path.is_dir() else path
    trained = load_trained(path)
    shape = tuple(split.images.shape[1:])
    if trained.shape != shape:
        message = f"'{path}' takes images {trained.shape}, the data set has {shape}"
        raise UsageError(message, remedy="choose the data set it was trained on")
    return trained.model


def load_network(path: Path) -> tuple[nn.Module, Checkpoint]:
    """The network of a checkpoint with its weights, in eval mode, and the checkpoint."""
    from qcompiler.train.config import from_flat

    checkpoint = load_checkpoint(path)
    _, network = from_flat(checkpoint.config, f"checkpoint '{path}'")
    model: nn.Module = network.build(checkpoint.shape, checkpoint.classes)
    checkpoint.load_model(model, path)
    return model.eval(), checkpoint


@torch.no_grad()
def accuracy(model: nn.Module, split: Split, group: Group | None = None) -> float:
    """Share of `split` that `model` classifies rightly in eval mode and float32; its mode is restored.

    With a group, every process takes a share of the split.
    """
    group = group or Group(_device_of(model))
    layout = memory_format(model)
    was_training = model.training
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=group.device)
    for start in range(group.rank * EVALUATION_BATCH, len(split), group.size * EVALUATION_BATCH):
        images = split.images[start : start + EVALUATION_BATCH].to(group.device)
        labels = split.labels[start : start + EVALUATION_BATCH].to(group.device)
        right += (model(to_input(images.contiguous(memory_format=layout))).argmax(1) == labels).sum()
    model.train(was_training)
    return int(group.sum(right)) / len(split)


def memory_format(model: nn.Module) -> torch.memory_format:
    """Channels last where there are 2-D convolutions: about a tenth faster on CPUs, more on GPUs."""
    convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return torch.channels_last if convolves else torch.contiguous_format


def _device_of(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def bundle_accuracy(bundle: Bundle, split: Split) -> float:
    """Share of the images of `split` that a compiled network puts into their class, see `bundle_classes`."""
    return float(np.mean(bundle_classes(bundle, split) == split.labels.numpy()))


def bundle_classes(bundle: Bundle, split: Split) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Class of every image of `split` in a compiled network with one input of float32 [n, C, H, W]: int64 [N].

    The last batch is filled up with copies of the last image.
    """
    shape = tuple(split.images.shape[1:])
    if len(bundle.inputs) != 1 or len(bundle.outputs) < 1 or tuple(bundle.inputs[0].shape[1:]) != shape:
        found = ", ".join(f"{each.name} {list(each.shape)}" for each in bundle.inputs)
        raise UsageError(
            f"bundle '{bundle.directory}' takes {found}, the data set has images {list(shape)}",
            remedy="choose the data set it was trained on",
        )
    batch, classes = bundle.inputs[0].shape[0], []
    for start in range(0, len(split), batch):
        index = torch.arange(start, start + batch).clamp_max(len(split) - 1)
        outputs = bundle.run({bundle.inputs[0].name: to_input(split.images[index]).numpy()})
        classes.append(outputs[bundle.outputs[0].name].argmax(1))
    return np.concatenate(classes)[: len(split)]
