"""A compiled network held against onnxruntime, image by image and bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

import qcompiler
from qcompiler.ir import oracle

FloatArray = npt.NDArray[np.float32]


def exact_scores(bundle: qcompiler.Bundle, model: Path, images: FloatArray) -> FloatArray:
    """Scores [N, classes] of images [N, C, H, W] in batches of one; onnxruntime gives the very same for `model`."""
    session = oracle.Session(onnx.load(model))
    scores = np.concatenate([bundle.run({"image": image[None]})["scores"] for image in images])
    expected = np.concatenate([session.run({"image": image[None]})["scores"] for image in images])
    np.testing.assert_array_equal(scores, expected, err_msg=bundle.variant)
    return scores
