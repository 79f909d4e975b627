"""What convolutions of codes share: integer registers, and a walk over the outputs of a tile with border classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.borders import Borders, borders_of
from qcompiler.targets.vector.conv import DirectConv2d, Tile
from qcompiler.targets.vector.emit import Expr, i64, lanes
from qcompiler.targets.vector.epilogue import Pixel


@dataclass(frozen=True)
class IntegerConv2d(DirectConv2d):
    """A convolution of packed codes; a subclass counts, and turns a register of counts into outputs.

    The last of the finish's constants are the classes, int32 [oh + ow], where there is more than one.
    """

    element: ClassVar[str] = "uint32"

    @property
    def borders(self) -> Borders:
        """Border classes."""
        return borders_of(self.problem)

    @abstractmethod
    def finish(self, tile: Tile, pixel_class: Expr, pixel: Pixel, block: Expr, register: Expr) -> None:
        """Turn one register, int32x16, into the outputs of a channel block at a pixel of a border class."""

    def finish_tile(self, tile: Tile, registers: Sequence[Sequence[Expr]]) -> None:
        """Finish registers[p][b], stack arrays int32 [16]."""
        n, y, x0 = tile.pixel
        classes = tile.finish[-1] if self.borders.count > 1 else None
        row_class = T.bind(T.Cast("int64", classes[y])) if classes is not None else i64(0)
        for p, row in enumerate(registers):
            pixel_class = row_class
            if classes is not None:
                pixel_class = T.bind(row_class + T.Cast("int64", classes[x0 + (p + self.problem.out_hw[0])]))
            for b, register in enumerate(row):
                self.finish(tile, pixel_class, (n, y, x0 + p), tile.block + b, register[lanes(0)])
