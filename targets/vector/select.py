"""Which kernels compute a problem: pooling and maps here, convolutions as the machine says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.targets.problem import Conv2d, Map2d, Pool2d, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.vector.blocks import Blocks, blocks_for
from qcompiler.targets.vector.direct import Geometry
from qcompiler.targets.vector.emit import LANES
from qcompiler.targets.vector.epilogue import outputs_of
from qcompiler.targets.vector.integers import MOST_PRODUCTS
from qcompiler.targets.vector.map import ElementMap2d
from qcompiler.targets.vector.planar_map import PlanarMap2d, is_planar
from qcompiler.targets.vector.planes import plane_pairs
from qcompiler.targets.vector.pool import CodePool2d, FloatPool2d
from qcompiler.targets.vector.tilings import Ranked
from qcompiler.targets.vector.transpose_map import TransposeMap2d, can_transpose

# one lane after the other instead of a broadcast
_GATHER_SLOWDOWN = 10

Convolutions = Callable[[Conv2d, Blocks], list[Kernel]]


def kernels_for(problem: Problem, stream: float, convolutions: Convolutions) -> Sequence[Kernel]:
    """Every kernel for a problem; empty if packed buffers group their channels irreconcilably.

    stream: bytes per nanosecond out of the caches beyond the first. convolutions: direct convolutions on every tiling,
    cheapest first.
    """
    if isinstance(problem, Pool2d) and problem.kind == "codes":
        return [CodePool2d(problem, _memory_ns(problem, stream))]
    if isinstance(problem, Map2d) and is_planar(problem):
        return [PlanarMap2d(problem, _memory_ns(problem, stream))]
    blocks = _blocks(problem)
    if blocks is None:
        return []
    if isinstance(problem, Pool2d):
        return [FloatPool2d(problem, blocks, _memory_ns(problem, stream))]
    if isinstance(problem, Map2d) and can_transpose(problem, blocks):
        return [TransposeMap2d(problem, blocks, _memory_ns(problem, stream))]
    if isinstance(problem, Map2d):
        return [ElementMap2d(problem, blocks, _memory_ns(problem, stream))]
    return convolutions(problem, blocks) if _has_form(problem, blocks) else []


def compute_ns(problem: Conv2d, blocks: Blocks, macs_per_ns: float, ranked: Ranked, stream: float) -> float:
    """Arithmetic or weight streaming, whichever is slower, and the traffic of the epilogue."""
    oh, ow = problem.out_hw
    outputs = problem.x.n * oh * ow * blocks.count * LANES
    steps = Geometry(problem, blocks).steps
    products = WORD_BITS * plane_pairs(problem) if problem.x.packed else 1
    arithmetic = outputs * steps * products / macs_per_ns * ranked.slowdown
    if gathers(problem, blocks):
        arithmetic *= _GATHER_SLOWDOWN
    streaming = blocks.count * LANES * steps * 4 / stream
    return max(arithmetic, streaming) + sum(b.nbytes for b in outputs_of(problem)) / stream


def _has_form(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether every group of the input starts at a word, and counts of mismatches fit their registers."""
    geometry = Geometry(problem, blocks)
    countable = not problem.x.packed or geometry.steps * WORD_BITS < MOST_PRODUCTS
    return geometry.reads_whole_words and countable


def gathers(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether the lanes of a block read from scattered places."""
    geometry = Geometry(problem, blocks)
    return not geometry.uniform(1) and not geometry.depthwise


def _blocks(problem: Problem) -> Blocks | None:
    """Channel blocks that suit the outputs, and the groups of a convolution where the outputs leave a choice."""
    if not isinstance(problem, Conv2d):
        return blocks_for(problem.x.c, problem.epilogue)
    blocks = blocks_for(problem.out_channels, problem.epilogue)
    packed = any(buffer.packed for buffer in outputs_of(problem))
    if blocks is None or packed or not gathers(problem, blocks):
        return blocks
    return Blocks(problem.out_channels, problem.groups)


def _memory_ns(problem: Pool2d | Map2d, stream: float) -> float:
    """Reading and writing out of the second-level cache, and the call."""
    return 500 + (problem.x.nbytes + sum(b.nbytes for b in outputs_of(problem))) / stream
