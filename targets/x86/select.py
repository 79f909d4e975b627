"""Which kernels compute a problem on one instruction-set level, the best untuned one first."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.targets.problem import Conv2d, Map2d, Pool2d, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.x86.blocks import Blocks, blocks_for
from qcompiler.targets.x86.direct import Geometry
from qcompiler.targets.x86.emit import LANES
from qcompiler.targets.x86.epilogue import outputs_of
from qcompiler.targets.x86.float_conv import FloatConv2d
from qcompiler.targets.x86.lookup_conv import LookupConv2d
from qcompiler.targets.x86.machine import PORT_LIMITS, Isa
from qcompiler.targets.x86.map import ElementMap2d
from qcompiler.targets.x86.pool import BitPool2d, FloatPool2d
from qcompiler.targets.x86.tilings import Ranked, float_tilings, lookup_tilings, word_tilings
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
    """Reading and writing out of the second-level cache, and the call."""
    return 500 + (problem.x.nbytes + sum(b.nbytes for b in outputs_of(problem))) / 50


def _convolutions(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Kernel]:
    """Direct convolutions on every tiling, cheapest first."""
    limits = PORT_LIMITS["znver4"]
    found: list[Kernel] = []
    if problem.x.dtype == "float32":
        for r in float_tilings(isa, problem, blocks):
            cost = _compute_ns(problem, blocks, limits.fma[isa.level] * limits.ghz, r)
            found.append(FloatConv2d(problem, blocks, r.tiling, cost, isa.fma))
    else:
        for r in word_tilings(isa, problem, blocks):
            found.append(
                XnorConv2d(
                    problem, blocks, r.tiling, _compute_ns(problem, blocks, limits.word[isa.level] * limits.ghz, r)
                )
            )
        if limits.lookup[isa.level] > limits.word[isa.level] and can_look_up(problem, blocks):
            for r in lookup_tilings(isa, problem, blocks):
                cost = _compute_ns(problem, blocks, limits.lookup[isa.level] * limits.ghz, r)
                found.append(LookupConv2d(problem, blocks, r.tiling, cost, r.width))
    return sorted(found, key=lambda kernel: kernel.cost)


def can_look_up(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether the lookup form applies: one input word serves sixteen lanes, and sums fit sixteen bits."""
    geometry = Geometry(problem, blocks)
    return geometry.uniform(1) and geometry.steps * 32 < 2**16


def _compute_ns(problem: Conv2d, blocks: Blocks, macs_per_ns: float, ranked: Ranked) -> float:
    """Arithmetic or weight streaming, whichever is slower, and the traffic of the epilogue."""
    oh, ow = problem.out_hw
    unit = 32 if problem.x.dtype == "bit" else 1
    products = problem.x.n * oh * ow * blocks.count * LANES * Geometry(problem, blocks).steps * unit
    arithmetic = products / macs_per_ns * ranked.slowdown
    weights = problem.out_channels * problem.x.c // problem.groups * problem.kernel[0] * problem.kernel[1]
    streaming = weights * (1 / 8 if problem.x.dtype == "bit" else 4) / 60
    return max(arithmetic, streaming) + sum(b.nbytes for b in outputs_of(problem)) / 60
