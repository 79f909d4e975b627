"""Which kernels compute a problem on one ARM variant, the best untuned one first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from qcompiler.targets.arm.chunk_conv import ChunkConv2d
from qcompiler.targets.arm.held_conv import HeldConv2d, holds
from qcompiler.targets.arm.machine import Isa
from qcompiler.targets.arm.row_conv import RowConv2d, reads_rows
from qcompiler.targets.arm.tilings import chunk_tilings, held_tilings, row_tilings, word_tilings
from qcompiler.targets.arm.word_conv import ByteConv2d, WordConv2d
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.vector import select
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.direct import Geometry
from qcompiler.targets.vector.float_conv import FloatConv2d
from qcompiler.targets.vector.planes_conv import PlanesConv2d
from qcompiler.targets.vector.tilings import Ranked, float_tilings
from qcompiler.targets.vector.tilings import word_tilings as tilings_of_words
from qcompiler.targets.vector.xnor_conv import XnorConv2d

# bytes per nanosecond out of the caches beyond the first
_STREAM = 6
# per vector pipe and cycle: 128 one-bit products in three instructions, or in five with counts of 32 bits; four float
# products in one
_BINARY, _PLANES, _FLOAT = 128 / 3, 128 / 5, 4
# counts of sixteen lanes that stay in registers, four each
_COUNTS = 4


def kernels_for(isa: Isa, problem: Problem) -> Sequence[Kernel]:
    """Every kernel for a problem; empty if packed buffers group their channels irreconcilably."""
    return select.kernels_for(problem, _STREAM, lambda conv, blocks: _convolutions(isa, conv, blocks))


def _convolutions(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Kernel]:
    """Direct convolutions on every tiling, cheapest first."""

    def ns(rate: float, ranked: Ranked) -> float:
        return select.compute_ns(problem, blocks, rate * isa.pipes * isa.ghz, ranked, _STREAM)

    if not problem.x.packed:
        tilings = float_tilings(problem, blocks, 16, isa.registers)
        return [FloatConv2d(problem, blocks, r.tiling, ns(_FLOAT, r), True) for r in tilings]
    if not problem.binary:
        tilings = tilings_of_words(problem, blocks, _COUNTS)
        return [PlanesConv2d(problem, blocks, r.tiling, ns(_PLANES, r), _COUNTS) for r in tilings]
    return sorted(_binary(isa, problem, blocks, ns), key=lambda kernel: kernel.cost)


def _binary(isa: Isa, problem: Conv2d, blocks: Blocks, ns: Callable[[float, Ranked], float]) -> Iterator[Kernel]:
    """Binary convolutions in the forms that apply."""
    geometry = Geometry(problem, blocks)
    uniform = geometry.uniform(1)
    # with udot rows are better on two pipes; in the order for those two, chunks would need the stack. First, since all
    # forms wait for the same memory if there are many weights
    if isa.wide and not isa.dotprod and isa.mcpu == "generic":
        for r in chunk_tilings(problem, blocks):
            yield ChunkConv2d(problem, blocks, r.tiling, ns(_BINARY, r), isa.dotprod)
    if isa.wide and reads_rows(geometry):
        for r in row_tilings(problem, blocks):
            yield RowConv2d(problem, blocks, r.tiling, ns(_BINARY, r), isa.dotprod)
    if isa.wide and holds(geometry, 1):
        for r in held_tilings(problem, blocks):
            yield HeldConv2d(problem, blocks, r.tiling, ns(_BINARY, r))
        if not geometry.skips_rows:
            return
    for r in word_tilings(isa, problem, blocks):
        cost = ns(_BINARY, r)
        if not uniform:
            yield XnorConv2d(problem, blocks, r.tiling, cost)
        elif isa.dotprod and geometry.steps > 1:
            yield WordConv2d(problem, blocks, r.tiling, cost, isa.unroll)
        else:
            yield ByteConv2d(problem, blocks, r.tiling, cost, isa.unroll, isa.widen)
