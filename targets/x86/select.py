"""Which kernels compute a problem on one instruction-set level, the best untuned one first."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.targets.problem import Conv2d, Map2d, Pool2d, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.x86.blocks import Blocks, blocks_for
from qcompiler.targets.x86.direct import Geometry, Tiling
from qcompiler.targets.x86.epilogue import outputs_of
from qcompiler.targets.x86.float_conv import FloatConv2d
from qcompiler.targets.x86.machine import PORT_LIMITS, Isa
from qcompiler.targets.x86.map import ElementMap2d
from qcompiler.targets.x86.pool import BitPool2d, FloatPool2d
from qcompiler.targets.x86.xnor_conv import XnorConv2d


def kernels_for(isa: Isa, problem: Problem) -> Sequence[Kernel]:
    """Every kernel for a problem; empty if packed outputs group their channels irreconcilably."""
    if isinstance(problem, Pool2d) and problem.kind == "bits":
        return [BitPool2d(problem, _memory_ns(problem))]
    channels = problem.out_channels if isinstance(problem, Conv2d) else problem.x.c
    blocks = blocks_for(channels, problem.epilogue)
    if blocks is None:
        return []
    if isinstance(problem, Pool2d):
        return [FloatPool2d(problem, blocks, _memory_ns(problem))]
    if isinstance(problem, Map2d):
        return [ElementMap2d(problem, blocks, _memory_ns(problem))]
    return _convolutions(isa, problem, blocks)


def _memory_ns(problem: Pool2d | Map2d) -> float:
    """Reading and writing at about 8 bytes per nanosecond."""
    return (problem.x.nbytes + sum(b.nbytes for b in outputs_of(problem))) / 8


def _convolutions(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Kernel]:
    """Direct convolutions on every tiling."""
    tilings = tilings_for(isa, problem, blocks)
    limits = PORT_LIMITS["znver4"]
    binary = problem.x.dtype == "bit"
    rate = (limits.binary_macs if binary else limits.fma)[isa.level] * limits.ghz
    found: list[Kernel] = []
    for rank, tiling in enumerate(tilings):
        cost = problem.macs / rate * (1 + rank / 100)
        if binary:
            found.append(XnorConv2d(problem, blocks, tiling, cost))
        else:
            found.append(FloatConv2d(problem, blocks, tiling, cost, isa.fma))
    return found


def tilings_for(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Tiling]:
    """Register tiles that fit the register file, best first."""
    width = problem.out_hw[1]
    geometry = Geometry(problem, blocks)
    registers = 24 if isa.registers == 32 else 12
    per_block = max(1, 64 // isa.vector_bytes)
    shapes = []
    for b in (1, 2, 4):
        if blocks.count % b or not (b == 1 or geometry.uniform(b)):
            continue
        for p in range(1, min(width, 14) + 1):
            if p * b * per_block <= registers or (p == 1 and b == 1):
                shapes.append((_work_per_output(width, p, b), p, b))
    channel_major = geometry.steps * blocks.count * 64 > 24 * 1024
    return [
        Tiling(p, b, _segment(problem, p), channel_major)
        for _, p, b in sorted(shapes)
    ]  # fmt: skip


def _work_per_output(width: int, p: int, b: int) -> float:
    """Relative cost of a tile: pixels computed twice, and operand loads per product."""
    wasted = -(-width // p) * p / width
    return wasted * (1 + 0.3 * (1 / p + 1 / b) + 0.5 / (p * b))


def _segment(problem: Conv2d, pixels: int) -> int:
    """Tiles of a row per item: whole rows, except where there are few rows to share among threads."""
    tiles = -(-problem.out_hw[1] // pixels)
    rows = problem.x.n * problem.out_hw[0]
    return tiles if rows >= 8 else min(tiles, 8)
