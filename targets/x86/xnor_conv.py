"""Binary convolution in word form: 32 channels of one pixel against sixteen output channels in three instructions.

count += popcount(broadcast(activation word) xor weight words). With VPOPCNTDQ each step is one instruction; elsewhere
LLVM expands the population count, which makes this the portable form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.target import Array, Constants
from qcompiler.targets.x86.conv import Tile
from qcompiler.targets.x86.direct import for_taps
from qcompiler.targets.x86.emit import LANES, Expr, Parameter, lanes, splat, temporary, write
from qcompiler.targets.x86.integers import CountingConv2d


@dataclass(frozen=True)
class XnorConv2d(CountingConv2d):
    """Weights uint32 [runs, steps, B, 16]."""

    family: ClassVar[str] = "xnor_conv2d"

    def weight_parameters(self) -> list[Parameter]:
        """Words of weights."""
        return [Parameter("weights", "uint32", self.work.runs * self.geometry.steps * self.tiling.blocks * LANES, 64)]

    def pack_weights(self, constants: Constants) -> list[Array]:
        """Bits of the weights, channels of direction -1 negated."""
        return [self.geometry.arrange(self.directed_weights(constants), self.tiling.blocks)]

    def emit_tile(self, tile: Tile) -> None:
        """Count mismatches of all pixels and blocks, then finish each register."""
        blocks = self.tiling.blocks
        counts = [[temporary("int32") for _ in range(blocks)] for _ in range(self.tiling.pixels)]
        for count in (count for row in counts for count in row):
            write(count, splat(T.int32(self.start)), lanes(0))
        self._accumulate(tile, counts)
        self.finish_tile(tile, counts)

    def _accumulate(self, tile: Tile, counts: list[list[Expr]]) -> None:
        """counts[p][b] += mismatches of pixel p with the channels of block b."""
        source, blocks, w = tile.source, self.tiling.blocks, tile.weights[0]

        def step(at: Expr, weight: Expr) -> None:
            for p, row in enumerate(counts):
                word = source.lanes_at(at + p * source.pixel_step())
                for b, count in enumerate(row):
                    mismatch = T.popcount(word ^ w[lanes(weight + b * LANES)])
                    write(count, count[lanes(0)] + T.reinterpret("int32x16", mismatch), lanes(0))

        per_step = blocks * LANES
        first = tile.run * (self.geometry.steps * per_step)
        for_taps(self.geometry.loops(), tile.rows, source.start(tile.pixel), first, per_step, step)
