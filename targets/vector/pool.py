"""Pooling of numbers, and the walk over windows; one work item is one output row of one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Pool2d
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.code_lanes import load_codes
from qcompiler.targets.vector.emit import (
    Expr,
    Parameter,
    View,
    block_parameter,
    block_view,
    fenced,
    i64,
    lanes,
    splat,
    split,
    temporary,
    write,
)
from qcompiler.targets.vector.epilogue import (
    BoundEpilogue,
    Pixel,
    after_operations,
    load_lanes,
)
from qcompiler.targets.vector.rows import RowKernel


@dataclass(frozen=True)
class FloatPool2d(RowKernel):
    """Maximum, sum or average of floats, or of codes that are made floats as they are read.

    See `qcompiler.targets.target.Kernel`.
    """

    problem: Pool2d

    @property
    def name(self) -> str:
        """Family and kind."""
        return f"pool2d_{self.problem.kind}"

    @property
    def items(self) -> int:
        """Output rows."""
        return self.problem.x.n * self.problem.out_hw[0]

    @property
    def source(self) -> Parameter:
        """Codes are read in halves of words or words."""
        return block_parameter("x", self.problem.x)

    def emit_item(self, x: Expr, epilogue: BoundEpilogue, item: Expr) -> None:
        """Pool every pixel of an output row."""
        view = block_view(self.problem.x, x)
        emit_row(self.problem.out_hw, self.blocks, epilogue, item, lambda *at: self._pixel(view, epilogue, *at))

    def _pixel(self, view: View, epilogue: BoundEpilogue, pixel: Pixel, block: Expr) -> None:
        """One output pixel of one block."""
        sums, average = self.problem.kind != "max", self.problem.kind.startswith("average")
        best = temporary("float32")
        write(best, splat(T.float32(0.0 if sums else -np.inf)), lanes(0))

        def tap(y: Expr, x: Expr) -> None:
            value, sofar = T.bind(self._loaded(view, (pixel[0], y, x), block)), best[lanes(0)]
            write(best, sofar + value if sums else T.Select(sofar < value, value, sofar), lanes(0))

        for_window(self.problem, pixel, tap)
        value = best[lanes(0)]
        if average:
            value = fenced(value / splat(T.Cast("float32", self._count(pixel))))
        epilogue.emit(pixel, block, value)

    def _loaded(self, view: View, pixel: Pixel, block: Expr) -> Expr:
        """Sixteen numbers of a pixel, float32x16."""
        load = load_codes if view.buffer.packed else load_lanes
        return after_operations(load(view, self.blocks, pixel, block), self.problem.through)

    def _count(self, pixel: Pixel) -> Expr:
        """Pixels that an average divides by, at least 1."""
        padded = self.problem.kind == "average_include_pad"
        (r0, r1), (c0, c1) = (taps_inside(self.problem, axis, pixel[1 + axis], padded) for axis in (0, 1))
        return T.max(T.Cast("int32", (r1 - r0) * (c1 - c0)), T.int32(1))


def emit_row(
    out_hw: tuple[int, int], blocks: Blocks, epilogue: BoundEpilogue, item: Expr, pixel: Callable[[Pixel, Expr], None]
) -> None:
    """Run `pixel` for every output pixel and channel block of row `item`, and write its share of the halos."""
    n, y = (T.bind(part) for part in split(item, out_hw[0]))
    with T.serial(i64(0), i64(blocks.count)) as block:
        epilogue.emit_halos(n, y, block, out_hw[0])
    with T.serial(i64(0), i64(out_hw[1])) as x, T.serial(i64(0), i64(blocks.count)) as block:
        pixel((n, y, x), block)


def taps_inside(problem: Pool2d, axis: int, position: Expr, padded: bool) -> tuple[Expr, Expr]:
    """First and one-past-last kernel tap of an output row (axis 0) or column (1) inside the image.

    padded: count the declared padding as inside.
    """
    size = (problem.x.h, problem.x.w)[axis]
    before, after = problem.pads[axis], problem.pads[axis + 2]
    kernel, stride, dilation = problem.kernel[axis], problem.strides[axis], problem.dilations[axis]
    start = position * stride - before
    low, high = (-before, size + after) if padded else (0, size)
    # the number of taps below a bound b is ceil((b - start) / dilation), kept within 0..kernel
    below = [T.Cast("int32", bound - start + (dilation - 1)) for bound in (low, high)]
    bounds = [T.max(i64(0), T.min(i64(kernel), i64(T.truncdiv(b, T.int32(dilation))))) for b in below]
    return T.bind(bounds[0]), T.bind(bounds[1])


def for_window_rows(problem: Pool2d, y: Expr, row: Callable[[Expr], None]) -> None:
    """Run `row(y)` for the input rows of the windows of output row `y`, leaving out the padding."""
    with T.serial(*taps_inside(problem, 0, y, padded=False)) as i:
        row(y * problem.strides[0] - problem.pads[0] + i * problem.dilations[0])


def for_window(problem: Pool2d, pixel: Pixel, tap: Callable[[Expr, Expr], None]) -> None:
    """Run `tap(y, x)` for the input pixels of a window, row by row, leaving out the padding."""

    def row(y: Expr) -> None:
        with T.serial(*columns) as j:
            tap(y, pixel[2] * problem.strides[1] - problem.pads[1] + j * problem.dilations[1])

    columns = taps_inside(problem, 1, pixel[2], padded=False)
    for_window_rows(problem, pixel[1], row)
