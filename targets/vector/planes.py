"""Products of integer codes as counts of bits, and what those counts mean.

An activation is low + step * i, with bit planes A_j of i. Weights are written in planes in one of two ways, whichever
has fewer: as signs, w = sum(f_k * V_k) with V_k of -1/+1, where the weights are odd multiples around zero; or as bits
in two's complement, w = sum(f_k * W_k) with W_k of 0/1. Then, with N_k the bits where V_k is -1,

    sum(A * V) = popcount(A xor N) - popcount(N),    sum(A * W) = popcount(A and W),

so that sum(a * w) = sum(step * 2^j * f_k * count[j, k]) + base, one base per output channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.ir.codes import Codes
from qcompiler.targets.problem import Conv2d

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WeightPlanes:
    """How weights are written in planes; signs: -1/+1, else bits. factors: one per plane."""

    signs: bool
    factors: tuple[int, ...]

    def bits(self, weights: npt.NDArray[Any], codes: Codes) -> npt.NDArray[np.bool_]:
        """The planes as they are packed: N_k or W_k, [planes, ...]. weights: among `codes`."""
        numbers = np.rint(weights).astype(np.int64)
        if not self.signs:
            return np.stack([(numbers >> plane & 1) > 0 for plane in range(len(self.factors))])
        index = (numbers - codes.low) // codes.step
        return np.stack([(index >> plane & 1) == 0 for plane in range(len(self.factors))])


def weight_planes(codes: Codes) -> WeightPlanes:
    """The planes of weights among `codes`."""
    if codes.low == -codes.high and codes.levels & (codes.levels - 1) == 0 and codes.levels > 1:
        return WeightPlanes(True, tuple(codes.step << plane >> 1 for plane in range(codes.bits)))
    widest = max(codes.high.bit_length(), (-codes.low - 1).bit_length() if codes.low < 0 else 0, 1)
    factors = [1 << plane for plane in range(widest)]
    return WeightPlanes(False, (*factors, -(1 << widest)) if codes.low < 0 else tuple(factors))


def plane_pairs(problem: Conv2d) -> int:
    """Pairs of a plane of activations and one of weights."""
    return problem.x.planes * len(weight_planes(problem.weights).factors)


def activation_factors(codes: Codes) -> tuple[int, ...]:
    """What a bit of each plane of an activation is worth."""
    return tuple(codes.step << plane for plane in range(codes.bits))


def bases(weights: npt.NDArray[Any], codes: Codes, activations: Codes) -> IntArray:
    """What is added to the counts of each output channel, int64 [O]. weights: OIHW, among `codes`."""
    numbers = np.rint(weights).astype(np.int64)
    total = activations.low * numbers.sum(axis=(1, 2, 3))
    planes = weight_planes(codes)
    if planes.signs:
        negative = planes.bits(weights, codes).sum(axis=(2, 3, 4))
        worth = sum(activation_factors(activations))
        total = total - worth * (np.array(planes.factors)[:, None] * negative).sum(axis=0)
    return np.asarray(total, np.int64)
