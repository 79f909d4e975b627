"""What every reader of a data set gives, and the checks that they share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InvalidData, UsageError

Array = npt.NDArray[np.uint8]

# Deflate cannot expand by more, so a header that promises more lies.
LARGEST_EXPANSION = 1032
LARGEST_ARRAY = 2**30


@dataclass(frozen=True)
class Arrays:
    """images: uint8 [N, C, H, W]; labels: uint8 or uint16 [N], below `classes`."""

    train_images: Array
    train_labels: npt.NDArray[Any]
    test_images: Array
    test_labels: npt.NDArray[Any]
    classes: int
    version: str


def check_labels(labels: npt.NDArray[Any], images: int, classes: int, path: Path) -> None:
    """Raise InvalidData unless there is one label below `classes` for each of the images."""
    if len(labels) != images:
        raise InvalidData(f"'{path}' has {len(labels)} labels, expected one for each of {images} images")
    if not images:
        raise InvalidData(f"'{path}' has no images", remedy="get the data set anew")
    if int(labels.max()) >= classes:
        raise InvalidData(
            f"'{path}' has the label {labels.max()}, expected 0 to {classes - 1}", remedy="wrong data set?"
        )


def find(names: tuple[str, ...], directory: Path, below: tuple[str, ...]) -> dict[str, Path]:
    """Those of the files `names` that lie in `directory` or in one of its subdirectories `below`; the first wins."""
    if not directory.is_dir():
        raise UsageError(f"data directory '{directory}' does not exist", remedy="leave --data-dir out to download")
    found: dict[str, Path] = {}
    for place in (directory, *(directory / name for name in below)):
        for name in names:
            if name not in found and (place / name).is_file():
                found[name] = place / name
    return found


def missing(title: str, directory: Path, wanted: str, *, downloaded: bool = True) -> UsageError:
    """The error for a directory that holds something else."""
    otherwise = ", or leave --data-dir out to download" if downloaded else ""
    return UsageError(
        f"data directory '{directory}' has no {title}: expected {wanted}",
        remedy=f"give the directory that holds it{otherwise}",
    )
