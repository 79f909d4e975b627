"""The families of kernels that all processors with vector registers share; targets add binary convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.targets.problem import Conv2d, Map2d, Move2d, Pool2d, Problem, outputs_of
from qcompiler.targets.target import Kernel
from qcompiler.targets.vector.blocks import Blocks, blocks_for
from qcompiler.targets.vector.byte_sums import (
    ByteDot,
    ByteSums,
    ChannelSums,
    fits_bytes,
    parts_of,
    stored_bits,
    tile_blocks,
)
from qcompiler.targets.vector.code_pool import BytePool2d
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.count_finish import MOST_PRODUCTS, CountFinish
from qcompiler.targets.vector.direct import Geometry, Tiling
from qcompiler.targets.vector.estimates import VectorMachine, compute_ns, gathers, memory_ns
from qcompiler.targets.vector.few_bit_sums import FewBitSums
from qcompiler.targets.vector.few_mismatches import FewMismatches
from qcompiler.targets.vector.finish import FloatFinish
from qcompiler.targets.vector.float_sums import FloatSums
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.map import ElementMap2d
from qcompiler.targets.vector.move import CodeMove2d
from qcompiler.targets.vector.patch_sums import PatchFrame, PatchSums, fits_patches
from qcompiler.targets.vector.planar_map import PlanarMap2d, is_planar
from qcompiler.targets.vector.plane_pool import PlanePool2d
from qcompiler.targets.vector.plane_sums import PlaneSums
from qcompiler.targets.vector.planes_to_pixels import PlanesToPixels2d, becomes_pixels
from qcompiler.targets.vector.planes_to_words import PlanesToWords2d, fits_words
from qcompiler.targets.vector.pool import FloatPool2d
from qcompiler.targets.vector.product_sums import ProductFinish, ProductSums
from qcompiler.targets.vector.reduction import Reduction
from qcompiler.targets.vector.rounded_sums import RoundedSums, blocks_together, rounded_tilings
from qcompiler.targets.vector.sum_finish import SumFinish
from qcompiler.targets.vector.ternary_sums import TERNARY, TernarySums
from qcompiler.targets.vector.tilings import byte_tilings, float_tilings, word_tilings
from qcompiler.targets.vector.transpose_map import TransposeMap2d, can_transpose
from qcompiler.targets.vector.word_mismatches import WordMismatches


def code_pools(machine: VectorMachine, problem: Problem) -> Iterator[Kernel]:
    """Pools of packed codes."""
    if isinstance(problem, Pool2d) and problem.kind == "codes" and not (problem.x.in_tables or problem.x.by_pixels):
        ns = memory_ns(machine, problem)
        # narrower vectors gain little
        shuffled = machine.vector_bytes if machine.vector_bytes >= 32 else 0
        yield BytePool2d(problem, ns) if problem.x.in_bytes else PlanePool2d(problem, ns, shuffled)


def float_pools(machine: VectorMachine, problem: Problem) -> Iterator[Kernel]:
    """Pools of floats."""
    if not isinstance(problem, Pool2d) or problem.kind == "codes":
        return
    blocks = blocks_of(problem)
    if blocks is not None:
        yield FloatPool2d(problem, blocks, memory_ns(machine, problem))


def maps(machine: VectorMachine, problem: Problem) -> Iterator[Kernel]:
    """Elementwise chains: by the first of five kernels that applies, which is the fastest."""
    if not isinstance(problem, Map2d):
        return
    blocks, ns = blocks_of(problem), memory_ns(machine, problem)
    if becomes_pixels(problem):
        yield PlanesToPixels2d(problem, ns)
    elif is_planar(problem):
        yield PlanarMap2d(problem, ns)
    elif blocks is not None and fits_words(problem):
        yield PlanesToWords2d(problem, blocks, ns)
    elif blocks is not None:
        yield (TransposeMap2d if can_transpose(problem, blocks) else ElementMap2d)(problem, blocks, ns)


def moves(machine: VectorMachine, problem: Problem) -> Iterator[Kernel]:
    """Codes in other places."""
    if isinstance(problem, Move2d):
        yield CodeMove2d(problem, memory_ns(machine, problem))


def float_convolutions(machine: VectorMachine, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of floats, with weights that are floats or few bits."""
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or problem.x.packed or problem.rounded:
        return
    for r in float_tilings(problem, blocks, machine.vector_bytes, machine.registers):
        ns = compute_ns(machine, problem, blocks, machine.float_rate, r)
        sums = FloatSums(machine.fma) if problem.grid is None else FewBitSums(problem.grid, machine.fma)
        yield DirectConv2d(Frame(problem, blocks, r.tiling), sums, FloatFinish(), ns)


