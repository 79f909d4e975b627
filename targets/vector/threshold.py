"""Codes as counts of thresholds: sixteen comparisons at a time, and bit planes out of their masks.

Every threshold of a channel is a limit that values reach from below. Where a channel falls, v <= t is the opposite of
reaching the next number, so its masks are turned. The masks of rising thresholds are nested; bit p of the count of
nested masks is the parity of every 2^p-th of them.
"""

from __future__ import annotations

import numpy as np

from qcompiler.targets.problem import Operation
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, mask_bits, temporary, write


def threshold_count(operation: Operation) -> int:
    """Thresholds per channel of a "threshold" operation."""
    assert operation.into is not None and operation.into.codes is not None
    return operation.into.codes.levels - 1


def threshold_parameters(operation: Operation, blocks: Blocks, classes: int, dtype: str) -> list[Parameter]:
    """`limits` [levels, classes, blocks * 16], and `turned` uint16 [blocks]: a bit per channel that falls."""
    size = threshold_count(operation) * classes * blocks.count * LANES
    return [Parameter("limits", dtype, size, 64), Parameter("turned", "uint16", blocks.count, 64)]


def pack_thresholds(constants: Constants, blocks: Blocks, base: Array, dtype: type) -> list[Array]:
    """The arrays for `threshold_parameters`.

    base: int64 [classes, channels], what a value still lacks where it is compared.
    """
    assert constants.threshold is not None and constants.direction is not None
    rising = constants.direction > 0
    first = np.where(rising, np.ceil(constants.threshold), np.floor(constants.threshold) + 1).astype(np.float64)
    limits: Array = np.clip(first[:, None, :] - base, -(2.0**31), 2.0**31 - 1).astype(dtype)
    turned = blocks.spread((~rising).astype(np.int64)).reshape(-1, LANES)
    beyond = np.inf if dtype is np.float32 else 2**31 - 1
    return [blocks.spread(limits, beyond), (turned << np.arange(LANES)).sum(axis=1).astype(np.uint16)]


def threshold_planes(
    operation: Operation, blocks: Blocks, value: Expr, limits: Expr, turned: Expr, block: Expr, at: Expr, size: int
) -> list[Expr]:
    """uint16 of each bit plane of the codes of sixteen values.

    value: a bound vector of the type of `limits`; at: where the limits of the lowest threshold lie; size: how far
    those of the next are.
    """
    masks = []
    for level in range(threshold_count(operation)):
        mask = temporary("uint16", 1)
        write(mask, mask_bits(value >= limits[lanes(at + level * size)]) ^ turned[block], i64(0))
        masks.append(mask[i64(0)])
    assert operation.into is not None
    planes = []
    for plane in range(operation.into.planes):
        first, *others = masks[2**plane - 1 :: 2**plane]
        for other in others:
            first = first ^ other
        planes.append(first)
    return planes
