"""What examples read of the runs of `qtrain --deploy`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qcompiler.bundle.load import checked_manifest
from qcompiler.errors import UsageError
from qcompiler.ir.pixels import Pixels

MODEL, BUNDLE = "model.onnx", "model.qc"
PICTURES = 8


def pixels_of(run: Path) -> Pixels:
    """How a picture becomes the input of the run's network. Raises UsageError where there is none, or it takes none."""
    remedy = "name the directory of a run of qtrain with --deploy"
    if not (run / MODEL).is_file():
        raise UsageError(f"'{run}' has no {MODEL}", remedy=remedy)
    found = checked_manifest(run / BUNDLE).pixels
    if found is None:
        raise UsageError(f"the network of '{run}' does not take pictures", remedy=remedy)
    return found


def names_for(names: Sequence[str] | None, classes: int) -> list[str]:
    """A name for each class, its number where there are none. Raises UsageError where they are more or fewer."""
    if names is not None and len(names) != classes:
        raise UsageError(f"there are {len(names)} labels, the network has {classes} classes")
    return list(names or map(str, range(classes)))


def noise(run: Path, pixels: Pixels) -> dict[str, npt.NDArray[np.float32]]:
    """Inputs to verify with, float32 [n, C, H, W] or [n, H, W, C]: pictures of noise, as dark as cameras can be."""
    (image,) = checked_manifest(run / BUNDLE).inputs
    drawn = np.random.default_rng(0).integers(0, 256, (PICTURES, *image.shape[1:]))
    axes = (-1, 1, 1) if pixels.layout == "nchw" else (1, 1, -1)
    mean, scale = (np.reshape(each, axes) for each in (pixels.mean, pixels.scale))
    return {image.name: ((drawn - mean) * scale).astype(np.float32)}