def plane_convolutions(machine: VectorMachine, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes of any width in bit planes."""
    blocks = plane_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None:
        return
    ternary = problem.weights == TERNARY
    sums = (TernarySums if ternary else PlaneSums)(machine.counts, machine.widen_counts)
    # of the two planes of weights that estimates reckon with, one is left
    rate, counts = (2 * machine.planes_rate, 2 * machine.counts) if ternary else (machine.planes_rate, machine.counts)
    for r in word_tilings(problem, blocks, counts):
        ns = compute_ns(machine, problem, blocks, rate, r)
        yield DirectConv2d(Frame(problem, blocks, r.tiling), sums, SumFinish(), ns)


def pixel_convolutions(machine: VectorMachine, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes in bit planes by pixels, which are there for other kernels."""
    blocks = pixel_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None:
        return
    sums = PlaneSums(machine.counts, machine.widen_counts)
    for r in word_tilings(problem, blocks, machine.counts):
        ns = compute_ns(machine, problem, blocks, machine.planes_rate, r)
        yield DirectConv2d(Frame(problem, blocks, r.tiling), sums, SumFinish(), ns)


def channel_convolutions(machine: VectorMachine, problem: Problem) -> Iterator[Kernel]:
    """Convolutions channel by channel of codes in bytes."""
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not problem.by_channel:
        return
    for r in byte_tilings(problem, blocks, machine.vector_bytes, machine.registers):
        ns = compute_ns(machine, problem, blocks, machine.float_rate, r)
        yield DirectConv2d(Frame(problem, blocks, r.tiling), ChannelSums(), SumFinish(), ns)


COMMON_BUT_PLANES = (code_pools, float_pools, maps, moves, float_convolutions, channel_convolutions)
"""For processors that count bits of planes in ways of their own."""

COMMON_KERNELS = (*COMMON_BUT_PLANES, plane_convolutions)


def word_convolutions(machine: VectorMachine, problem: Problem) -> Iterator[Kernel]:
    """Binary convolutions that count bits of whole words."""
    blocks = binary_blocks(problem)
    if isinstance(problem, Conv2d) and blocks is not None:
        for r in word_tilings(problem, blocks, machine.counts):
            ns = compute_ns(machine, problem, blocks, machine.binary_rate, r)
            yield counting(problem, blocks, r.tiling, ns, WordMismatches())


def few_convolutions(machine: VectorMachine, problem: Problem, reduction: FewMismatches) -> Iterator[Kernel]:
    """Binary convolutions of a few channels at a time, where all of a block read the same words."""
    blocks = binary_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not Geometry(problem, blocks).uniform(1):
        return
    for r in word_tilings(problem, blocks, machine.counts):
        ns = compute_ns(machine, problem, blocks, machine.binary_rate, r)
        yield counting(problem, blocks, r.tiling, ns, reduction)


def byte_convolutions(
    machine: VectorMachine,
    problem: Problem,
    dot: ByteDot,
    bits: int | None = None,
    reduction: type[ByteSums] = ByteSums,
) -> Iterator[DirectConv2d]:
    """Convolutions of codes in bytes by sums of four products.

    bits: of stored weights, if not the fewest.
    """
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not problem.x.in_bytes or problem.by_channel:
        return
    if problem.second is not None:
        for r in byte_tilings(
            problem, blocks, machine.vector_bytes, machine.registers, parts=dot.parts, chain=dot.chain
        ):
            ns = compute_ns(machine, problem, blocks, machine.byte_rate * dot.speed, r)
            yield DirectConv2d(Frame(problem, blocks, r.tiling), ProductSums(dot), ProductFinish(), ns)
        return
    bits = bits or stored_bits(problem, blocks)
    shared = tile_blocks(bits)
    joins = len(parts_of(bits)) - 1
    for r in byte_tilings(
        problem, blocks, machine.vector_bytes, machine.registers, shared, dot.parts, joins, dot.chain
    ):
        ns = compute_ns(machine, problem, blocks, machine.byte_rate * dot.speed, r, bits / 8)
        yield DirectConv2d(Frame(problem, blocks, r.tiling), reduction(dot, bits), SumFinish(), ns)


def patch_convolutions(
    machine: VectorMachine,
    problem: Problem,
    dot: ByteDot,
    bits: int | None = None,
    reduction: type[PatchSums] = PatchSums,
) -> Iterator[DirectConv2d]:
    """Convolutions of bytes of less than four channels, whose windows are laid out without what fills up words.

    bits: of stored weights, if not the fewest.
    """
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not fits_patches(problem):
        return
    bits = bits or stored_bits(problem, blocks)
    shared, joins = tile_blocks(bits), len(parts_of(bits)) - 1
    registers, most = (machine.vector_bytes, machine.registers), machine.byte_rate * dot.speed
    for r in byte_tilings(problem, blocks, *registers, shared, dot.parts, joins, dot.chain):
        frame = PatchFrame(problem, blocks, r.tiling, min(8, dot.width))
        if frame.fits_stack:
            share = frame.geometry.steps / Geometry(problem, blocks).steps
            rate = most / (share * frame.slowdown(most))
            ns = compute_ns(machine, problem, blocks, rate, r, share * bits / 8)
            yield DirectConv2d(frame, reduction(dot, bits), SumFinish(), ns)


def rounded_products(
    machine: VectorMachine, problem: Problem, dot: ByteDot, most: int, reduction: type[RoundedSums] = RoundedSums
) -> Iterator[Kernel]:
    """Products of floats that are rounded in blocks, by sums of four products of at most `most` and 127."""
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not problem.rounded or problem.grid is None:
        return
    held = (machine.registers // 2) * machine.vector_bytes // 64
    sums = reduction(problem.grid, dot, blocks_together(problem.grid.bits, blocks.count), most, held)
    for r in rounded_tilings(problem, blocks, sums):
        ns = compute_ns(machine, problem, blocks, machine.byte_rate, r, problem.grid.bits / 32)
        yield DirectConv2d(Frame(problem, blocks, r.tiling), sums, FloatFinish(), ns)


def largest_weight(problem: Conv2d, bits: int) -> int:
    """The largest absolute value of weights as `ByteSums` multiplies them: those of few bits lie highest in a byte.

    bits: of weights as they are stored.
    """
    return max(abs(problem.weights.low), abs(problem.weights.high)) if bits == 8 else 128


def counting(problem: Conv2d, blocks: Blocks, tiling: Tiling, cost: float, reduction: Reduction) -> DirectConv2d:
    """A binary convolution that counts mismatches."""
    return DirectConv2d(Frame(problem, blocks, tiling), reduction, CountFinish(), cost)


def binary_blocks(problem: Problem) -> Blocks | None:
    """The channel blocks of a convolution of -1 and +1; None for other problems."""
    binary = isinstance(problem, Conv2d) and problem.x.packed and problem.binary
    return convolution_blocks(problem) if binary else None


def plane_blocks(problem: Problem) -> Blocks | None:
    """The channel blocks of a convolution of codes of several bits in bit planes; None for other problems."""
    planes = isinstance(problem, Conv2d) and problem.x.in_planes
    if not isinstance(problem, Conv2d) or not planes or problem.binary or problem.centred:
        return None
    return convolution_blocks(problem)


def pixel_blocks(problem: Problem) -> Blocks | None:
    """The channel blocks of a convolution of codes in bit planes by pixels; None for other problems."""
    if not isinstance(problem, Conv2d) or not problem.x.by_pixels or problem.centred:
        return None
    return convolution_blocks(problem)


@lru_cache(maxsize=16)
def convolution_blocks(problem: Problem) -> Blocks | None:
    """The channel blocks of a convolution that a direct kernel can do; None for others.

    Padding must be in the halo, every group of the input must start at a word, and sums must fit their registers.
    """
    if not isinstance(problem, Conv2d) or problem.padding != "halo":
        return None
    blocks = blocks_of(problem)
    if blocks is None:
        return None
    geometry = Geometry(problem, blocks)
    return blocks if geometry.reads_whole_words and _fits_registers(geometry) else None


def _fits_registers(geometry: Geometry) -> bool:
    """Whether no sum of integers overflows."""
    problem = geometry.problem
    if problem.x.in_bytes:
        return fits_bytes(problem)
    return not (problem.x.in_planes or problem.x.by_pixels) or geometry.steps * WORD_BITS < MOST_PRODUCTS


def blocks_of(problem: Problem) -> Blocks | None:
    """Channel blocks that suit the outputs, and the groups of a convolution where the outputs leave a choice.

    None if packed buffers group their channels irreconcilably, or lie by pixels.
    """
    if any(buffer.by_pixels for buffer in outputs_of(problem)):
        return None
    if not isinstance(problem, Conv2d):
        return blocks_for(problem.x.c, problem.epilogue)
    blocks = blocks_for(problem.out_channels, problem.epilogue)
    packed = any(buffer.packed for buffer in outputs_of(problem))
    if blocks is None or packed or not gathers(problem, blocks):
        return blocks
    return Blocks(problem.out_channels, problem.groups)
