"""A data set in memory, split for training, and the input that a network sees of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from qcompiler.errors import UsageError
from qcompiler.ir.pixels import CHANNELS, Pixels
from qcompiler.train.data import cifar10, digits, folder, mnist, svhn
from qcompiler.train.data.arrays import Arrays

SHARE = 6
USUAL_VALIDATION = {"mnist": 10_000, "fashion_mnist": 10_000, "cifar10": 5_000, "svhn": 6_000, "images": 50_000}
"""The validation images where their number is left open: one of so many training images, at most those published."""


@dataclass(frozen=True)
class Split:
    """images: uint8 [N, C, H, W]; labels: int64 [N]."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def first(self, count: int) -> Split:
        """Its first `count` examples."""
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Data:
    """A data set; `shape` is (C, H, W), `version` says which it is, `sha256` is over all its pixels and labels."""

    train: Split
    validation: Split
    test: Split
    shape: tuple[int, int, int]
    classes: int
    version: str
    sha256: str


def load_data(name: str, data_dir: str | Path, validation: int, seed: int = 0, image_size: int = 224) -> Data:
    """Load a data set and set `validation` training images aside, drawn by `seed`; 0 adapts to the data.

    0 takes a sixth of the training images, at most USUAL_VALIDATION.
    An empty `data_dir` downloads into the user's cache; otherwise the files must be there. `image_size` is the side of
    images from a folder. Raises UsageError where the files are not there, InvalidData where they are damaged.
    """
    if name not in _READERS:
        raise UsageError(f"unknown data set '{name}'", remedy=f"choose one of {', '.join(_READERS)}")
    arrays = _READERS[name](Path(data_dir) if str(data_dir) else None, image_size)
    count = len(arrays.train_labels)
    fitting = min(max(1, count // SHARE), USUAL_VALIDATION.get(name, count), count - 1)
    validation = validation or fitting
    if not 0 < validation < count:
        message = f"validation={validation}: expected 1 to {count - 1}, fewer than the training images"
        raise UsageError(message, remedy=f"set validation={fitting}" if fitting else "add images")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    images, labels = torch.from_numpy(arrays.train_images), torch.from_numpy(arrays.train_labels.astype(np.int64))
    # Sorted, so that the order of the files is kept.
    kept, aside = order[validation:].sort().values, order[:validation].sort().values
    return Data(
        Split(images[kept], labels[kept]),
        Split(images[aside], labels[aside]),
        Split(torch.from_numpy(arrays.test_images), torch.from_numpy(arrays.test_labels.astype(np.int64))),
        shape=(images.shape[1], images.shape[2], images.shape[3]),
        classes=arrays.classes,
        version=arrays.version,
        sha256=_digest(arrays),
    )


def to_input(images: torch.Tensor) -> torch.Tensor:
    """uint8 k as float32 k/128 - 1, in [-1, 1): exact in binary, so that the first layer folds to integers."""
    return images.to(torch.float32).mul_(1 / 128).sub_(1)


def noise(shape: tuple[int, int, int]) -> torch.Tensor:
    """One image of random pixels, always the same: uint8 [1, *shape]."""
    return torch.randint(0, 256, (1, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def pixels_of(channels: int) -> Pixels | None:
    """What `to_input` does, for those who have no torch; None where pictures have other channels than files of them."""
    return Pixels((128.0,) * channels, (1 / 128,) * channels, "nchw") if channels in CHANNELS else None


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for array in (arrays.train_images, arrays.train_labels, arrays.test_images, arrays.test_labels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


_READERS: dict[str, Callable[[Path | None, int], Arrays]] = {
    "mnist": lambda path, size: mnist.read(mnist.MNIST, path),
    "fashion_mnist": lambda path, size: mnist.read(mnist.FASHION, path),
    "cifar10": lambda path, size: cifar10.read(path),
    "digits": lambda path, size: digits.read(),
    "svhn": lambda path, size: svhn.read(path),
    "images": folder.read,
}
