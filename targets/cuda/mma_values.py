"""What becomes of sums of products in the kernels of tensor cores: values of pixels and channels, then the epilogue."""

from __future__ import annotations

from collections.abc import Sequence

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.cuda.elements import Pixel
from qcompiler.targets.cuda.emit import WARP, Place, registers, write
from qcompiler.targets.cuda.mma_tiling import MmaTiling
from qcompiler.targets.cuda.warp_kernel import pixel_of
from qcompiler.targets.cuda.windows import read_by
from qcompiler.targets.standard_op import Expr


class MmaValues:
    """Where a block of threads is, and what its sums are made into.

    operands: weights, sums of the weights of a channel where bits are compared, and what `CodeSums` adds.
    """

    def __init__(self, tiling: MmaTiling, operands: Sequence[Expr], place: Place) -> None:
        self.tiling, self.problem = tiling, tiling.problem
        self.weights, *rest = operands
        self.weight_totals = rest.pop(0) if tiling.by == "xor" else None
        self.offsets, *self.tap_sums = rest
        self.pixels = place.runs * tiling.pixels
        block, self.slice = place.block, T.int32(0)
        if tiling.slices > 1:
            block = T.bind(T.truncdiv(place.block, tiling.slices))
            self.slice = T.bind(T.truncmod(place.block, tiling.slices))
        self.row = T.bind(T.truncdiv(block, tiling.column_tiles) * tiling.rows)
        self.column = T.bind(T.truncmod(block, tiling.column_tiles))
        self.thread = place.thread
        self.warp, self.lane = T.bind(T.truncdiv(place.thread, WARP)), T.bind(T.truncmod(place.thread, WARP))

    def pixel(self, number: Expr) -> Pixel:
        """A pixel by its number, that of the last one for numbers behind it."""
        return pixel_of(T.min(number, self.pixels - 1), self.problem.out_hw)

    def finish(self, buffers: Sequence[Expr], pixel: Pixel, block: Expr, products: Expr, total: Expr | None) -> None:
        """The epilogue on the sums of a pixel and a block of channels; buffers: of the epilogue."""
        value = self._value(products, total, pixel, T.bind(block * WARP + self.lane))
        self.tiling.epilogue.emit(buffers, pixel, block, self.lane, value)

    def _value(self, products: Expr, total: Expr | None, pixel: Pixel, thread: Expr) -> Expr:
        """float32: the sum of a pixel and channel."""
        sums = self.tiling.sums
        offset = registers("int32", 1, self.offsets[thread])
        for array in self.tap_sums:
            kh, kw = self.problem.kernel
            with T.serial(0, kh) as i, T.serial(0, kw) as j:
                _, inside = read_by(self.problem, pixel, (i, j))
                with T.If(T.Not(inside)), T.Then():
                    write(offset, offset[0] + array[(i * kw + j) * self.tiling.lanes.size + thread], 0)
        if self.weight_totals is not None:
            assert total is not None
            both = total * (2**self.tiling.planes - 1) + self.weight_totals[thread]
            products = T.bind(T.shift_right(both - products, T.int32(1)))
        return sums.value(products, total if sums.needs_totals else None, offset[0])


class SlicedSums(MmaValues):
    """The threads of a block of the second phase, which add up what the blocks of all slices left of a tile.

    Each of these blocks finishes its part of the tile's rows: as many as there are slices divide it.
    """

    def add(self, buffers: Sequence[Expr], left: Expr) -> None:
        """The epilogue on all sums; left: where `place` says."""
        tiling = self.tiling
        rows = tiling.rows // tiling.slices
        with T.serial(0, -(-rows * tiling.blocks // tiling.warps)) as index:
            item = T.bind(index * tiling.warps + self.warp)
            row = T.bind(self.row + self.slice * rows + T.truncdiv(item, tiling.blocks))
            block = T.bind(self.column * tiling.blocks + T.truncmod(item, tiling.blocks))
            inside = T.And(item < rows * tiling.blocks, row < self.pixels)
            with T.If(T.And(inside, block < tiling.lanes.blocks)), T.Then():
                products = self._summed(left, row, block * WARP + self.lane)
                total = self._summed(left, row, tiling.lanes.size + block) if tiling.needs_totals else None
                self.finish(buffers, self.pixel(row), block, products, total)

    def _summed(self, left: Expr, row: Expr, index: Expr) -> Expr:
        """int32: the sum of a number of a row over the slices."""
        parts = [left[place(self.tiling, row, T.int32(s), index)] for s in range(self.tiling.slices)]
        return T.bind(sum(parts[1:], parts[0]))


def place(tiling: MmaTiling, row: Expr, number: Expr, index: Expr) -> Expr:
    """Where a slice leaves a number of a row: sums of products of channels, then of inputs of blocks of channels."""
    return (row * tiling.slices + number) * tiling.left_words + index
