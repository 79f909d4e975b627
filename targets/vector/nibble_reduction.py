"""Sums of products of codes in tables: one lookup for every four inputs, whatever their width.

Weights are planes V of -1 and +1, or W of bits (see `planes.py`), and tables of two kinds (see `ir/storage.py`). With
N = 1 where V is -1, and inputs i from 0 to M, a table of flips holds for every four bits n of N

    sum(n ? M - i : i) = sum(i * V) + M * popcount(n),

and a table of subsets sum(i * W) for every four bits of W. Where numbers have two digits, those are looked up by the
same bits, and the findings of the second one count sixteen times as much.

An index has bits for sixteen channels of each of four tables, table by table where shuffles read it. Those of two times
four tables lie in one byte, the first in its low bits, or each in one of its own. No tiling shows in the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler.ir.codes import BYTE, Codes
from qcompiler.ir.storage import TABLE_CHANNELS, TABLE_DIGIT_BITS, TABLE_INPUTS, Packing
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.byte_sums import IndexReduction, codes_of
from qcompiler.targets.vector.emit import LANES, Parameter
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.planes import WeightPlanes, weight_planes

ENTRIES = 1 << TABLE_INPUTS
BYTES = TABLE_CHANNELS // TABLE_INPUTS * ENTRIES
"""Of the tables of sixteen channels, and of an index."""
MOST_BYTE = 255
LARGEST = MOST_BYTE // TABLE_INPUTS
"""Digit, so that bytes hold sums of four."""

_MOST_LOOKUPS = 2
"""Of an input: planes of weights times digits; with more, products of bytes are faster."""


def planes_of(problem: Conv2d) -> WeightPlanes:
    """Of the weights."""
    return weight_planes(problem.weights)


def vectors_of(problem: Conv2d) -> int:
    """Sixteen channels each, of a pixel."""
    return -(-problem.x.c // TABLE_CHANNELS)


def digits_of(problem: Conv2d) -> int:
    """Of the numbers in tables."""
    return len(problem.x.digits)


def worths_of(problem: Conv2d) -> tuple[int, ...]:
    """What findings are worth: those of every digit in the first plane of weights, then in the next one."""
    scales = [1 << TABLE_DIGIT_BITS * place for place in range(digits_of(problem))]
    return tuple(factor * scale for factor in planes_of(problem).factors for scale in scales)


def largest_digit(problem: Conv2d) -> int:
    """Of the numbers in tables."""
    return max(problem.x.digits)


def table_packing(weights: Codes) -> Packing:
    """The tables that weights are looked up in."""
    return "flips" if weight_planes(weights).signs else "subsets"


def fits_nibbles(problem: Conv2d, most_lookups: int = _MOST_LOOKUPS) -> bool:
    """Whether inputs are in the right tables, bytes hold the sums of four of them, and 32 bits those of all.

    most_lookups: of an input, with which they may still be faster than other kernels.
    """
    if problem.x.packing != table_packing(problem.weights) or problem.groups > 1 or problem.centred:
        return False
    worths, most = [abs(worth) for worth in worths_of(problem)], largest_digit(problem)
    lookups = prod(problem.kernel) * vectors_of(problem)
    largest = lookups * TABLE_CHANNELS * most * sum(worths)
    few = 1 < most <= LARGEST and len(worths) <= most_lookups and max(worths) <= BYTE.high
    return few and largest < 2**31


@dataclass(frozen=True)
class NibbleReduction(IndexReduction):
    """Weights uint8 [blocks, taps, pairs of sixteen inputs, planes, 2 / per_byte, 64].

    A byte holds bits of four inputs of one of a pair or of both.
    """

    family: ClassVar[str] = "nibbles_conv2d"

    @property
    def per_byte(self) -> int:
        """Indices that a byte holds, 1 or 2."""
        return 2

    def label(self, frame: Frame) -> str:
        """Widths of weights and activations, whether indices lie apart, and tiling."""
        bits, apart = codes_of(frame.problem).bits, "_apart" if self.per_byte == 1 else ""
        return f"{self.family}_w{frame.problem.weights.bits}a{bits}{apart}_{frame.tiling.label}"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Weights."""
        return [Parameter("weights", "uint8", frame.blocks.count * self.block_bytes(frame.problem), 64)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Indices in the order of the loops."""
        planes, inputs = planes_of(frame.problem), frame.problem.x.c
        bits = planes.bits(weights, frame.problem.weights).transpose(0, 3, 4, 2, 1).astype(np.uint8)
        padded = np.pad(bits, [(0, 0)] * 3 + [(0, -inputs % (2 * TABLE_CHANNELS)), (0, 0)])
        spread = frame.blocks.spread(padded).reshape(len(bits), -1, padded.shape[3], frame.blocks.count, LANES)
        fours = spread.reshape(len(bits), spread.shape[1], -1, 2, BYTES // ENTRIES, TABLE_INPUTS, *spread.shape[3:])
        index = (fours << np.arange(TABLE_INPUTS, dtype=np.uint8)[:, None, None]).sum(axis=5, dtype=np.uint8)
        parts = [
            index[:, :, :, part :: self.per_byte] << np.uint8(TABLE_INPUTS * part) for part in range(self.per_byte)
        ]
        joined = np.bitwise_or.reduce(parts).transpose(5, 1, 2, 0, 3, 4, 6)
        return [np.ascontiguousarray(self.in_order(joined))]

    def in_order(self, indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Bytes [..., 4, 16] of every four tables and sixteen channels as they are read."""
        return indices

    def bases(self, problem: Conv2d, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """What the lowest code leaves out, and what flips add."""
        return super().bases(problem, weights) - codes_of(problem).step * self._added(problem, weights)

    def meaning(self, problem: Conv2d, patches: Array, weights: Array) -> Array:
        """Sums of products of the numbers of codes, times the step, and what bits add to them."""
        added = self._added(problem, weights.reshape(*weights.shape, 1, 1))
        return np.asarray(super().meaning(problem, patches, weights) + codes_of(problem).step * added)

    def _added(self, problem: Conv2d, weights: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """What flips add to sums of products, int64 [O]; weights: OIHW."""
        planes = planes_of(problem)
        flips = planes.bits(weights, problem.weights).sum(axis=(2, 3, 4))
        return np.asarray((problem.x.flips or 0) * (np.array(planes.factors)[:, None] * flips).sum(axis=0), np.int64)

    def block_bytes(self, problem: Conv2d) -> int:
        """Weights of a block of channels."""
        return prod(problem.kernel) * self.tap_bytes(problem)

    def tap_bytes(self, problem: Conv2d) -> int:
        """Weights of a block for a tap."""
        return -(-vectors_of(problem) // 2) * self.pair_bytes(problem)

    def pair_bytes(self, problem: Conv2d) -> int:
        """Weights of a block for two times sixteen inputs."""
        return len(planes_of(problem).factors) * (2 // self.per_byte * BYTES)
