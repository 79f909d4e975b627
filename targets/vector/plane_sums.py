"""Convolution of codes of any width: every pair of an activation plane and a weight plane counts bits.

In a register tile the planes of an activation stand beside the pixels, those of the weights beside the channel blocks,
so every word that is loaded serves several counts. If a tile has more counts than registers, pairs of planes are
counted in turns. See `planes.py` for what the counts mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.direct import Tiling, for_taps
from qcompiler.targets.vector.emit import (
    LANES,
    Expr,
    Parameter,
    four_added,
    lanes,
    register,
    splat,
    temporary,
    write,
)
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.planes import activation_factors, bases, weight_planes
from qcompiler.targets.vector.reduction import Reduction, Registers, weight_words
from qcompiler.targets.vector.tile import Tile

Pair = tuple[int, int]
"""A plane of activations and one of weights."""

Counts = dict[tuple[int, int, Pair], Expr]
"""Counts by pixel, block and pair of planes."""


@dataclass(frozen=True)
class PlaneReduction(Reduction):
    """Sums of products of codes in bit planes, whatever counts them: what registers lack, and what they mean."""

    def label(self, frame: Frame) -> str:
        """Widths of weights and activations, how weights lie where that differs, and tiling."""
        problem = frame.problem
        return f"{self.family}_w{problem.weights.bits}a{problem.x.planes}{self.storage(frame)}_{frame.tiling.label}"

    def storage(self, frame: Frame) -> str:
        """Of its label: how weights lie, "" for the only way, or the usual one."""
        return ""

    def skips_rows(self, frame: Frame) -> bool:
        """Never: the pixels of the padding hold codes."""
        return False

    def bases(self, problem: Conv2d, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """What counts of bits leave out; see planes.py."""
        return bases(weights, problem.weights, activations(problem))

    def meaning(self, problem: Conv2d, patches: Array, weights: Array) -> Array:
        """Counts of bits that differ, or are both 1, times what their planes are worth."""
        codes, planes = activations(problem), weight_planes(problem.weights)
        index = np.rint((patches - codes.low) / codes.step).astype(np.int64)
        total = np.zeros((len(patches), len(weights)))
        for plane, worth in enumerate(activation_factors(codes)):
            ours = (index >> plane & 1).astype(np.float64)
            for factor, theirs in zip(planes.factors, planes.bits(weights, problem.weights), strict=True):
                both = ours @ theirs.T.astype(np.float64)
                if planes.signs:
                    both = ours.sum(1)[:, None] + theirs.sum(1)[None, :] - 2 * both
                total += worth * factor * both
        return total


@dataclass(frozen=True)
class PlaneSums(PlaneReduction):
    """Weights uint32 [blocks / U, steps, U, planes, 16]; see `Geometry.arrange`.

    counts: most counts of sixteen lanes at a time. widen: see `VectorMachine.widen_counts`.
    """

    counts: int
    widen: str = ""

    family: ClassVar[str] = "planes_conv2d"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Words of weights."""
        return [weight_words(frame, len(weight_planes(frame.problem.weights).factors))]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Bits of all planes, side by side."""
        bits = self.bits(frame, weights)
        planes = [frame.geometry.arrange(np.where(plane, np.float32(1), np.float32(-1))) for plane in bits]
        return [np.ascontiguousarray(np.stack(planes, axis=3))]

    def bits(self, frame: Frame, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """The bits of weights that are stored, [planes, ...]."""
        return weight_planes(frame.problem.weights).bits(weights, frame.problem.weights)

    def pairs(self, problem: Conv2d) -> list[Pair]:
        """Pairs of planes (activation, weight) that are counted."""
        return list(product(range(problem.x.planes), range(len(weight_planes(problem.weights).factors))))

    def _turns(self, frame: Frame) -> list[list[Pair]]:
        """Those that are counted at the same time."""
        pairs = self.pairs(frame.problem)
        at_once = max(1, self.counts // (frame.tiling.pixels * frame.tiling.blocks))
        return [pairs[first : first + at_once] for first in range(0, len(pairs), at_once)]

    def fill(self, tile: Tile) -> Registers:
        """Count all pairs of planes for each pixel and block."""
        tiling = tile.frame.tiling
        sums = [[register(0) for _ in range(tiling.blocks)] for _ in range(tiling.pixels)]
        at, weight = tile.source.start(tile.pixel), T.bind(tile.frame.geometry.first_weight(tile.block))
        for pairs in self._turns(tile.frame):
            self.count(tile, sums, pairs, at, weight)
        return sums

    def count(self, tile: Tile, sums: list[list[Expr]], pairs: list[Pair], at: Expr, weight: Expr) -> None:
        """Add what `pairs` of planes are worth to the sums of every pixel and block."""
        problem, tiling, geometry = tile.frame.problem, tile.frame.tiling, tile.frame.geometry
        counts = {place: register(0) for place in places(tiling, pairs)}

        def step(x: Expr, w: Expr) -> None:
            self.step(tile, counts, x, w)

        for_taps(geometry.loops(), tile.every_row, at, weight, geometry.step_weights, step)
        for (p, b, pair), count in counts.items():
            factor = splat(T.int32(worth_of(problem, pair)))
            write(sums[p][b], sums[p][b][lanes(0)] + count[lanes(0)] * factor, lanes(0))

    def step(self, tile: Tile, counts: Counts, at: Expr, weight: Expr) -> None:
        """Count the bits of one word per pixel and plane against one word per block and plane."""
        held, geometry = weight_planes(tile.frame.problem.weights), tile.frame.geometry
        planes = len(held.factors)
        words = self.inputs(tile, counts, at)
        for (p, b, (j, k)), count in counts.items():
            other = tile.weights[0][lanes((weight + geometry.block_offset(b)) * planes + k * LANES)]
            both = words[p, j] ^ other if held.signs else words[p, j] & other
            self.add(count, both)

    def inputs(self, tile: Tile, counts: Counts, at: Expr) -> dict[tuple[int, int], Expr]:
        """One word per pixel and plane, in all lanes."""
        pitch = tile.frame.geometry.plane_pitch
        return {
            (p, j): T.bind(tile.source.lanes_at(at + (p * tile.source.pixel_step() + j * pitch)))
            for p, j in dict.fromkeys((p, j) for p, _, (j, _) in counts)
        }

    def add(self, count: Expr, both: Expr) -> None:
        """Add the number of bits of each word to its lane."""
        if not self.widen:
            write(count, count[lanes(0)] + T.reinterpret("int32x16", T.popcount(both)), lanes(0))
            return
        numbers = temporary("uint8", 4 * LANES)
        write(numbers, T.popcount(T.reinterpret(f"uint8x{4 * LANES}", both)), lanes(0, 4 * LANES))
        for quad in range(0, LANES, 4):
            added = four_added(numbers[lanes(4 * quad, 16)], self.widen)
            write(count, count[lanes(quad, 4)] + added, lanes(quad, 4))


def places(tiling: Tiling, pairs: list[Pair]) -> list[tuple[int, int, Pair]]:
    """Where `Counts` of pairs of planes stand."""
    return list(product(range(tiling.pixels), range(tiling.blocks), pairs))


def worth_of(problem: Conv2d, pair: Pair) -> int:
    """What a bit that a pair of planes counts is worth."""
    return activation_factors(activations(problem))[pair[0]] * weight_planes(problem.weights).factors[pair[1]]


def activations(problem: Conv2d) -> Codes:
    """The codes of the input."""
    assert problem.x.codes is not None
    return problem.x.codes
