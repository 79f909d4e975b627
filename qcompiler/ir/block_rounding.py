"""Numbers in 8 bits with a scale for each block of a row: what products with a rounded operand multiply."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SMALLEST = 2.0**-100
"""A block whose largest magnitude is not above this is 0."""


def rounded_in_blocks(x: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Numbers [..., K] as 8 bits per block of `size` have them: the integer next to x * (127 / m), times m / 127.

    m is the largest magnitude of a block. All operations are of float32, halves go to the even integer.
    """
    blocks = np.pad(x, [*[(0, 0)] * (x.ndim - 1), (0, -x.shape[-1] % size)]).reshape(*x.shape[:-1], -1, size)
    largest = np.abs(blocks).max(axis=-1, keepdims=True)
    factor = np.where(largest > SMALLEST, np.float32(127) / np.maximum(largest, np.float32(SMALLEST)), np.float32(0))
    rounded = np.rint(blocks * factor.astype(np.float32)) * (largest / np.float32(127))
    return np.asarray(rounded.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]], np.float32)
