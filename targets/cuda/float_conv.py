"""Convolutions and matrix products of floats: a thread has a channel, and all of a warp read the same inputs.

The weights lie as [taps, inputs, threads]. Products are added by fused multiply-adds, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.cuda.elements import Elements
from qcompiler.targets.cuda.emit import fma, registers, write
from qcompiler.targets.cuda.machine import Gpu
from qcompiler.targets.cuda.warp_kernel import Spot, WarpKernel
from qcompiler.targets.cuda.windows import read_by
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.standard_op import Expr, Parameter
from qcompiler.targets.target import Array, Constants

TILES = (1, 4, 8)
BUSY = 16


@dataclass(frozen=True)
class FloatConv2d(WarpKernel):
    """See `WarpKernel`."""

    problem: Conv2d

    @property
    def family(self) -> str:
        """Of floats."""
        return "float_conv2d"

    @property
    def per_group(self) -> int:
        """Inputs of a channel."""
        return self.problem.x.c // self.problem.groups

    @property
    def weight_count(self) -> int:
        """Floats of the packed weights."""
        kh, kw = self.problem.kernel
        return kh * kw * self.per_group * self.lanes.size

    def operands(self) -> list[Parameter]:
        """Weights."""
        return [Parameter("weights", "float32", self.weight_count, 64)]

    def packed(self, constants: Constants) -> tuple[Array, ...]:
        """float32 [taps, inputs, threads]."""
        weights = np.asarray(constants.weights, np.float32).transpose(2, 3, 1, 0)
        return (self.lanes.spread(np.ascontiguousarray(weights)),)

    def values(self, x: Expr, operands: Sequence[Expr], spot: Spot) -> list[Expr]:
        """All taps, all inputs."""
        (weights,), held = operands, Elements(self.problem.x, x)
        sums, outside = registers("float32", self.tile, T.float32(0)), T.float32(self.problem.pad_value)
        thread = T.bind(spot.block * 32 + spot.lane)
        pixels = [self.pixel(spot, index) for index in range(self.tile)]
        group = T.truncdiv(self.lanes.channel(spot.block, spot.lane), self.problem.out_channels // self.problem.groups)
        first = T.int32(0) if self.problem.groups == 1 else T.bind(group * self.per_group)
        kh, kw = self.problem.kernel
        with T.serial(0, kh) as i, T.serial(0, kw) as j:
            reads = [read_by(self.problem, pixel, (i, j)) for pixel in pixels]
            with T.serial(0, self.per_group) as c:
                weight = T.bind(weights[((i * kw + j) * self.per_group + c) * self.lanes.size + thread])
                for index, (read, inside) in enumerate(reads):
                    here = held.data[held.float_index(read, first + c)]
                    number = T.if_then_else(inside, here, outside)
                    write(sums, fma(number, weight, sums[index]), index)
        return [T.bind(sums[index]) for index in range(self.tile)]


def float_convolutions(gpu: Gpu, problem: Problem) -> Iterator[FloatConv2d]:
    """Convolutions of floats that are not rounded first."""
    if not isinstance(problem, Conv2d) or problem.x.packed or problem.rounded or problem.second is not None:
        return
    for tile in TILES:
        kernel = FloatConv2d(problem, tile)
        products = problem.macs * kernel.computed / kernel.pixels
        busy = min(1.0, kernel.warps / (gpu.processors * BUSY))
        rate = gpu.processors * gpu.ghz * busy
        yield FloatConv2d(problem, tile, (products / gpu.fma_rate + products / (tile * 32)) / rate)
