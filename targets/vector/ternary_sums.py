"""Weights of -1, 0 and +1 in two words of bits: whether a weight is anything but 0, and whether it is negative.

With M the bits of weights that are not 0, N those of weights that are negative, and a plane A of activations,

    sum(A * w) = popcount(M and (A xor N)) - popcount(N),

so that a plane of activations is counted once, not once for each of two planes of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler.ir.codes import Codes
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, lanes
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.plane_sums import Counts, Pair, PlaneSums, activations
from qcompiler.targets.vector.planes import activation_factors
from qcompiler.targets.vector.reduction import weight_words
from qcompiler.targets.vector.tile import Tile

TERNARY = Codes(-1, 1)
_WORDS = 2


@dataclass(frozen=True)
class TernarySums(PlaneSums):
    """Weights uint32 [blocks / U, steps, U, 2, 16]: M and N; see `Geometry.arrange`."""

    family: ClassVar[str] = "ternary_conv2d"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Words of weights."""
        return [weight_words(frame, _WORDS)]

    def bits(self, frame: Frame, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """M and N."""
        numbers = np.rint(weights)
        return np.stack([numbers != 0, numbers < 0])

    def pairs(self, problem: Conv2d) -> list[Pair]:
        """Each plane of activations, once."""
        return [(plane, 0) for plane in range(problem.x.planes)]

    def bases(self, problem: Conv2d, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """What counts of bits leave out."""
        numbers, codes = np.rint(weights).astype(np.int64), activations(problem)
        negative = (numbers < 0).sum(axis=(1, 2, 3))
        return np.asarray(codes.low * numbers.sum(axis=(1, 2, 3)) - sum(activation_factors(codes)) * negative)

    def meaning(self, problem: Conv2d, patches: Array, weights: Array) -> Array:
        """Counts of bits, times what the planes of activations are worth."""
        codes = activations(problem)
        index = np.rint((patches - codes.low) / codes.step)
        negative = (weights < 0).sum(axis=1)
        return np.asarray(codes.step * (index @ weights.T) + sum(activation_factors(codes)) * negative)

    def step(self, tile: Tile, counts: Counts, at: Expr, weight: Expr) -> None:
        """Count the bits of one word per pixel and plane against two words per block."""
        words = self.inputs(tile, counts, at)
        for (p, b, (j, _)), count in counts.items():
            first = (weight + tile.frame.geometry.block_offset(b)) * _WORDS
            given, negative = (tile.weights[0][lanes(first + k * LANES)] for k in range(_WORDS))
            self.add(count, given & (words[p, j] ^ negative))
