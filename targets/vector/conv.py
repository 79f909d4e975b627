"""What all direct convolution kernels share: parameters, work items and the walk over tiles."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d, Step
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.by_items import ByItems
from qcompiler.targets.vector.direct import Geometry, Tiling, Work
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, View, i64, lanes, prim_func, splat
from qcompiler.targets.vector.epilogue import (
    Epilogue,
    Pixel,
    channel_parameters,
    is_threshold,
    memory_parameters,
    pack_channels,
)


@dataclass(frozen=True)
class DirectConv2d(ByItems):
    """A convolution on one tiling; see `qcompiler.targets.target.Kernel`.

    A subclass names its family and element type, packs its weights and constants, and emits one register tile.
    """

    problem: Conv2d
    blocks: Blocks
    tiling: Tiling
    cost: float

    family: ClassVar[str]
    element: ClassVar[str]

    @property
    def name(self) -> str:
        """Family and tiling."""
        return f"{self.family}_{self.tiling.label}"

    @property
    def work(self) -> Work:
        """The grid of work items."""
        return Work(self.problem, self.blocks, self.tiling)

    @property
    def items(self) -> int:
        """Row segments times runs of channel blocks."""
        return self.work.items

    @property
    def geometry(self) -> Geometry:
        """Offsets through input and weights."""
        return Geometry(self.problem, self.blocks)

    @property
    def gathers(self) -> bool:
        """Whether the lanes of a block read different groups."""
        return not self.geometry.uniform(self.tiling.blocks)

    @abstractmethod
    def weight_parameters(self) -> list[Parameter]:
        """Packed weights, and what else the inner loop reads."""

    @abstractmethod
    def pack_weights(self, constants: Constants) -> list[Array]:
        """The arrays for `weight_parameters`."""

    def finish_parameters(self) -> list[Parameter]:
        """Constants between accumulator and epilogue."""
        return []

    def pack_finish(self, constants: Constants) -> list[Array]:
        """The arrays for `finish_parameters`."""
        return []

    @abstractmethod
    def emit_tile(self, tile: Tile) -> None:
        """Accumulate one register tile and run its epilogue."""

    @property
    def _float_steps(self) -> tuple[Step, ...]:
        """The steps whose constants are those of floats: thresholds of integers belong to the finish."""
        integers = self.problem.x.packed and is_threshold(self.problem.epilogue)
        return () if integers else self.problem.epilogue

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """Weights, lane offsets if lanes of a block read different groups, finish and channel constants."""
        offsets = [self.geometry.lane_offsets()] if self.gathers else []
        channels = pack_channels(self._float_steps, constants, self.blocks)
        return (*self.pack_weights(constants), *offsets, *self.pack_finish(constants), *channels)

    def build(self, name: str) -> Any:
        """The PrimFunc."""
        offsets = [Parameter("offsets", "int32", self.blocks.count * LANES, 64)] if self.gathers else []
        parts = [
            [Parameter("x", self.element, self.problem.x.nbytes // 4, 4)],
            self.weight_parameters(),
            offsets,
            self.finish_parameters(),
            channel_parameters(self._float_steps, self.blocks),
            memory_parameters(self.problem),
        ]

        def body(buffers: list[Expr], item: Expr) -> None:
            x, weights, lane_offsets, finish, channels, memory = _deal(buffers, parts)
            epilogue = Epilogue.bind(self.problem, self.blocks, channels, memory)
            self._emit_item(x[0], weights, lane_offsets, finish, epilogue, item)

        return prim_func(name, [parameter for part in parts for parameter in part], body)

    def _emit_item(
        self, x: Expr, weights: list[Expr], offsets: list[Expr], finish: list[Expr], epilogue: Epilogue, item: Expr
    ) -> None:
        """One segment of an output row for one run of channel blocks."""
        n, y, segment, run = self.work.decode(item)
        first_block = T.bind(self.work.first_block(run))
        if any(target is not None and target.has_halo for target in epilogue.targets):
            with T.If(segment == 0), T.Then():
                for i in range(self.tiling.blocks):
                    epilogue.emit_halos(n, y, first_block + i, self.problem.out_hw[0])
        source = Source(self, x, offsets, first_block)

        rows = self.geometry.visited_rows(y)

        def tile(x0: Expr) -> None:
            self.emit_tile(Tile(source, weights, finish, epilogue, (n, y, x0), rows, run, first_block))

        self.work.for_tiles(segment, tile)


@dataclass(frozen=True)
class Source:
    """The input of a convolution as the lanes of a run of channel blocks see it."""

    kernel: DirectConv2d
    data: Expr
    offsets: list[Expr]
    block: Expr

    def start(self, pixel: Pixel) -> Expr:
        """Offset of the first tap of an output pixel."""
        problem, geometry = self.kernel.problem, self.kernel.geometry
        (sh, sw), (top, left, _, _) = problem.strides, problem.pads
        n, y, x0 = pixel
        view = View(problem.x, self.data, geometry.pixel_pitch)
        at = view.offset(n, y * sh - top, x0 * sw - left, i64(0))
        if self.offsets:
            return T.bind(at)
        return T.bind(at + geometry.group_offset(self.block))

    def pixel_step(self) -> int:
        """Units between the taps of neighbouring output pixels."""
        return self.kernel.problem.strides[1] * self.kernel.geometry.pixel_pitch

    def lanes_at(self, at: Expr) -> Expr:
        """Sixteen lanes of input: one unit broadcast, or each lane's own group."""
        if not self.offsets:
            return splat(self.data[at])
        if self.kernel.geometry.depthwise:
            blocks = self.kernel.blocks
            index = lanes(at + blocks.first(self.block))
            if blocks.ragged:
                return T.masked_load(f"{self.kernel.element}x16", self.data, index, blocks.lane_mask(self.block))
            return self.data[index]
        return self.data[splat(at) + T.Cast("int64x16", self.offsets[0][lanes(self.block * LANES)])]


@dataclass(frozen=True)
class Tile:
    """One register tile: where its operands come from and which outputs it computes.

    rows: the range of kernel rows that lie inside the image.
    """

    source: Source
    weights: list[Expr]
    finish: list[Expr]
    epilogue: Epilogue
    pixel: Pixel
    rows: tuple[Expr, Expr]
    run: Expr
    block: Expr


def _deal(buffers: Sequence[Expr], parts: Sequence[Sequence[Parameter]]) -> list[list[Expr]]:
    """Split the flat list of buffers as the parameter lists were."""
    rest = iter(buffers)
    return [[next(rest) for _ in part] for part in parts]
