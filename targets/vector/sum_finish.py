"""From sums of integers that lack a number per output channel to outputs: acc = base + sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, lanes
from qcompiler.targets.vector.epilogue import Pixel, is_threshold
from qcompiler.targets.vector.finish import IntegerFinish, class_parameters, class_tables
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Reduction
from qcompiler.targets.vector.threshold import (
    Compared,
    pack_thresholds,
    planes_of_pixels,
    threshold_count,
    threshold_parameters,
)
from qcompiler.targets.vector.tile import Tile


@dataclass(frozen=True)
class SumFinish(IntegerFinish):
    """For codes of any width.

    sums: what registers hold: of a block of channels, or of 16 bits those of two blocks, which are compared at once and
    which the reduction has not yet multiplied by the step of the codes.
    """

    sums: Literal["int32", "int16", "uint16"] = "int32"

    @property
    def blocks(self) -> int:
        """One, or two of 16 bits."""
        return 1 if self.sums == "int32" else 2

    def parameters(self, frame: Frame, reduction: Reduction) -> list[Parameter]:
        """`base` int32 [classes, blocks * 16], or limits of all thresholds and what turns them; `classes` [oh + ow]."""
        operations, classes = frame.problem.epilogue, frame.borders.count
        if is_threshold(operations):
            found = threshold_parameters(operations[0], frame.blocks, classes, self.sums)
        else:
            found = [Parameter("base", "int32", classes * frame.blocks.count * LANES, 64)]
        return [*found, *class_parameters(frame)]

    def pack(self, frame: Frame, reduction: Reduction, constants: Constants) -> list[Array]:
        """The arrays for `parameters`."""
        base = _bases(frame, reduction, constants)
        if is_threshold(frame.problem.epilogue):
            codes = frame.problem.x.codes
            assert codes is not None
            dtype, step = np.dtype(self.sums).type, 1 if self.blocks == 1 else codes.step
            found = pack_thresholds(constants, frame.blocks, base, dtype, step)
        else:
            found = [frame.blocks.spread(base.astype(np.int32))]
        return [*found, *class_tables(frame)]

    def register(self, tile: Tile, pixel_class: Expr, pixel: Pixel, block: Expr, value: Expr) -> None:
        """Finish one register of weighted counts."""
        blocks, operations = tile.frame.blocks, tile.frame.problem.epilogue
        at = (pixel_class * blocks.count + block) * LANES
        if not is_threshold(operations):
            tile.epilogue.emit(pixel, block, T.Cast("float32x16", value + tile.finish[0][lanes(at)]))
            return
        limits, turned = tile.finish[:2]
        size = tile.frame.borders.count * blocks.count * LANES
        bits = f"uint{LANES * self.blocks}"
        falls = T.Cast(bits, turned[block])
        for other in range(1, self.blocks):
            falls = falls | T.shift_left(T.Cast(bits, turned[block + other]), T.Cast(bits, other * LANES))
        compared = Compared(T.bind(value), limits, T.bind(falls), at, size, LANES * self.blocks)
        tile.epilogue.store_counts(pixel, block, compared)

    def compares_pixels(self, frame: Frame) -> bool:
        """Whether `planes_of_pixels` makes the outputs: all pixels of a channel have the same limits."""
        operations = frame.problem.epilogue
        if not is_threshold(operations) or frame.borders.count > 1:
            return False
        return operations[0].into is not None and operations[0].into.in_planes

    def planes_of_pixels(self, tile: Tile, registers: list[Expr]) -> list[Expr]:
        """Bits of a block of channels in int32x16, a lane for each pixel, plane by plane; registers: by channels."""
        limits, turned = tile.finish[:2]
        size = tile.frame.blocks.count * LANES
        levels = threshold_count(tile.frame.problem.epilogue[0])
        at = [tile.block * LANES + level * size for level in range(levels)]
        return planes_of_pixels(registers, limits, turned[tile.block], at)


def _bases(frame: Frame, reduction: Reduction, constants: Constants) -> Array:
    """int64 [classes, O]: what is added to counts; border pixels see padding instead of the code in the halo."""
    problem, borders, codes = frame.problem, frame.borders, frame.problem.x.codes
    assert constants.weights is not None and codes is not None
    weights = np.rint(constants.weights).astype(np.int64)
    base = reduction.bases(problem, constants.weights)
    taps = weights.sum(axis=1)
    inside = np.einsum("ohw,rh,cw->rco", taps, borders.row_taps.astype(int), borders.column_taps.astype(int))
    padded = taps.sum(axis=(1, 2)) - inside.reshape(borders.count, -1)
    wrong = int(problem.pad_value) - int(problem.x.halo_value)
    bias = 0 if constants.bias is None else constants.bias
    return np.asarray(base + wrong * padded + bias, np.int64)
