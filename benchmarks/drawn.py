"""Weights of 8 bits like those of trained networks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# the largest of a channel, to which scales are fitted, in deviations; chosen
_LARGEST = 5


def as_trained(random: np.random.Generator, shape: tuple[int, ...], low: int, high: int) -> npt.NDArray[np.float32]:
    """Integers from `low` to `high` of a normal distribution around 0, float32 of `shape`."""
    usual = np.rint(random.standard_normal(shape) * (-low / _LARGEST))
    return np.asarray(usual.clip(low, high), np.float32)
