"""Identity plus epilogue: layout changes, packing and unpacking of bits, elementwise chains; one item is one row."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.targets.problem import Map2d
from qcompiler.targets.vector.code_lanes import load_codes
from qcompiler.targets.vector.emit import Expr, Parameter, block_parameter, block_view, fenced
from qcompiler.targets.vector.epilogue import (
    BoundEpilogue,
    Pixel,
    load_lanes,
)
from qcompiler.targets.vector.pool import emit_row
from qcompiler.targets.vector.rows import RowKernel


@dataclass(frozen=True)
class ElementMap2d(RowKernel):
    """An elementwise chain over all pixels; see `qcompiler.targets.target.Kernel`."""

    problem: Map2d

    @property
    def name(self) -> str:
        """Family and input type."""
        codes = self.problem.x.codes
        return f"map2d_{codes.label if codes else 'float32'}"

    @property
    def items(self) -> int:
        """Rows of all images."""
        return self.problem.x.n * self.problem.x.h

    @property
    def source(self) -> Parameter:
        """Codes are read in halves of words or words."""
        return block_parameter("x", self.problem.x)

    def emit_item(self, x: Expr, epilogue: BoundEpilogue, item: Expr) -> None:
        """Run the chain on every pixel of a row."""
        image = self.problem.x
        view = block_view(image, x)

        def pixel(at: Pixel, block: Expr) -> None:
            value = (
                load_codes(view, self.blocks, at, block)
                if image.packed
                else fenced(load_lanes(view, self.blocks, at, block))
            )
            epilogue.emit(at, block, value)

        emit_row((image.h, image.w), self.blocks, epilogue, item, pixel)
