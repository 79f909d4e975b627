"""Which kernels compute a problem on one instruction-set level, the best untuned one first."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.vector import select
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.direct import Geometry
from qcompiler.targets.vector.float_conv import FloatConv2d
from qcompiler.targets.vector.planes_conv import PlanesConv2d
from qcompiler.targets.vector.tilings import Ranked, float_tilings, word_tilings
from qcompiler.targets.vector.xnor_conv import XnorConv2d
from qcompiler.targets.x86.lookup_conv import LookupConv2d
from qcompiler.targets.x86.lookup_tilings import lookup_tilings
from qcompiler.targets.x86.machine import PORT_LIMITS, Isa

# bytes per nanosecond out of the caches beyond the first
_STREAM = 60

# accumulators of the word form; without a vector population count its expansion needs most of the registers
_WORD_TILE = {"avx512vpopcntdq": 16, "avx512bw": 16, "avx2": 4, "baseline": 2}


def kernels_for(isa: Isa, problem: Problem) -> Sequence[Kernel]:
    """Every kernel for a problem; empty if packed buffers group their channels irreconcilably."""
    return select.kernels_for(problem, _STREAM, lambda conv, blocks: _convolutions(isa, conv, blocks))


def _convolutions(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Kernel]:
    """Direct convolutions on every tiling, cheapest first."""
    limits, level = PORT_LIMITS["znver4"], isa.level

    def ns(rate: float, ranked: Ranked) -> float:
        return select.compute_ns(problem, blocks, rate * limits.ghz, ranked, _STREAM)

    found: list[Kernel] = []
    if not problem.x.packed:
        for r in float_tilings(problem, blocks, isa.vector_bytes, isa.registers):
            found.append(FloatConv2d(problem, blocks, r.tiling, ns(limits.fma[level], r), isa.fma))
        return found
    if not problem.binary:
        most = _WORD_TILE[level]
        for r in word_tilings(problem, blocks, most):
            found.append(PlanesConv2d(problem, blocks, r.tiling, ns(limits.word[level], r), most))
        return sorted(found, key=lambda kernel: kernel.cost)
    for r in word_tilings(problem, blocks, _WORD_TILE[level]):
        found.append(XnorConv2d(problem, blocks, r.tiling, ns(limits.word[level], r)))
    if limits.lookup[level] > limits.word[level] and _can_look_up(problem, blocks):
        for r in lookup_tilings(isa, problem, blocks):
            found.append(LookupConv2d(problem, blocks, r.tiling, ns(limits.lookup[level], r), r.width))
    return sorted(found, key=lambda kernel: kernel.cost)


def _can_look_up(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether the lookup form applies: one input word serves sixteen lanes, and sums fit sixteen bits."""
    geometry = Geometry(problem, blocks)
    return geometry.uniform(1) and geometry.steps * WORD_BITS < 2**16
