"""What is at hand while the code of one register tile is made."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import (
    LANES,
    SECOND,
    Expr,
    View,
    i64,
    lanes,
    prefetch,
    splat,
    split,
    temporary,
    write,
)
from qcompiler.targets.vector.epilogue import BoundEpilogue, Pixel
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.walk import ends_rows

# bytes of weights from which on it pays to ask for those of the next tile; measured
_MANY_WEIGHTS = 2**18


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

    def lanes_at(self, at: Expr, first: int = 0, count: int = LANES) -> Expr:
        """`count` lanes of input from lane `first` of a block: one unit broadcast, or each lane's own group."""
        if not self.offsets:
            return splat(self.data[at], count)
        if self.frame.geometry.depthwise:
            blocks = self.frame.blocks
            index = lanes(at + blocks.first(self.block) + first, count)
            if blocks.ragged:
                mask = blocks.lane_mask(self.block, first, count)
                return T.masked_load(f"{self.element}x{count}", self.data, index, mask)
            return self.data[index]
        own = T.Cast(f"int64x{count}", self.offsets[0][lanes(self.block * LANES + first, count)])
        return self.data[splat(at, count) + own]


@dataclass(frozen=True)
class Tile:
    """One register tile: where its operands come from and which outputs it computes.

    pixel: the first, as tiles walk (see `walk`). start: the bits that integer registers start from. rows: the range of
    kernel rows that lie inside the image.
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

    def outputs(self, pixels: int) -> list[Pixel]:
        """Where the first outputs of the tile lie in images, so many."""
        (n, y, x0), (_, ow) = self.pixel, self.frame.problem.out_hw
        if not ends_rows(self.frame.problem):
            return [(n, y, x0 + p) for p in range(pixels)]
        # of a bound value TVM's analyzer knows how large it is, and divides it as 64 bits; see `split`
        held = temporary("int32", 1)
        write(held, T.Cast("int32", x0), i64(0))
        first = i64(held[i64(0)])
        if ow % pixels == 0:
            row, column = (T.bind(part) for part in split(first, ow))
            return [(n, row, column + p) for p in range(pixels)]
        places = [split(first + p, ow) for p in range(pixels)]
        return [(n, T.bind(row), T.bind(column)) for row, column in places]

    def ask_ahead(self, at: Expr, run: int, size: int) -> None:
        """Ask for the weights that the next tile of blocks reads where this one reads those at `at`, if there are many.

        run: elements from the weights of one tile to those of the next; size: bytes of all.
        """
        if size < _MANY_WEIGHTS:
            return
        followed = self.block + 2 * self.frame.tiling.blocks <= self.frame.blocks.count
        place = self.weights[0][at + T.Select(followed, i64(run), i64(0))]
        T.evaluate(prefetch(T.address_of(place), SECOND))

    @property
    def every_row(self) -> tuple[Expr, Expr]:
        """The range of all kernel rows, those outside of the image too."""
        return i64(0), i64(self.frame.problem.kernel[0])

    def needed_rows(self, of_numbers: bool) -> tuple[Expr, Expr]:
        """The range of kernel rows that add to sums; of_numbers: of codes, so that the lowest adds nothing."""
        return self.rows if of_numbers and self.frame.problem.padded_with_first else self.every_row
