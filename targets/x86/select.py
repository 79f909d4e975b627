"""Which kernels compute a problem on one instruction-set level, the best untuned one first."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.targets.problem import Conv2d, Map2d, Pool2d, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.x86.blocks import Blocks, blocks_for
from qcompiler.targets.x86.direct import Geometry
from qcompiler.targets.x86.emit import LANES
from qcompiler.targets.x86.epilogue import outputs_of
from qcompiler.targets.x86.float_conv import FloatConv2d
from qcompiler.targets.x86.integers import MOST_PRODUCTS
from qcompiler.targets.x86.lookup_conv import LookupConv2d
from qcompiler.targets.x86.machine import PORT_LIMITS, Isa
from qcompiler.targets.x86.map import ElementMap2d
from qcompiler.targets.x86.planar_map import PlanarMap2d, is_planar
from qcompiler.targets.x86.pool import BitPool2d, FloatPool2d
from qcompiler.targets.x86.tilings import Ranked, float_tilings, lookup_tilings, word_tilings
from qcompiler.targets.x86.transpose_map import TransposeMap2d, can_transpose
from qcompiler.targets.x86.xnor_conv import XnorConv2d

# one lane after the other instead of a broadcast
_GATHER_SLOWDOWN = 10
# bytes per nanosecond out of the caches beyond the first
_STREAM = 60


def kernels_for(isa: Isa, problem: Problem) -> Sequence[Kernel]:
    """Every kernel for a problem; empty if packed buffers group their channels irreconcilably."""
    if isinstance(problem, Pool2d) and problem.kind == "bits":
        return [BitPool2d(problem, _memory_ns(problem))]
    if isinstance(problem, Map2d) and is_planar(problem):
        return [PlanarMap2d(problem, _memory_ns(problem))]
    blocks = _blocks(problem)
    if blocks is None:
        return []
    if isinstance(problem, Pool2d):
        return [FloatPool2d(problem, blocks, _memory_ns(problem))]
    if isinstance(problem, Map2d) and can_transpose(problem, blocks):
        return [TransposeMap2d(problem, blocks, _memory_ns(problem))]
    if isinstance(problem, Map2d):
        return [ElementMap2d(problem, blocks, _memory_ns(problem))]
    return _convolutions(isa, problem, blocks) if _has_form(problem, blocks) else []


def _blocks(problem: Problem) -> Blocks | None:
    """Channel blocks that suit the outputs, and the groups of a convolution where the outputs leave a choice."""
    if not isinstance(problem, Conv2d):
        return blocks_for(problem.x.c, problem.epilogue)
    blocks = blocks_for(problem.out_channels, problem.epilogue)
    packed = any(buffer.dtype == "bit" for buffer in outputs_of(problem))
    if blocks is None or packed or not _gathers(problem, blocks):
        return blocks
    return Blocks(problem.out_channels, problem.groups)


def _has_form(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether every group of the input starts at a word, and counts of mismatches fit their registers."""
    geometry = Geometry(problem, blocks)
    countable = problem.x.dtype == "float32" or geometry.steps * WORD_BITS < MOST_PRODUCTS
    return geometry.reads_whole_words and countable


def _gathers(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether the lanes of a block read from scattered places."""
    geometry = Geometry(problem, blocks)
    return not geometry.uniform(1) and not geometry.depthwise


def _memory_ns(problem: Pool2d | Map2d) -> float:
    """Reading and writing out of the second-level cache, and the call."""
    return 500 + (problem.x.nbytes + sum(b.nbytes for b in outputs_of(problem))) / _STREAM


def _convolutions(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Kernel]:
    """Direct convolutions on every tiling, cheapest first."""
    limits, level = PORT_LIMITS["znver4"], isa.level

    def ns(rate: float, ranked: Ranked) -> float:
        return _compute_ns(problem, blocks, rate * limits.ghz, ranked)

    found: list[Kernel] = []
    if problem.x.dtype == "float32":
        for r in float_tilings(isa, problem, blocks):
            found.append(FloatConv2d(problem, blocks, r.tiling, ns(limits.fma[level], r), isa.fma))
        return found
    for r in word_tilings(isa, problem, blocks):
        found.append(XnorConv2d(problem, blocks, r.tiling, ns(limits.word[level], r)))
    if limits.lookup[level] > limits.word[level] and _can_look_up(problem, blocks):
        for r in lookup_tilings(isa, problem, blocks):
            found.append(LookupConv2d(problem, blocks, r.tiling, ns(limits.lookup[level], r), r.width))
    return sorted(found, key=lambda kernel: kernel.cost)


def _can_look_up(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether the lookup form applies: one input word serves sixteen lanes, and sums fit sixteen bits."""
    geometry = Geometry(problem, blocks)
    return geometry.uniform(1) and geometry.steps * WORD_BITS < 2**16


def _compute_ns(problem: Conv2d, blocks: Blocks, macs_per_ns: float, ranked: Ranked) -> float:
    """Arithmetic or weight streaming, whichever is slower, and the traffic of the epilogue."""
    oh, ow = problem.out_hw
    binary = problem.x.dtype == "bit"
    outputs = problem.x.n * oh * ow * blocks.count * LANES
    steps = Geometry(problem, blocks).steps
    arithmetic = outputs * steps * (WORD_BITS if binary else 1) / macs_per_ns * ranked.slowdown
    if _gathers(problem, blocks):
        arithmetic *= _GATHER_SLOWDOWN
    streaming = blocks.count * LANES * steps * 4 / _STREAM
    return max(arithmetic, streaming) + sum(b.nbytes for b in outputs_of(problem)) / _STREAM
