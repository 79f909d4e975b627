"""What is at hand while the code of one register tile is made."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import LANES, Expr, View, i64, lanes, splat
from qcompiler.targets.vector.epilogue import BoundEpilogue, Pixel
from qcompiler.targets.vector.frame import Frame


@dataclass(frozen=True)
class Source:
    """The input of a convolution as the lanes of a run of channel blocks see it."""

    frame: Frame
    element: str
    data: Expr
    offsets: list[Expr]
    block: Expr

    def start(self, pixel: Pixel) -> Expr:
        """Offset of the first tap of an output pixel."""
        problem, geometry = self.frame.problem, self.frame.geometry
        (sh, sw), (top, left, _, _) = problem.strides, problem.pads
        n, y, x0 = pixel
        view = View(problem.x, self.data, geometry.pixel_pitch)
        at = view.offset(n, y * sh - top, x0 * sw - left, i64(0))
        if self.offsets:
            return T.bind(at)
        return T.bind(at + geometry.group_offset(self.block))

    def pixel_step(self) -> int:
        """Units between the taps of neighbouring output pixels."""
        return self.frame.problem.strides[1] * self.frame.geometry.pixel_pitch

    def lanes_at(self, at: Expr) -> Expr:
        """Sixteen lanes of input: one unit broadcast, or each lane's own group."""
        if not self.offsets:
            return splat(self.data[at])
        if self.frame.geometry.depthwise:
            blocks = self.frame.blocks
            index = lanes(at + blocks.first(self.block))
            if blocks.ragged:
                return T.masked_load(f"{self.element}x16", self.data, index, blocks.lane_mask(self.block))
            return self.data[index]
        return self.data[splat(at) + T.Cast("int64x16", self.offsets[0][lanes(self.block * LANES)])]


@dataclass(frozen=True)
class Tile:
    """One register tile: where its operands come from and which outputs it computes.

    start: the bits that integer registers start from. rows: the range of kernel rows that lie inside the image.
    """

    frame: Frame
    source: Source
    start: int
    weights: list[Expr]
    finish: list[Expr]
    epilogue: BoundEpilogue
    pixel: Pixel
    rows: tuple[Expr, Expr]
    run: Expr
    block: Expr
