"""Binary convolution in word form: 32 channels of one pixel against sixteen output channels in three instructions.

count += popcount(broadcast(activation word) xor weight words). With VPOPCNTDQ each step is one instruction; elsewhere
LLVM expands the population count, which makes this the portable form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.columns import Pixels, choose, sees
from qcompiler.targets.vector.conv import Tile
from qcompiler.targets.vector.direct import Loop, for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, splat, temporary, write
from qcompiler.targets.vector.integers import CountingConv2d

# below this, a loop over the words of one kernel column costs more than the taps it leaves out
_FEWEST_WORDS = 4


Step = Callable[[Expr, Expr], None]


@dataclass(frozen=True)
class XnorConv2d(CountingConv2d):
    """Weights uint32 [blocks / U, steps, U, 16]; see `Geometry.arrange`."""

    family: ClassVar[str] = "xnor_conv2d"

    def weight_parameters(self) -> list[Parameter]:
        """Words of weights."""
        return [Parameter("weights", "uint32", self.blocks.count * self.geometry.steps * LANES, 64)]

    def pack_weights(self, constants: Constants) -> list[Array]:
        """Bits of the weights, channels of direction -1 negated."""
        return [self.geometry.arrange(self.directed_weights(constants))]

    def emit_tile(self, tile: Tile) -> None:
        """Count mismatches of all pixels and blocks, then finish each register."""
        blocks = self.tiling.blocks
        counts = [[temporary("int32") for _ in range(blocks)] for _ in range(self.tiling.pixels)]
        for count in (count for row in counts for count in row):
            write(count, splat(T.int32(self.start)), lanes(0))
        self.accumulate(tile, counts)
        self.finish_tile(tile, counts)

    @property
    def skips_columns(self) -> bool:
        """Where there are padded columns, and enough words per pixel."""
        padded = self.problem.pad_value == 0 and max(self.problem.pads[1], self.problem.pads[3]) > 0
        return padded and self.geometry.group_inputs >= _FEWEST_WORDS

    def accumulate(self, tile: Tile, counts: list[list[Expr]]) -> None:
        """counts[p][b] += mismatches of pixel p with the channels of block b."""
        at, weight = tile.source.start(tile.pixel), T.bind(self.geometry.first_weight(tile.block))
        if self.skips_columns:
            self._columns(tile, counts, at, weight)
        else:
            step = partial(self._step, tile, dict(enumerate(counts)))
            self.for_steps(self.geometry.loops(), tile, at, weight, step)

    def for_steps(self, loops: list[Loop], tile: Tile, at: Expr, weight: Expr, step: Step) -> None:
        """Run the reduction `loops`; see `for_taps`."""
        for_taps(loops, tile.rows, at, weight, self.geometry.step_weights, step)

    def _columns(self, tile: Tile, counts: list[list[Expr]], at: Expr, weight: Expr) -> None:
        """Accumulate kernel column by column, for the pixels that see it."""
        kw, words, per_step = self.problem.kernel[1], self.geometry.group_inputs, self.geometry.step_weights
        rows, columns = self.geometry.taps()
        with T.serial(*tile.rows) as row:
            for column in range(kw):
                x = T.bind(at + (row * rows.stride + column * columns.stride))
                w = T.bind(weight + (row * kw + column) * (words * per_step))

                def visit(pixels: Pixels, x: Expr = x, w: Expr = w) -> None:
                    with T.serial(i64(0), i64(words)) as word:
                        self._step(tile, {p: counts[p] for p in pixels}, x + word, w + word * per_step)

                choose(tile.pixel[2], sees(self.problem, column, self.work.starts, len(counts)), visit)

    def _step(self, tile: Tile, counts: dict[int, list[Expr]], at: Expr, weight: Expr) -> None:
        """Compare one word of some pixels with the weights of all blocks."""
        per_block = self.geometry.block_weights
        for p, row in counts.items():
            word = tile.source.lanes_at(at + p * tile.source.pixel_step())
            for b, count in enumerate(row):
                mismatch = T.popcount(word ^ tile.weights[0][lanes(weight + b * per_block)])
                write(count, count[lanes(0)] + T.reinterpret("int32x16", mismatch), lanes(0))
