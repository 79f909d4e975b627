"""Weights of few bits with a scale per output channel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

# scales that are tried below the one that covers the largest weight; chosen
_SHARES = np.linspace(0.35, 1.0, 66)


def quantized(weights: FloatArray, bits: int) -> tuple[FloatArray, FloatArray]:
    """Integers and the scale of each channel with the least squared error.

    weights: float32 [O, K]. result: integers of [-(2**(bits - 1) - 1), 2**(bits - 1) - 1] as float32 [O, K], for one
    bit -1 and +1; and scales float32 [O], above 0.
    """
    if bits == 1:
        mean = np.abs(weights).mean(1)
        return np.where(weights < 0, np.float32(-1), np.float32(1)), np.where(mean > 0, mean, 1).astype(np.float32)
    most = 2 ** (bits - 1) - 1
    largest = np.abs(weights).max(1)
    whole = np.where(largest > 0, largest, 1).astype(np.float64) / most
    best, least = whole, np.full(len(weights), np.inf)
    for share in _SHARES:
        scale = (whole * share).astype(np.float32).astype(np.float64)
        error = ((_codes(weights, scale, most) * scale[:, None] - weights) ** 2).sum(1)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return _codes(weights, best, most).astype(np.float32), best.astype(np.float32)


def _codes(weights: FloatArray, scale: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.float64]:
    return np.asarray(np.clip(np.rint(weights / scale[:, None]), -most, most))
