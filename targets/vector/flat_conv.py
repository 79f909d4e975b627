"""Convolutions whose lanes are pixels: a walk over the pixels of an image as they lie in memory, row after row.

Pixels of rows that are stored behind one another are neighbours, so a tile goes on in the next row. What lies between
two rows of outputs, where the kernel reaches around the end of a row, is computed and left out. Images need not be as
wide as a vector, and rows that are no multiple of it waste nothing but that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.direct import Tiling
from qcompiler.targets.vector.emit import LANES, Expr, i64, lanes, split, temporary, write
from qcompiler.targets.vector.epilogue import BoundEpilogue
from qcompiler.targets.vector.sum_finish import SumFinish
from qcompiler.targets.vector.tile import Source, Tile
from qcompiler.targets.vector.transpose_map import transposed

# sixteen rows of a transposed vector would be too much for an array on the stack
_ROWS = LANES // 2


@dataclass(frozen=True)
class FlatGrid:
    """Work items: tiles of an image for one block of channels; neighbours share a block, whose tables stay in caches.

    The tiling has one block; its segment is not used.
    """

    problem: Conv2d
    blocks: Blocks
    tiling: Tiling

    @property
    def run(self) -> int:
        """Pixels from the first output of an image to the last, with what lies between rows."""
        oh, ow = self.problem.out_hw
        return (oh - 1) * self.problem.x.width + ow

    @property
    def tiles(self) -> int:
        """Tiles of an image; the last starts earlier rather than read beyond the image."""
        return -(-self.run // self.tiling.pixels)

    @property
    def items(self) -> int:
        """All work items."""
        return self.blocks.count * self.problem.x.n * self.tiles

    def decode(self, item: Expr) -> tuple[Expr, Expr, Expr]:
        """Block, image and tile."""
        block, rest = split(item, self.problem.x.n * self.tiles)
        n, tile = split(rest, self.tiles)
        return T.bind(block), T.bind(n), T.bind(tile)


def fits_flat(problem: Conv2d, pixels: int) -> bool:
    """Whether outputs lie one pixel apart, as inputs do, and an image has enough of them for a tile."""
    oh, ow = problem.out_hw
    near = problem.strides == (1, 1) and problem.groups == 1 and problem.second is None
    return near and (oh - 1) * problem.x.width + ow >= pixels


@dataclass(frozen=True)
class FlatConv2d(DirectConv2d):
    """A convolution by a reduction whose registers hold a channel of sixteen pixels; see `targets.target.Kernel`.

    The reduction fills registers[vector of pixels][channel of the block], which are transposed for the finish.
    """

    @property
    def grid(self) -> FlatGrid:
        """The grid of work items."""
        return FlatGrid(self.problem, self.frame.blocks, self.frame.tiling)

    @property
    def items(self) -> int:
        """Tiles of all images for all blocks of channels."""
        return self.grid.items

    def _emit_item(
        self, x: Expr, weights: list[Expr], offsets: list[Expr], finish: list[Expr], epilogue: BoundEpilogue, item: Expr
    ) -> None:
        """One tile."""
        frame, start, grid = self.frame, self.finish.start(self.frame), self.grid
        block, n, number = grid.decode(item)
        own = T.bind(number * frame.tiling.pixels)
        first = T.bind(T.min(own, i64(grid.run - frame.tiling.pixels)))
        source = Source(frame, self.reduction.element, x, offsets, block)
        rows = frame.geometry.visited_rows(i64(0))
        tile = Tile(frame, source, start, weights, finish, epilogue, (n, i64(0), first), rows, block, block)
        compares = isinstance(self.finish, SumFinish) and self.finish.compares_pixels(frame)
        for v, vector in enumerate(self.reduction.fill(tile)):
            if compares:
                self._compare(tile, vector, v * LANES, own)
            else:
                self._transpose(tile, vector, v * LANES, own)

    def _compare(self, tile: Tile, vector: list[Expr], offset: int, own: Expr) -> None:
        """Bits of outputs of sixteen neighbours, compared where they are."""
        assert isinstance(self.finish, SumFinish)
        held = []
        for plane in self.finish.planes_of_pixels(tile, vector):
            held.append(temporary("int32"))
            write(held[-1], plane, lanes(0))
        (target,) = tile.epilogue.targets
        assert target is not None

        def store(at: Tile, lane: Expr) -> None:
            for plane, bits in enumerate(held):
                mask = T.Cast("uint16", bits[lane])
                tile.epilogue.store_mask(target, at.pixel, tile.block, mask, plane=plane)

        self._outputs(tile, offset, LANES, own, store)

    def _transpose(self, tile: Tile, vector: list[Expr], offset: int, own: Expr) -> None:
        """Outputs of sixteen neighbours, by any finish of registers of channels."""
        columns = transposed([T.bind(register[lanes(0)]) for register in vector])
        for half in range(0, LANES, _ROWS):
            held = temporary("int32", _ROWS * LANES)
            for row in range(_ROWS):
                write(held, columns[half + row], lanes(row * LANES))

            def finish(at: Tile, row: Expr, held: Expr = held) -> None:
                value = temporary("int32")
                write(value, held[lanes(row * LANES)], lanes(0))
                self.finish.emit(at, [[value]])

            self._outputs(tile, offset + half, _ROWS, own, finish)

    def _outputs(self, tile: Tile, offset: int, count: int, own: Expr, body: Callable[[Tile, Expr], None]) -> None:
        """Run `body(tile at an output pixel, i)` for `count` neighbours, but for those before `own`, of another tile.

        The first pixel of a row writes what the row owns of halos.
        """
        (n, _, first), (oh, ow) = tile.pixel, self.problem.out_hw
        halos = any(target is not None and target.has_halo for target in tile.epilogue.targets)
        with T.serial(i64(0), i64(count)) as i:
            place = T.bind(first + offset + i)
            y, x = (T.bind(part) for part in split(place, self.problem.x.width))
            with T.If(T.And(place >= own, x < ow)), T.Then():
                if halos:
                    with T.If(x == 0), T.Then():
                        tile.epilogue.emit_halos(n, y, tile.block, oh)
                body(replace(tile, pixel=(n, y, x)), i)
