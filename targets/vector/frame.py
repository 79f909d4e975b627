"""A convolution laid out for registers: problem, channel blocks and tiling, on which every part of a kernel agrees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.border_classes import Borders, borders_of
from qcompiler.targets.vector.direct import Geometry, Tiling, WorkGrid


@dataclass(frozen=True)
class Frame:
    """A problem on one tiling."""

    problem: Conv2d
    blocks: Blocks
    tiling: Tiling

    def of_pixels(self, pixels: int) -> Self:
        """For a tile of so many pixels."""
        return replace(self, tiling=replace(self.tiling, pixels=pixels))

    @property
    def grid(self) -> WorkGrid:
        """The grid of work items."""
        return WorkGrid(self.problem, self.blocks, self.tiling)

    @property
    def geometry(self) -> Geometry:
        """Offsets through input and weights."""
        return Geometry(self.problem, self.blocks)

    @property
    def borders(self) -> Borders:
        """Border classes."""
        return borders_of(self.problem)

    @property
    def gathers(self) -> bool:
        """Whether the lanes of a block read different groups."""
        return not self.geometry.uniform(self.tiling.blocks)
