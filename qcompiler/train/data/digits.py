"""scikit-learn's 1797 handwritten digits of 8x8 pixels: no download, for first steps."""

from __future__ import annotations

import numpy as np

from qcompiler.train.data.arrays import Arrays

CLASSES = 10
HELD_OUT = 5
"""Every fifth image is a test image."""


def read() -> Arrays:
    """The levels k = 0 .. 16 of scikit-learn become pixels min(16 k, 255); the test images have an index 4 mod 5."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.minimum(digits.images * 16, 255).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.uint8)
    test = np.arange(len(labels)) % HELD_OUT == HELD_OUT - 1
    return Arrays(images[~test], labels[~test], images[test], labels[test], CLASSES, "scikit-learn's digits")
