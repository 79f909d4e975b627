"""Mismatching bits by words: 32 channels of one pixel against sixteen output channels in three instructions.

count += popcount(broadcast(activation word) xor weight words). With VPOPCNTDQ each step is one instruction; elsewhere
LLVM expands the population count, which makes this the portable kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.direct import ReductionLoop, for_taps
from qcompiler.targets.vector.emit import Expr, Parameter, i64, lanes, splat, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.kernel_columns import Pixels, choose, sees
from qcompiler.targets.vector.reduction import Reduction, Registers, weight_words
from qcompiler.targets.vector.tile import Tile

# below this, a loop over the words of one kernel column costs more than the taps it leaves out
_FEWEST_WORDS = 4


TapBody = Callable[[Expr, Expr], None]


class Mismatches(Reduction):
    """Counts of the bits in which codes of -1 and +1 and their weights differ."""

    def meaning(self, problem: Conv2d, patches: Array, weights: Array) -> Array:
        """How many products are -1."""
        return np.asarray((patches.shape[1] - patches.astype(np.float64) @ weights.T) / 2)


@dataclass(frozen=True)
class WordMismatches(Mismatches):
    """Weights uint32 [blocks / U, steps, U, 16]; see `Geometry.arrange`."""

    family: ClassVar[str] = "xnor_conv2d"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Words of weights."""
        return [weight_words(frame)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Bits of the weights."""
        return [frame.geometry.arrange(weights)]

    def fill(self, tile: Tile) -> Registers:
        """Count mismatches of all pixels and blocks."""
        tiling = tile.frame.tiling
        counts = [[temporary("int32") for _ in range(tiling.blocks)] for _ in range(tiling.pixels)]
        for count in (count for row in counts for count in row):
            write(count, splat(T.int32(tile.start)), lanes(0))
        self.accumulate(tile, counts)
        return counts

    def skips_columns(self, frame: Frame) -> bool:
        """Where there are padded columns, and enough words per pixel."""
        problem = frame.problem
        padded = problem.pad_value == 0 and max(problem.pads[1], problem.pads[3]) > 0
        return padded and frame.geometry.group_inputs >= _FEWEST_WORDS

    def accumulate(self, tile: Tile, counts: list[list[Expr]]) -> None:
        """counts[p][b] += mismatches of pixel p with the channels of block b."""
        geometry = tile.frame.geometry
        at, weight = tile.source.start(tile.pixel), T.bind(geometry.first_weight(tile.block))
        if self.skips_columns(tile.frame):
            self._columns(tile, counts, at, weight)
        else:
            step = partial(self._step, tile, dict(enumerate(counts)))
            self.for_steps(geometry.loops(), tile, at, weight, step)

    def for_steps(self, loops: list[ReductionLoop], tile: Tile, at: Expr, weight: Expr, body: TapBody) -> None:
        """Run the reduction `loops`; see `for_taps`."""
        for_taps(loops, tile.rows, at, weight, tile.frame.geometry.step_weights, body)

    def _columns(self, tile: Tile, counts: list[list[Expr]], at: Expr, weight: Expr) -> None:
        """Accumulate kernel column by column, for the pixels that see it."""
        frame, geometry = tile.frame, tile.frame.geometry
        kw, words, per_step = frame.problem.kernel[1], geometry.group_inputs, geometry.step_weights
        rows, columns = geometry.taps()
        with T.serial(*tile.rows) as row:
            for column in range(kw):
                x = T.bind(at + (row * rows.stride + column * columns.stride))
                w = T.bind(weight + (row * kw + column) * (words * per_step))

                def visit(pixels: Pixels, x: Expr = x, w: Expr = w) -> None:
                    with T.serial(i64(0), i64(words)) as word:
                        self._step(tile, {p: counts[p] for p in pixels}, x + word, w + word * per_step)

                choose(tile.pixel[2], sees(frame.problem, column, frame.grid.starts, len(counts)), visit)

    def _step(self, tile: Tile, counts: dict[int, list[Expr]], at: Expr, weight: Expr) -> None:
        """Compare one word of some pixels with the weights of all blocks."""
        for p, row in counts.items():
            word = tile.source.lanes_at(at + p * tile.source.pixel_step())
            for b, count in enumerate(row):
                place = weight + tile.frame.geometry.block_offset(b)
                mismatch = T.popcount(word ^ tile.weights[0][lanes(place)])
                write(count, count[lanes(0)] + T.reinterpret("int32x16", mismatch), lanes(0))
