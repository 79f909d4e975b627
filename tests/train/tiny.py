"""A data set and networks that train in a fraction of a second."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qcompiler.train.config import TrainConfig
from qcompiler.train.data import Data, Split
from qcompiler.train.networks import NETWORKS, Network

SHAPE = (1, 8, 8)
CLASSES = 4


def split(count: int, seed: int) -> Split:
    """Images whose bright quarter is their class, on noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    images = torch.randint(0, 100, (count, *SHAPE), generator=generator).to(torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = 4 * (label // 2), 4 * (label % 2)
        image[:, top : top + 4, left : left + 4] += 100
    return Split(images, labels)


def data(train: int = 160) -> Data:
    parts = split(train, 1), split(60, 2), split(41, 3)
    digest = hashlib.sha256(b"".join(part.images.numpy().tobytes() for part in parts)).hexdigest()
    return Data(*parts, shape=SHAPE, classes=CLASSES, version="tiny", sha256=digest)


def mlp(**settings: Any) -> Network:
    """Binary weights drawn at random, signs and dropout: every generator matters."""
    defaults = {"hidden": 16, "layers": 1, "stochastic": True, "activation": "sign", "dropout_hidden": 0.25}
    return NETWORKS["scratch_mlp"](**{**defaults, **settings})


def conv(**settings: Any) -> Network:
    return NETWORKS["moons"](**{"nfa": 4, "nfb": 4, "nfc": 4, **settings})


def config(output: Path, network: Network | None = None, **settings: Any) -> TrainConfig:
    chosen = TrainConfig(
        name="tiny",
        network=(network or mlp()).name,
        epochs=3,
        batch_size=32,
        lr=0.01,
        validation=60,
        threads=1,
        device="cpu",
        output=str(output),
    )
    return replace(chosen, **settings)
