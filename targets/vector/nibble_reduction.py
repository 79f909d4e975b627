"""Sums of products of codes in tables: one lookup for every four inputs, whatever their width.

Weights are planes V of -1 and +1; N is 1 where V is -1. With inputs i from 0 to M the table of four inputs holds, for
every four bits n of N, sum(n ? M - i : i) = sum(i * V) + M * popcount(n) (see `ir/storage.py`). Weights that are planes
W of bits are 2 * W - 1, so that with f_k the worth of plane k

    2 * sum(i * w) = sum(f_k * sum(i * V_k)) + sum(f_k) * sum(i),

and sum(i) is what the tables hold for the bits 0.

An index has bits for sixteen channels of each of four tables, table by table where shuffles read it; those of two times
four tables lie in one byte, the first in its low bits. No tiling shows in the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler.ir.codes import BYTE
from qcompiler.ir.storage import TABLE_CHANNELS, TABLE_INPUTS
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.byte_sums import IndexReduction, codes_of
from qcompiler.targets.vector.emit import LANES, Parameter
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.planes import WeightPlanes, weight_planes

ENTRIES = 1 << TABLE_INPUTS
BYTES = TABLE_CHANNELS // TABLE_INPUTS * ENTRIES
"""Of the tables of sixteen channels, and of an index."""
LARGEST = 255 // TABLE_INPUTS
"""Number of a code, so that bytes hold sums of four."""

_MOST_PLANES = 2
"""Of weights; with more, products of bytes are faster."""


def planes_of(problem: Conv2d) -> WeightPlanes:
    """Of the weights."""
    return weight_planes(problem.weights)


def vectors_of(problem: Conv2d) -> int:
    """Sixteen channels each, of a pixel."""
    return -(-problem.x.c // TABLE_CHANNELS)


def halves_sums(planes: WeightPlanes) -> int:
    """What a sum of inputs is worth, and sums are twice as large, where weights are bits; 0 where they are signs."""
    return 0 if planes.signs else sum(planes.factors)


def fits_nibbles(problem: Conv2d, most_planes: int = _MOST_PLANES) -> bool:
    """Whether bytes hold the sums of four inputs, and 32 bits those of all.

    most_planes: of weights, with which lookups may still be faster than other kernels.
    """
    most, planes = codes_of(problem).levels - 1, planes_of(problem)
    lookups = prod(problem.kernel) * vectors_of(problem)
    largest = lookups * TABLE_CHANNELS * most * sum(abs(factor) for factor in planes.factors)
    few = 1 < most <= LARGEST and len(planes.factors) <= most_planes and max(map(abs, planes.factors)) <= BYTE.high
    return few and 4 * largest < 2**31


@dataclass(frozen=True)
class NibbleReduction(IndexReduction):
    """Weights uint8 [blocks, taps, pairs of sixteen inputs, planes, 64]: a byte holds bits of four inputs of each."""

    family: ClassVar[str] = "nibbles_conv2d"

    def label(self, frame: Frame) -> str:
        """Widths of weights and activations, and tiling."""
        bits = codes_of(frame.problem).bits
        return f"{self.family}_w{frame.problem.weights.bits}a{bits}_{frame.tiling.label}"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Weights."""
        return [Parameter("weights", "uint8", frame.blocks.count * self.block_bytes(frame.problem), 64)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Indices in the order of the loops."""
        planes, inputs = planes_of(frame.problem), frame.problem.x.c
        bits = planes.bits(weights, frame.problem.weights)
        less = (bits if planes.signs else ~bits).transpose(0, 3, 4, 2, 1).astype(np.uint8)
        padded = np.pad(less, [(0, 0)] * 3 + [(0, -inputs % (2 * TABLE_CHANNELS)), (0, 0)])
        spread = frame.blocks.spread(padded).reshape(len(less), -1, padded.shape[3], frame.blocks.count, LANES)
        fours = spread.reshape(len(less), spread.shape[1], -1, 2, BYTES // ENTRIES, TABLE_INPUTS, *spread.shape[3:])
        index = (fours << np.arange(TABLE_INPUTS, dtype=np.uint8)[:, None, None]).sum(axis=5, dtype=np.uint8)
        both = index[:, :, :, 0] | index[:, :, :, 1] << np.uint8(TABLE_INPUTS)
        return [np.ascontiguousarray(self.in_order(both.transpose(4, 1, 2, 0, 3, 5)))]

    def in_order(self, indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Bytes [..., 4, 16] of every four tables and sixteen channels as they are read."""
        return indices

    def bases(self, problem: Conv2d, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """What the lowest code leaves out, and what bits add."""
        return super().bases(problem, weights) - codes_of(problem).step * self._added(problem, weights)

    def meaning(self, problem: Conv2d, patches: Array, weights: Array) -> Array:
        """Sums of products of the numbers of codes, times the step, and what bits add to them."""
        added = self._added(problem, weights.reshape(*weights.shape, 1, 1))
        return np.asarray(super().meaning(problem, patches, weights) + codes_of(problem).step * added)

    def _added(self, problem: Conv2d, weights: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """What bits of weights add to sums of products, int64 [O]; weights: OIHW."""
        planes, most = planes_of(problem), codes_of(problem).levels - 1
        bits = planes.bits(weights, problem.weights)
        less = (bits if planes.signs else ~bits).sum(axis=(2, 3, 4))
        total = most * (np.array(planes.factors)[:, None] * less).sum(axis=0)
        return np.asarray(total if planes.signs else total >> 1, np.int64)

    def block_bytes(self, problem: Conv2d) -> int:
        """Weights of a block of channels."""
        return prod(problem.kernel) * self.tap_bytes(problem)

    def tap_bytes(self, problem: Conv2d) -> int:
        """Weights of a block for a tap."""
        return -(-vectors_of(problem) // 2) * self.pair_bytes(problem)

    def pair_bytes(self, problem: Conv2d) -> int:
        """Weights of a block for two times sixteen inputs."""
        return len(planes_of(problem).factors) * BYTES
