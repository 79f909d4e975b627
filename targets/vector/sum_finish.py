"""From sums of integers that lack a number per output channel to outputs: acc = base + sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.chosen_thresholds import ChosenThresholds, chosen_thresholds
from qcompiler.targets.vector.code_lanes import plane_masks
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, View, lanes
from qcompiler.targets.vector.epilogue import Pixel, is_threshold
from qcompiler.targets.vector.finish import IntegerFinish, class_parameters, class_tables
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Reduction
from qcompiler.targets.vector.threshold import (
    Compared,
    pack_limits,
    pack_thresholds,
    planes_of_pixels,
    read_limits,
    threshold_count,
    threshold_parameters,
)
from qcompiler.targets.vector.tile import Tile


@dataclass(frozen=True)
class SumFinish(IntegerFinish):
    """For codes of any width.

    sums: what registers hold: of a block of channels, or of 16 bits those of two blocks, which are compared at once and
    which the reduction has not yet multiplied by the step of the codes. Their thresholds may be chosen by other codes.
    """

    sums: Literal["int32", "int16", "uint16"] = "int32"

    @property
    def blocks(self) -> int:
        """One, or two of 16 bits."""
        return 1 if self.sums == "int32" else 2

    def compares(self, frame: Frame) -> bool:
        """Whether the epilogue is a comparison with thresholds, or becomes one."""
        return super().compares(frame) or self._chosen(frame) is not None

    def _chosen(self, frame: Frame) -> ChosenThresholds | None:
        """How codes choose thresholds; only of sums of 16 bits."""
        return None if self.blocks == 1 else chosen_thresholds(frame.problem, frame.blocks)

    def parameters(self, frame: Frame, reduction: Reduction) -> list[Parameter]:
        """`base` int32 [classes, blocks * 16], or limits of all thresholds and what turns them; `classes` [oh + ow]."""
        operations, classes = frame.problem.epilogue, frame.borders.count
        if self.compares(frame):
            chosen = self._chosen(frame)
            choices = 1 if chosen is None else chosen.choices
            found = threshold_parameters(operations[-1], frame.blocks, classes, self.sums, choices)
        else:
            found = [Parameter("base", "int32", classes * frame.blocks.count * LANES, 64)]
        return [*found, *class_parameters(frame)]

    def pack(self, frame: Frame, reduction: Reduction, constants: Constants) -> list[Array]:
        """The arrays for `parameters`."""
        base, chosen = _bases(frame, reduction, constants), self._chosen(frame)
        codes = frame.problem.x.codes
        assert codes is not None
        dtype, step = np.dtype(self.sums).type, 1 if self.blocks == 1 else codes.step
        if chosen is not None:
            found = pack_limits(*chosen.limits(constants), frame.blocks, base, dtype, step)
        elif is_threshold(frame.problem.epilogue):
            found = pack_thresholds(constants, frame.blocks, base, dtype, step)
        else:
            found = [frame.blocks.spread(base.astype(np.int32))]
        return [*found, *class_tables(frame)]

    def register(self, tile: Tile, pixel_class: Expr, pixel: Pixel, block: Expr, value: Expr) -> None:
        """Finish one register of weighted counts."""
        blocks = tile.frame.blocks
        at = (pixel_class * blocks.count + block) * LANES
        if not self.compares(tile.frame):
            tile.epilogue.emit(pixel, block, T.Cast("float32x16", value + tile.finish[0][lanes(at)]))
            return
        turned = tile.finish[1]
        bits = f"uint{LANES * self.blocks}"
        falls = T.Cast(bits, turned[block])
        for other in range(1, self.blocks):
            falls = falls | T.shift_left(T.Cast(bits, turned[block + other]), T.Cast(bits, other * LANES))
        limits = self._limits(tile, pixel, block, T.bind(at))
        compared = Compared(T.bind(value), limits, T.bind(falls), LANES * self.blocks)
        tile.epilogue.store_counts(pixel, block, compared)

    def _limits(self, tile: Tile, pixel: Pixel, block: Expr, at: Expr) -> list[Expr]:
        """Those of the thresholds of the channels of a register, the first of which lie at `at`."""
        frame, chosen = tile.frame, self._chosen(tile.frame)
        size, channels = frame.borders.count * frame.blocks.count * LANES, LANES * self.blocks
        count = threshold_count(frame.problem.epilogue[-1])
        of_choices = [
            read_limits(tile.finish[0], at + choice * count * size, size, count, channels)
            for choice in range(1 if chosen is None else chosen.choices)
        ]
        if chosen is not None:
            view = tile.epilogue.operands[chosen.place]
            assert isinstance(view, View)
            for mask in plane_masks(view, frame.blocks, pixel, block, self.blocks, self._fills_words(frame, view)):
                bits = T.Cast(f"boolx{channels}", T.reinterpret(f"uint1x{channels}", mask))
                of_choices = [
                    [T.bind(T.Select(bits, one, other)) for other, one in zip(*pair, strict=True)]
                    for pair in zip(of_choices[::2], of_choices[1::2], strict=True)
                ]
        return of_choices[0]

    def _fills_words(self, frame: Frame, view: View) -> bool:
        """Whether the blocks of all registers are whole words of codes."""
        evenly = frame.tiling.blocks % self.blocks == 0 and frame.blocks.count % self.blocks == 0
        return evenly and self.blocks * LANES == WORD_BITS and view.buffer.groups == 1

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
