"""A recipe of qtrain from its config to a compiled network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import qcompiler
from qcompiler.nn import export_onnx
from qcompiler.train import load_config, train
from qcompiler.train.data import Data, load_data, to_input
from qcompiler.train.evaluate import load_network
from qcompiler.train.loop import run_directory


@dataclass(frozen=True)
class Recipe:
    """What a run left: `accuracy` is the one it recorded for the test set, `model` the network of `checkpoint`."""

    accuracy: float
    checkpoint: Path
    model: nn.Module
    onnx: Path
    bundle: qcompiler.Bundle

    @torch.no_grad()
    def classes(self, images: Tensor) -> Tensor:
        """Torch's class of each image, float32 [N, C, H, W]."""
        classes: Tensor = self.model(images).argmax(1)
        return classes


def compiled_recipe(name: str, settings: Sequence[str], folder: Path, data: Data | None = None) -> Recipe:
    """Train the shipped recipe `name` with `settings` on one thread (on `data`, if given), export and compile it."""
    config, network = load_config(name, ["device=cpu", "threads=1", f"output={folder}", *settings])
    data = data or load_data(config.dataset, config.data_dir, config.validation)
    log = train(config, network, data=data)
    assert log.test is not None
    checkpoint = run_directory(config) / "best.pt"
    model, _ = load_network(checkpoint)
    exported = export_onnx(model, to_input(data.test.images[:1]), folder / "model.onnx")
    bundle = qcompiler.compile(exported.path, output=folder / "model.qc")
    return Recipe(log.test["accuracy"], checkpoint, model, exported.path, bundle)
