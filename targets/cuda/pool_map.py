"""Pools, and maps from storage to storage: a thread has a channel of a pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.cuda.elements import Elements, Pixel, number_of
from qcompiler.targets.cuda.emit import fenced, registers, write
from qcompiler.targets.cuda.epilogue import after
from qcompiler.targets.cuda.machine import Gpu
from qcompiler.targets.cuda.warp_kernel import Spot, WarpKernel
from qcompiler.targets.cuda.windows import read_by
from qcompiler.targets.problem import Map2d, Pool2d, Problem
from qcompiler.targets.standard_op import Expr, Parameter
from qcompiler.targets.target import Array, Constants

# bytes per nanosecond of a device's memory, roughly; maps are bound by it
STREAM = 1000


@dataclass(frozen=True)
class MapKernel(WarpKernel):
    """See `WarpKernel`."""

    problem: Map2d

    @property
    def family(self) -> str:
        """Elementwise."""
        return "map2d"

    def operands(self) -> list[Parameter]:
        """None."""
        return []

    def packed(self, constants: Constants) -> tuple[Array, ...]:
        """None."""
        return ()

    def values(self, x: Expr, operands: Sequence[Expr], spot: Spot) -> list[Expr]:
        """The elements as they are."""
        channel = self.lanes.channel(spot.block, spot.lane)
        held = Elements(self.problem.x, x)
        return [held.number(self.pixel(spot, index), channel) for index in range(self.tile)]


@dataclass(frozen=True)
class PoolKernel(WarpKernel):
    """See `WarpKernel`."""

    problem: Pool2d

    @property
    def family(self) -> str:
        """Its kind is in the step."""
        return "pool2d"

    @property
    def of_codes(self) -> bool:
        """Whether it keeps codes."""
        return self.problem.into is not None

    def operands(self) -> list[Parameter]:
        """The direction of each channel, where codes are pooled."""
        return [Parameter("flips", "float32", self.lanes.size, 64)] if self.of_codes else []

    def packed(self, constants: Constants) -> tuple[Array, ...]:
        """float32 [threads] of -1 and 1."""
        if not self.of_codes:
            return ()
        assert constants.flip is not None
        return (self.lanes.spread(constants.flip.astype(np.float32)),)

    def values(self, x: Expr, operands: Sequence[Expr], spot: Spot) -> list[Expr]:
        """The largest, sum or average of the window of each pixel."""
        return [self._pooled(Elements(self.problem.x, x), operands, spot, index) for index in range(self.tile)]

    def _pooled(self, x: Elements, operands: Sequence[Expr], spot: Spot, index: int) -> Expr:
        problem, pixel = self.problem, self.pixel(spot, index)
        channel = self.lanes.channel(spot.block, spot.lane)
        flip, start = T.float32(1), T.float32(-inf)
        if problem.into is not None:
            codes = problem.x.codes
            assert codes is not None
            flip = T.bind(operands[0][spot.block * 32 + spot.lane])
            start = T.Select(flip > T.float32(0), T.float32(codes.low), T.float32(-codes.high))
        sums = problem.kind == "sum" or problem.kind.startswith("average")
        found = registers("float32", 2, T.float32(0))
        write(found, T.float32(0) if sums else start, 0)
        with T.serial(0, problem.kernel[0]) as i, T.serial(0, problem.kernel[1]) as j:
            read, inside = read_by(problem, pixel, (i, j))
            with T.If(self._counted(read, inside)), T.Then():
                write(found, found[1] + T.float32(1), 1)
            with T.If(inside), T.Then():
                v = T.bind(fenced(flip * after(problem.through, x.number(read, channel))))
                best = T.bind(found[0])
                write(found, fenced(best + v) if sums else T.Select(best < v, v, best), 0)
        if problem.kind.startswith("average"):
            return T.bind(fenced(found[0] / T.max(found[1], T.float32(1))))
        return T.bind(fenced(flip * found[0]))

    def _counted(self, read: Pixel, inside: Expr) -> Expr:
        """Whether an average counts a pixel: those of the image, or of it and its declared padding."""
        if self.problem.kind != "average_include_pad":
            return inside
        (top, left, bottom, right), (_, y, x), held = self.problem.pads, read, self.problem.x
        return T.And(T.And(y >= -top, y < held.h + bottom), T.And(x >= -left, x < held.w + right))

    def finish(self, buffers: Sequence[Expr], pixel: Pixel, spot: Spot, value: Expr) -> None:
        """A code is written as it is."""
        into = self.problem.into
        if into is None:
            super().finish(buffers, pixel, spot, value)
            return
        assert into.codes is not None
        index = T.bind(number_of(into.codes, value))
        Elements(into, buffers[-1]).store_codes(self.lanes, pixel, spot.block, spot.lane, index)


def maps(gpu: Gpu, problem: Problem) -> Iterator[WarpKernel]:
    """Maps from any storage without halo to any."""
    if isinstance(problem, Map2d):
        yield MapKernel(problem, 1, problem.x.nbytes / STREAM)


def pools(gpu: Gpu, problem: Problem) -> Iterator[WarpKernel]:
    """Pools of every kind."""
    if isinstance(problem, Pool2d):
        yield PoolKernel(problem, 1, problem.x.nbytes / STREAM)
