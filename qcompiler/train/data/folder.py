"""Images in folders: train/CLASS/*.jpg and test/CLASS/*.jpg (or val/), cut to squares of one size."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from qcompiler.errors import InvalidData, UsageError
from qcompiler.train.data.arrays import Array, Arrays, missing

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
TEST_NAMES = ("test", "val")
LARGEST_IMAGE = 50_000_000


def read(directory: Path | None, size: int) -> Arrays:
    """All images as RGB, the shorter side scaled to `size` and the middle cut out. Classes are train/'s directories."""
    if directory is None:
        raise UsageError("image folders have no default place", remedy="give the directory with --data-dir")
    train = directory / "train"
    test = next((directory / name for name in TEST_NAMES if (directory / name).is_dir()), None)
    if not train.is_dir() or test is None:
        wanted = "train/CLASS/ and test/CLASS/ with .jpg, .png, .bmp, .webp or .ppm files"
        raise missing("images", directory, wanted, downloaded=False)
    classes = sorted(entry.name for entry in train.iterdir() if entry.is_dir())
    unknown = sorted({entry.name for entry in test.iterdir() if entry.is_dir()} - {*classes})
    if unknown:
        raise UsageError(f"'{test / unknown[0]}' is a class that '{train}' lacks", remedy="use the same names")
    listed = [_listed(part, classes) for part in (train, test)]
    _check_memory(sum(len(paths) for paths, _ in listed), size)
    (train_images, train_labels), (test_images, test_labels) = (
        (_load(paths, size), np.array(labels, np.uint16)) for paths, labels in listed
    )
    return Arrays(train_images, train_labels, test_images, test_labels, len(classes), f"images of {directory.name}")


def _listed(part: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    """Files in a fixed order, and the class of each; a class without images is an error."""
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        here = sorted(path for path in (part / name).glob("*") if path.suffix.lower() in SUFFIXES)
        if not here:
            raise InvalidData(f"class '{name}' has no images in '{part}'", remedy=f"put some into '{part / name}/'")
        paths += here
        labels += [label] * len(here)
    if not paths:
        raise UsageError(f"'{part}' has no images", remedy=f"put them into '{part}/CLASS/'")
    return paths, labels


def _check_memory(count: int, size: int) -> None:
    needed = 3 * size * size * count
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Splitting takes a second copy.
    if 2 * needed > memory:
        sizes = f"twice {needed / 2**30:.1f} GiB, this machine has {memory / 2**30:.1f}"
        raise UsageError(f"{count} images of {size}x{size} take {sizes}", remedy="choose a smaller image_size")


def _load(paths: Sequence[Path], size: int) -> Array:
    images = np.empty((len(paths), 3, size, size), np.uint8)
    with warnings.catch_warnings():
        # Pillow warns from 89 million pixels on; the limit here is lower.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for index, path in enumerate(paths):
            images[index] = _decode(path, size)
    return images


def _decode(path: Path, size: int) -> Array:
    """One image as uint8 [3, size, size]; its size is checked before its pixels are decoded."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > LARGEST_IMAGE:
                raise InvalidData(f"'{path}' has {width}x{height} pixels, at most {LARGEST_IMAGE} are read")
            scale = size / min(width, height)
            scaled = (max(size, round(width * scale)), max(size, round(height * scale)))
            if scaled[0] * scaled[1] > LARGEST_IMAGE:
                raise InvalidData(f"'{path}' has {width}x{height} pixels, too narrow to cut a square of {size}")
            left, top = (scaled[0] - size) // 2, (scaled[1] - size) // 2
            square = image.convert("RGB").resize(scaled, Image.Resampling.BILINEAR)
            return np.asarray(square.crop((left, top, left + size, top + size))).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidData(f"'{path}' is not a readable image ({error})", remedy="replace or remove it") from error
