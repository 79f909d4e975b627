"""Layout changes between planes and channels-last, in tiles of sixteen pixels by sixteen channels.

A tile is transposed in registers by four rounds of exchanges: round d swaps the blocks of d x d lanes that lie off the
diagonal of every block of 2d x 2d.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Map2d, outputs_of, tensors_of
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.emit import (
    LANES,
    Expr,
    View,
    channels_last,
    fenced,
    float_view,
    i64,
    lanes,
    splat,
    split,
    write,
)
from qcompiler.targets.vector.epilogue import BoundEpilogue, Pixel, load_lanes
from qcompiler.targets.vector.rows import RowKernel

# of an image, that one work item reads; chosen
_ROWS = 8


def can_transpose(problem: Map2d, blocks: Blocks) -> bool:
    """Whether whole tiles cover the image, and planes lie on one side only: read, or written by a plain copy."""
    x, outputs = problem.x, outputs_of(problem)
    if x.packed or x.w < LANES or (blocks.ragged and blocks.groups > 1):
        return False
    if channels_last(x):
        return len(problem.epilogue) == 1 and not channels_last(outputs[0])
    return all(channels_last(b) or b.c == 1 for b in [*outputs, *tensors_of(problem)])


@dataclass(frozen=True)
class TransposeMap2d(RowKernel):
    """Planes in and an elementwise chain, or planes out; see `qcompiler.targets.target.Kernel`."""

    problem: Map2d

    @property
    def name(self) -> str:
        """Family."""
        return "map2d_transpose"

    @property
    def _bands(self) -> int:
        """Of rows, in an image."""
        return -(-self.problem.x.h // _ROWS)

    @property
    def items(self) -> int:
        """Bands of rows of all images."""
        return self.problem.x.n * self._bands

    def emit_item(self, x: Expr, epilogue: BoundEpilogue, item: Expr) -> None:
        """Transpose the tiles of some rows, block by block: processors read ahead where they read on."""
        view, height = float_view(self.problem.x, x), self.problem.x.h
        n, band = (T.bind(part) for part in split(item, self._bands))
        first = T.bind(band * _ROWS)
        rows = T.min(i64(height) - first, i64(_ROWS)) if height % _ROWS else i64(_ROWS)
        whole, rest = self.blocks.count - self.blocks.ragged, self.blocks.rest
        with T.serial(i64(0), i64(whole)) as block, T.serial(i64(0), rows) as row:
            self._row(view, epilogue, n, T.bind(first + row), block, LANES)
        if rest:
            with T.serial(i64(0), rows) as row:
                self._row(view, epilogue, n, T.bind(first + row), i64(whole), rest)

    def _row(self, view: View, epilogue: BoundEpilogue, n: Expr, y: Expr, block: Expr, channels: int) -> None:
        """One row of a block of so many channels, with its share of the halos."""
        x = self.problem.x
        epilogue.emit_halos(n, y, block, x.h)
        with T.serial(i64(0), i64(-(-x.w // LANES))) as tile:
            pixel = n, y, T.bind(T.min(tile * LANES, i64(x.w - LANES)))
            if view.channels_last:
                self._to_planes(view, epilogue, pixel, block, channels)
            else:
                self._from_planes(view, epilogue, pixel, block, channels)

    def _from_planes(self, view: View, epilogue: BoundEpilogue, pixel: Pixel, block: Expr, channels: int) -> None:
        """The chain on sixteen pixels of a block."""
        n, y, x0 = pixel
        first = self.blocks.first(block)
        rows = [view.data[lanes(view.offset(n, y, x0, first + i))] for i in range(channels)]
        held = [T.bind(fenced(row)) for row in rows] + [splat(T.float32(0))] * (LANES - channels)
        for i, column in enumerate(transposed(held)):
            epilogue.emit((n, y, x0 + i), block, column)

    def _to_planes(self, view: View, epilogue: BoundEpilogue, pixel: Pixel, block: Expr, channels: int) -> None:
        """Sixteen pixels of a block."""
        (target,) = epilogue.targets
        assert target is not None
        n, y, x0 = pixel
        first, rows = self.blocks.first(block), []
        for i in range(LANES):
            whole = view.data[lanes(view.offset(n, y, x0 + i, first))]
            row = whole if channels == LANES else load_lanes(view, self.blocks, (n, y, x0 + i), block)
            rows.append(T.bind(fenced(row)))
        for i, column in enumerate(transposed(rows)[:channels]):
            write(target.data, column, lanes(target.offset(n, y, x0, first + i)))


def transposed(rows: list[Expr]) -> list[Expr]:
    """The columns of sixteen vectors of sixteen lanes."""
    # from coarse to fine: where vectors are narrow, the first rounds only rename registers
    for d in (8, 4, 2, 1):
        low = [lane if lane & d == 0 else lane - d + LANES for lane in range(LANES)]
        high = [lane + d if lane & d == 0 else lane + LANES for lane in range(LANES)]
        rows = [T.bind(tirx.Shuffle([rows[i & ~d], rows[i | d]], low if i & d == 0 else high)) for i in range(LANES)]
    return rows
