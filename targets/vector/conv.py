"""Convolutions for processors with vector registers: a walk over tiles, around a reduction and a finish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.by_items import ByItems
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, prim_func
from qcompiler.targets.vector.epilogue import (
    BoundEpilogue,
    channel_parameters,
    memory_parameters,
    pack_channels,
)
from qcompiler.targets.vector.finish import Finish
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Reduction
from qcompiler.targets.vector.tile import Source, Tile


@dataclass(frozen=True)
class DirectConv2d(ByItems):
    """A convolution on one tiling; see `qcompiler.targets.target.Kernel`.

    Work items are row segments times runs of channel blocks; a row is what `walk` says.
    """

    frame: Frame
    reduction: Reduction
    finish: Finish
    cost: float

    @property
    def problem(self) -> Conv2d:
        """What it computes."""
        return self.frame.problem

    @property
    def name(self) -> str:
        """Family and tiling."""
        return self.reduction.label(self.frame)

    @property
    def items(self) -> int:
        """Row segments times runs of channel blocks."""
        return self.frame.grid.items

    @property
    def _float_operations(self) -> tuple[Operation, ...]:
        """The operations whose constants are those of floats: thresholds of integers belong to the finish."""
        return () if self.finish.compares(self.frame) else self.problem.epilogue

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """Weights, lane offsets if lanes of a block read different groups, finish and channel constants."""
        frame = self.frame
        given = self.problem.second is None
        weights = self.reduction.pack(frame, self.finish.weights(frame, constants)) if given else []
        offsets = [frame.geometry.lane_offsets()] if frame.gathers else []
        channels = pack_channels(self._float_operations, constants, frame.blocks)
        return (*weights, *offsets, *self.finish.pack(frame, self.reduction, constants), *channels)

    def build(self, name: str) -> Any:
        """The PrimFunc."""
        frame, element = self.frame, self.reduction.element
        parts = [
            [Parameter("x", element, self.problem.x.nbytes // np.dtype(element).itemsize, 4)],
            self.reduction.parameters(frame) if self.problem.second is None else [],
            [Parameter("offsets", "int32", frame.blocks.count * LANES, 64)] if frame.gathers else [],
            self.finish.parameters(frame, self.reduction),
            channel_parameters(self._float_operations, frame.blocks),
            memory_parameters(self.problem),
        ]

        def body(buffers: list[Expr], item: Expr) -> None:
            x, weights, lane_offsets, finish, channels, memory = _deal(buffers, parts)
            if self.problem.second is not None:
                weights, memory = memory[:1], memory[1:]
            epilogue = BoundEpilogue.bind(self.problem, frame.blocks, channels, memory)
            self._emit_item(x[0], weights, lane_offsets, finish, epilogue, item)

        return prim_func(name, [parameter for part in parts for parameter in part], body)

    def _emit_item(
        self, x: Expr, weights: list[Expr], offsets: list[Expr], finish: list[Expr], epilogue: BoundEpilogue, item: Expr
    ) -> None:
        """One segment of a row for one run of channel blocks."""
        frame, start = self.frame, self.finish.start(self.frame)
        n, y, segment, run = frame.grid.decode(item)
        first_block = T.bind(frame.grid.first_block(run))
        if any(target is not None and target.has_halo for target in epilogue.targets):
            with T.If(segment == 0), T.Then():
                for i in range(frame.tiling.blocks):
                    self._emit_halos(epilogue, n, y, first_block + i)
        source = Source(frame, self.reduction.element, x, offsets, first_block)

        rows = frame.geometry.visited_rows(y)

        def tile(x0: Expr, pixels: int) -> None:
            made = Tile(
                frame.of_pixels(pixels), source, start, weights, finish, epilogue, (n, y, x0), rows, run, first_block
            )
            self.finish.emit(made, self.reduction.fill(made))

        with self.reduction.around(frame):
            frame.grid.for_tiles(segment, tile)

    def _emit_halos(self, epilogue: BoundEpilogue, n: Expr, y: Expr, block: Expr) -> None:
        """What the row that tiles walk owns of halos: that of all rows where it is all pixels of an image."""
        height = self.problem.out_hw[0]
        if not self.problem.one_row:
            epilogue.emit_halos(n, y, block, height)
            return
        with T.serial(i64(0), i64(height)) as row:
            epilogue.emit_halos(n, row, block, height)


def _deal(buffers: Sequence[Expr], parts: Sequence[Sequence[Parameter]]) -> list[list[Expr]]:
    """Split the flat list of buffers as the parameter lists were."""
    rest = iter(buffers)
    return [[next(rest) for _ in part] for part in parts]
