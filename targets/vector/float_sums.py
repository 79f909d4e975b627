"""Sums of products of floats: broadcast input times a vector of sixteen output channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.direct import for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, lanes, splat, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Reduction, Registers
from qcompiler.targets.vector.tile import Tile


@dataclass(frozen=True)
class FloatSums(Reduction):
    """Weights float32 [blocks / U, steps, U, 16]; `fma`: whether the variant fuses multiply and add."""

    fma: bool

    family: ClassVar[str] = "float_conv2d"
    element: ClassVar[str] = "float32"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """The weights."""
        return [Parameter("weights", "float32", frame.blocks.count * frame.geometry.steps * LANES, 64)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Weights in the order of the loops."""
        return [frame.geometry.arrange(weights)]

    def meaning(self, problem: Conv2d, patches: Array, weights: Array) -> Array:
        """Sums of products."""
        return np.asarray(patches.astype(np.float64) @ weights.T)

    def fill(self, tile: Tile) -> Registers:
        """Sum all pixels and blocks."""
        blocks, pixels, geometry = tile.frame.tiling.blocks, tile.frame.tiling.pixels, tile.frame.geometry
        sums = [[temporary("float32") for _ in range(blocks)] for _ in range(pixels)]
        for total in (total for row in sums for total in row):
            write(total, splat(T.float32(0)), lanes(0))
        source, w = tile.source, tile.weights[0]

        def step(at: Expr, weight: Expr) -> None:
            for p, row in enumerate(sums):
                x = source.lanes_at(at + p * source.pixel_step())
                for b, total in enumerate(row):
                    held = w[lanes(weight + geometry.block_offset(b))]
                    write(total, self._multiply_add(x, held, total[lanes(0)]), lanes(0))

        first = T.bind(geometry.first_weight(tile.block))
        for_taps(geometry.loops(), tile.rows, source.start(tile.pixel), first, geometry.step_weights, step)
        return sums

    def _multiply_add(self, x: Expr, w: Expr, total: Expr) -> Expr:
        """X * w + total, fused where the CPU can."""
        if self.fma:
            return T.call_llvm_pure_intrin("float32x16", "llvm.fma", x, w, total)
        return x * w + total
