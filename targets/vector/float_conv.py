"""Float32 convolution and matrix product: broadcast input times a vector of sixteen output channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.conv import DirectConv2d, Tile
from qcompiler.targets.vector.direct import for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, lanes, splat, temporary, write


@dataclass(frozen=True)
class FloatConv2d(DirectConv2d):
    """Weights float32 [blocks / U, steps, U, 16]; `fma`: whether the variant fuses multiply and add."""

    fma: bool

    family: ClassVar[str] = "float_conv2d"
    element: ClassVar[str] = "float32"

    def weight_parameters(self) -> list[Parameter]:
        """The weights."""
        return [Parameter("weights", "float32", self.blocks.count * self.geometry.steps * LANES, 64)]

    def pack_weights(self, constants: Constants) -> list[Array]:
        """Weights in the order of the loops."""
        assert constants.weights is not None
        return [self.geometry.arrange(constants.weights)]

    def emit_tile(self, tile: Tile) -> None:
        """Sum all pixels and blocks, then run the epilogue on each register."""
        blocks, pixels = self.tiling.blocks, self.tiling.pixels
        sums = [[temporary("float32") for _ in range(blocks)] for _ in range(pixels)]
        for total in (total for row in sums for total in row):
            write(total, splat(T.float32(0)), lanes(0))
        self._accumulate(tile, sums)
        n, y, x0 = tile.pixel
        for p, row in enumerate(sums):
            for b, total in enumerate(row):
                tile.epilogue.emit((n, y, x0 + p), tile.block + b, total[lanes(0)])

    def _accumulate(self, tile: Tile, sums: list[list[Expr]]) -> None:
        """sums[p][b] += products of pixel p with the channels of block b."""
        source, w, per_block = tile.source, tile.weights[0], self.geometry.block_weights

        def step(at: Expr, weight: Expr) -> None:
            for p, row in enumerate(sums):
                x = source.lanes_at(at + p * source.pixel_step())
                for b, total in enumerate(row):
                    write(total, self._multiply_add(x, w[lanes(weight + b * per_block)], total[lanes(0)]), lanes(0))

        first, per_step = T.bind(self.geometry.first_weight(tile.block)), self.geometry.step_weights
        for_taps(self.geometry.loops(), tile.rows, source.start(tile.pixel), first, per_step, step)

    def _multiply_add(self, x: Expr, w: Expr, total: Expr) -> Expr:
        """X * w + total, fused where the CPU can."""
        if self.fma:
            return T.call_llvm_pure_intrin("float32x16", "llvm.fma", x, w, total)
        return x * w + total
