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
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.conv import Tile
from qcompiler.targets.vector.direct import for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, splat, temporary, write
from qcompiler.targets.vector.epilogue import Pixel, is_threshold
from qcompiler.targets.vector.integer_conv import IntegerConv2d
from qcompiler.targets.vector.planes import WeightPlanes, activation_factors, bases, weight_planes
from qcompiler.targets.vector.threshold import pack_thresholds, threshold_parameters, threshold_planes

Pair = tuple[int, int]


@dataclass(frozen=True)
class PlanesConv2d(IntegerConv2d):
    """Weights uint32 [blocks / U, steps, U, planes, 16]; see `Geometry.arrange`.

    counts: most counts of sixteen lanes at a time.
    """

    counts: int

    family: ClassVar[str] = "planes_conv2d"

    @property
    def name(self) -> str:
        """Widths of weights and activations, and tiling."""
        return f"{self.family}_w{self.problem.weights.bits}a{self.problem.x.planes}_{self.tiling.label}"

    @property
    def planes(self) -> WeightPlanes:
        """The planes of the weights."""
        return weight_planes(self.problem.weights)

    @property
    def _activations(self) -> Codes:
        codes = self.problem.x.codes
        assert codes is not None
        return codes

    def weight_parameters(self) -> list[Parameter]:
        """Words of weights."""
        words = self.blocks.count * self.geometry.steps * len(self.planes.factors) * LANES
        return [Parameter("weights", "uint32", words, 64)]

    def pack_weights(self, constants: Constants) -> list[Array]:
        """Bits of all planes, side by side."""
        assert constants.weights is not None
        bits = self.planes.bits(constants.weights, self.problem.weights)
        planes = [self.geometry.arrange(np.where(plane, np.float32(1), np.float32(-1))) for plane in bits]
        return [np.ascontiguousarray(np.stack(planes, axis=3))]

    def finish_parameters(self) -> list[Parameter]:
        """`base` int32 [classes, blocks * 16], or limits of all thresholds and what turns them; `classes` [oh + ow]."""
        steps, classes = self.problem.epilogue, self.borders.count
        if is_threshold(steps):
            found = threshold_parameters(steps[0], self.blocks, classes, "int32")
        else:
            found = [Parameter("base", "int32", classes * self.blocks.count * LANES, 64)]
        if self.borders.count > 1:
            found.append(Parameter("classes", "int32", sum(self.problem.out_hw), 64))
        return found

    def pack_finish(self, constants: Constants) -> list[Array]:
        """The arrays for `finish_parameters`."""
        base = self._bases(constants)
        if is_threshold(self.problem.epilogue):
            found = pack_thresholds(constants, self.blocks, base, np.int32)
        else:
            found = [self.blocks.spread(base.astype(np.int32))]
        return [*found, self.borders.table()] if self.borders.count > 1 else found

    def _bases(self, constants: Constants) -> Array:
        """int64 [classes, O]: what is added to counts; border pixels see padding instead of the code in the halo."""
        assert constants.weights is not None
        weights, borders = np.rint(constants.weights).astype(np.int64), self.borders
        base = bases(constants.weights, self.problem.weights, self._activations)
        taps = weights.sum(axis=1)
        inside = np.einsum("ohw,rh,cw->rco", taps, borders.row_taps.astype(int), borders.column_taps.astype(int))
        padded = taps.sum(axis=(1, 2)) - inside.reshape(borders.count, -1)
        wrong = int(self.problem.pad_value) - int(self.problem.x.halo_value)
        return np.asarray(base + wrong * padded, np.int64)

    @property
    def _turns(self) -> list[list[Pair]]:
        """Pairs of planes (activation, weight) that are counted at the same time."""
        pairs = list(product(range(self.problem.x.planes), range(len(self.planes.factors))))
        at_once = max(1, self.counts // (self.tiling.pixels * self.tiling.blocks))
        return [pairs[first : first + at_once] for first in range(0, len(pairs), at_once)]

    def emit_tile(self, tile: Tile) -> None:
        """Count all pairs of planes, and finish each pixel and block."""
        sums = [[temporary("int32") for _ in range(self.tiling.blocks)] for _ in range(self.tiling.pixels)]
        for total in (total for row in sums for total in row):
            write(total, splat(T.int32(0)), lanes(0))
        at, weight = tile.source.start(tile.pixel), T.bind(self.geometry.first_weight(tile.block))
        for pairs in self._turns:
            self._count(tile, sums, pairs, at, weight)
        self.finish_tile(tile, sums)

    def _count(self, tile: Tile, sums: list[list[Expr]], pairs: list[Pair], at: Expr, weight: Expr) -> None:
        """Add what `pairs` of planes are worth to the sums of every pixel and block."""
        counts = {
            (p, b, pair): temporary("int32")
            for p, b, pair in product(range(self.tiling.pixels), range(self.tiling.blocks), pairs)
        }
        for count in counts.values():
            write(count, splat(T.int32(0)), lanes(0))
        all_rows = (i64(0), i64(self.problem.kernel[0]))

        def step(x: Expr, w: Expr) -> None:
            self._step(tile, counts, x, w)

        for_taps(self.geometry.loops(), all_rows, at, weight, self.geometry.step_weights, step)
        worth = activation_factors(self._activations)
        for (p, b, (j, k)), count in counts.items():
            factor = splat(T.int32(worth[j] * self.planes.factors[k]))
            write(sums[p][b], sums[p][b][lanes(0)] + count[lanes(0)] * factor, lanes(0))

    def _step(self, tile: Tile, counts: dict[tuple[int, int, Pair], Expr], at: Expr, weight: Expr) -> None:
        """Count the bits of one word per pixel and plane against one word per block and plane."""
        planes, per_block = len(self.planes.factors), self.geometry.block_weights
        words = {
            (p, j): T.bind(tile.source.lanes_at(at + (p * tile.source.pixel_step() + j)))
            for p, j in dict.fromkeys((p, j) for p, _, (j, _) in counts)
        }
        for (p, b, (j, k)), count in counts.items():
            other = tile.weights[0][lanes(weight * planes + (b * per_block * planes + k * LANES))]
            both = words[p, j] ^ other if self.planes.signs else words[p, j] & other
            write(count, count[lanes(0)] + T.reinterpret("int32x16", T.popcount(both)), lanes(0))

    def finish(self, tile: Tile, pixel_class: Expr, pixel: Pixel, block: Expr, register: Expr) -> None:
        """Finish one register of weighted counts, int32x16."""
        at = (pixel_class * self.blocks.count + block) * LANES
        if not is_threshold(self.problem.epilogue):
            value = T.Cast("float32x16", register + tile.finish[0][lanes(at)])
            tile.epilogue.emit(pixel, block, value)
            return
        target = tile.epilogue.targets[0]
        assert target is not None
        limits, turned = tile.finish[:2]
        size = self.borders.count * self.blocks.count * LANES
        masks = threshold_planes(
            self.problem.epilogue[0], self.blocks, T.bind(register), limits, turned, block, at, size
        )
        for plane, mask in enumerate(masks):
            tile.epilogue.store_mask(target, pixel, block, mask, plane=plane)
