"""Kernels whose warps go for themselves: each computes a block of channels of some pixels, a thread one channel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.program import LaunchGrid, Rows
from qcompiler.ir.storage import Buffer
from qcompiler.targets.cuda.elements import Pixel, parameter
from qcompiler.targets.cuda.emit import WARP, Place, kernel_function
from qcompiler.targets.cuda.epilogue import Epilogue
from qcompiler.targets.cuda.lanes import Lanes, lanes_of
from qcompiler.targets.problem import Conv2d, Pool2d, Problem, outputs_of, tensors_of
from qcompiler.targets.standard_op import Expr, Parameter
from qcompiler.targets.target import Array, Constants

WARPS = 4
"""In a block of threads; chosen: they share nothing, and more of them leave processors idle at the end."""


@dataclass(frozen=True)
class Spot:
    """Where a warp is, int32: the first of its pixels, its block of channels, and the thread in the warp.

    pixels: how many there are, those of all runs.
    """

    first: Expr
    block: Expr
    lane: Expr
    pixels: Expr


class LaneKernel:
    """What kernels whose threads have a channel each share of `qcompiler.targets.target.Kernel`."""

    problem: Problem
    nanoseconds: float

    @property
    def cost(self) -> float:
        """An estimate."""
        return self.nanoseconds

    @property
    def lanes(self) -> Lanes:
        """How output channels lie on threads."""
        return lanes_of(self.problem)

    @property
    def epilogue(self) -> Epilogue:
        """What becomes of values."""
        return Epilogue(self.problem, self.lanes)

    @property
    def out_hw(self) -> tuple[int, int]:
        """Output height and width."""
        x = self.problem.x
        return self.problem.out_hw if isinstance(self.problem, Conv2d | Pool2d) else (x.h, x.w)

    @property
    def pixels(self) -> int:
        """Output pixels of all images of a run."""
        return self.problem.x.n * self.out_hw[0] * self.out_hw[1]

    @property
    def reads(self) -> tuple[Buffer, ...]:
        """The storage of the problem."""
        return (self.problem.x, *tensors_of(self.problem))

    @property
    def writes(self) -> tuple[Buffer, ...]:
        """The storage of the problem."""
        return outputs_of(self.problem)


@dataclass(frozen=True)
class WarpKernel(LaneKernel, ABC):
    """See `qcompiler.targets.target.Kernel`; tile: pixels of a warp."""

    problem: Problem
    tile: int
    nanoseconds: float = 0.0

    @property
    @abstractmethod
    def family(self) -> str:
        """What the name begins with."""

    @abstractmethod
    def operands(self) -> list[Parameter]:
        """The pointers to packed constants other than those of the epilogue."""

    @abstractmethod
    def packed(self, constants: Constants) -> tuple[Array, ...]:
        """What `operands` point to."""

    @abstractmethod
    def values(self, x: Expr, operands: Sequence[Expr], spot: Spot) -> list[Expr]:
        """Emit what computes the float32 values of a warp's pixels before the epilogue."""

    @property
    def name(self) -> str:
        """Family and tile."""
        return f"{self.family}_p{self.tile}"

    @property
    def computed(self) -> int:
        """Pixels that tiles cover."""
        return -(-self.pixels // self.tile) * self.tile

    @property
    def warps(self) -> int:
        """Warps that have something to do."""
        return -(-self.pixels // self.tile) * self.lanes.blocks

    @property
    def apart(self) -> bool:
        """Whether the pixels of several runs cannot be taken for those of one."""
        return False

    @property
    def launch(self) -> LaunchGrid:
        """A row of blocks of warps, which share nothing."""
        rows = Rows(self.pixels, self.tile, self.lanes.blocks, WARPS)
        return LaunchGrid((rows.blocks, 1, 1), (WARPS * WARP, 1, 1), rows=None if self.apart else rows)

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """Own constants, then those of the epilogue."""
        return (*self.packed(constants), *self.epilogue.pack(constants))

    def build(self, name: str) -> Any:
        """A kernel over a row of blocks."""
        own, epilogue = self.operands(), self.epilogue
        x = parameter("x", self.problem.x, words=isinstance(self.problem, Conv2d))
        parameters = [x, *own, *epilogue.constants(), *epilogue.memory()]

        def body(buffers: list[Expr], place: Place) -> None:
            x, operands, rest = buffers[0], buffers[1 : 1 + len(own)], buffers[1 + len(own) :]
            if isinstance(self.problem, Conv2d) and self.problem.second is not None:
                operands = [*operands, rest[len(epilogue.constants())]]
            warp = T.bind(place.block * WARPS + T.truncdiv(place.thread, WARP))
            lane = T.bind(T.truncmod(place.thread, WARP))
            pixels, blocks = place.runs * self.pixels, self.lanes.blocks
            first = T.bind(T.truncdiv(warp, blocks) * self.tile)
            with T.If(first < pixels), T.Then():
                spot = Spot(first, T.bind(T.truncmod(warp, blocks)), lane, pixels)
                for index, value in enumerate(self.values(x, operands, spot)):
                    self._finish(rest, spot, index, value)

        return kernel_function(name, parameters, self.launch, body)

    def _finish(self, buffers: Sequence[Expr], spot: Spot, index: int, value: Expr) -> None:
        whole = self.pixels % self.tile == 0
        with T.If(T.bool(True) if whole else spot.first + index < spot.pixels), T.Then():
            self.finish(buffers, self.pixel(spot, index), spot, value)

    def finish(self, buffers: Sequence[Expr], pixel: Pixel, spot: Spot, value: Expr) -> None:
        """What becomes of the value of a pixel; buffers: of the epilogue."""
        self.epilogue.emit(buffers, pixel, spot.block, spot.lane, value)

    def pixel(self, spot: Spot, index: int) -> Pixel:
        """Output pixel number `index` of the warp; the last one where there are fewer."""
        number = spot.first + index
        return pixel_of(number if self.pixels % self.tile == 0 else T.min(number, spot.pixels - 1), self.out_hw)


def pixel_of(number: Expr, out_hw: tuple[int, int]) -> Pixel:
    """Image, row and column of a pixel by its number, int32."""
    height, width = out_hw
    number = T.bind(number)
    row = T.bind(T.truncdiv(number, width))
    return T.bind(T.truncdiv(row, height)), T.bind(T.truncmod(row, height)), T.bind(T.truncmod(number, width))
