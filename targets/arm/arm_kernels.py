"""The table of ARM's kernel families."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from qcompiler.targets.arm.arm_tilings import (
    byte_word_tilings,
    chunk_tilings,
    counts_of_planes,
    element_tilings,
    fourfold_tables,
    held_tilings,
    in_batches,
    nibble_tilings,
    plane_tilings,
    row_tilings,
    word_tilings,
)
from qcompiler.targets.arm.byte_dots import OrderedSums, SignedDot, WidenedPairs, largest_input
from qcompiler.targets.arm.byte_planes import BytePlanes, ByteTernary
from qcompiler.targets.arm.byte_words import ByteWords
from qcompiler.targets.arm.chunk_mismatches import ChunkMismatches
from qcompiler.targets.arm.element_dots import ElementDots, reads_registers
from qcompiler.targets.arm.fourfold_lookups import FourfoldLookups
from qcompiler.targets.arm.held_mismatches import HeldMismatches, holds
from qcompiler.targets.arm.lookup_batches import LookupBatches
from qcompiler.targets.arm.machine import Isa
from qcompiler.targets.arm.matrix_sums import MatrixSums, multiplies_pairs
from qcompiler.targets.arm.nibble_findings import fits_halves
from qcompiler.targets.arm.nibble_lookups import NibbleLookups, pixels_ahead
from qcompiler.targets.arm.ordered_elements import OrderedElements
from qcompiler.targets.arm.plane_batches import PlaneBatches
from qcompiler.targets.arm.row_batches import RowBatches
from qcompiler.targets.arm.row_mismatches import RowMismatches, reads_rows
from qcompiler.targets.offers import Family
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.byte_mismatches import ByteMismatches, UnrolledMismatches
from qcompiler.targets.vector.byte_sums import ByteDot, fits_sixteen_bits, stored_bits, tile_blocks
from qcompiler.targets.vector.common_kernels import (
    COMMON_BUT_PLANES,
    binary_blocks,
    byte_convolutions,
    convolution_blocks,
    counting,
    largest_weight,
    plane_blocks,
    plane_convolutions,
    rounded_products,
)
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.direct import Geometry
from qcompiler.targets.vector.estimates import compute_ns
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.nibble_reduction import fits_nibbles
from qcompiler.targets.vector.sum_finish import SumFinish
from qcompiler.targets.vector.ternary_sums import TERNARY
from qcompiler.targets.vector.tilings import Ranked, byte_tilings
from qcompiler.targets.vector.word_mismatches import WordMismatches


def _ns(isa: Isa, problem: Conv2d, blocks: Blocks, ranked: Ranked) -> float:
    return compute_ns(isa, problem, blocks, isa.binary_rate, ranked)


def chunks(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Binary convolutions of a single pixel in chunks.

    With udot rows are better on two pipes; in the order for those two, chunks would need the stack.
    """
    blocks = binary_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not isa.wide or isa.dotprod or isa.mcpu != "generic":
        return
    for r in chunk_tilings(problem, blocks):
        yield counting(problem, blocks, r.tiling, _ns(isa, problem, blocks, r), ChunkMismatches(isa.dotprod))


def rows(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Binary convolutions by rows of 128 channels."""
    blocks = binary_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not isa.wide:
        return
    if reads_rows(Geometry(problem, blocks)):
        for r in row_tilings(isa, problem, blocks):
            yield counting(problem, blocks, r.tiling, _ns(isa, problem, blocks, r), _rows(isa, r))


def held(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Binary convolutions whose input stays in registers."""
    blocks = binary_blocks(problem)
    if isinstance(problem, Conv2d) and blocks is not None and _can_hold(isa, problem, blocks):
        for r in held_tilings(problem, blocks):
            yield counting(problem, blocks, r.tiling, _ns(isa, problem, blocks, r), HeldMismatches())


def words(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Binary convolutions by words; those that can be held are not, save where that visits rows of padding."""
    blocks = binary_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None:
        return
    geometry = Geometry(problem, blocks)
    if _can_hold(isa, problem, blocks) and not geometry.skips_rows:
        return
    uniform = geometry.uniform(1)
    for r in word_tilings(isa, problem, blocks):
        reduction = WordMismatches()
        if uniform and isa.dotprod and geometry.steps > 1:
            reduction = UnrolledMismatches(isa.unroll)
        elif uniform:
            reduction = ByteMismatches(isa.unroll, isa.widen)
        yield counting(problem, blocks, r.tiling, _ns(isa, problem, blocks, r), reduction)


def planes(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes of any width in bit planes: in bytes, where one word serves all channels."""
    blocks = plane_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None:
        return
    if not Geometry(problem, blocks).uniform(1):
        yield from plane_convolutions(isa, problem)
        return
    ternary = problem.weights == TERNARY
    form = ByteTernary if ternary else BytePlanes
    sums = form(counts_of_planes(isa, problem), isa.widen)
    if in_batches(isa) and not ternary and problem.x.planes <= _MOST_IN_BATCHES:
        sums = PlaneBatches(sums.counts, sums.widen)
    # two instructions of logic, and half of the counts
    rate = isa.planes_rate * (1.5 if ternary else 1)
    for r in plane_tilings(isa, problem, blocks):
        ns = compute_ns(isa, problem, blocks, rate, r)
        yield DirectConv2d(Frame(problem, blocks, r.tiling), sums, SumFinish(), ns)


def nibbles(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes in tables by lookups of four inputs."""
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not isa.wide:
        return
    if not fits_nibbles(problem, _most_lookups(isa)) or not fits_halves(problem):
        return
    for r in nibble_tilings(isa, problem, blocks):
        ahead = pixels_ahead(problem, r.tiling.pixels, r.tiling.blocks)
        form = LookupBatches if in_batches(isa) and isa.dotprod and not isa.i8mm else NibbleLookups
        reduction = FourfoldLookups(0) if fourfold_tables(isa) else form(ahead)
        ns = compute_ns(isa, problem, blocks, isa.nibble_rate, r)
        yield DirectConv2d(Frame(problem, blocks, r.tiling), reduction, SumFinish(), ns)


def dots(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes in bytes."""
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not problem.x.in_bytes or _elements(isa, problem, blocks):
        return
    bits = _stored_bits(problem, blocks)
    dot = _dot(isa, problem, bits)
    for kernel in byte_convolutions(isa, problem, dot, bits):
        if kernel.frame.tiling.pixels > _MOST_BROADCAST:
            continue
        if isa.dotprod and 4 < bits < 8 and kernel.frame.tiling.blocks > _MOST_JOINED:
            continue
        if isinstance(dot, WidenedPairs) and problem.second is None:
            kernel = replace(kernel, reduction=OrderedSums(replace(dot, ordered=True), bits))
        yield kernel


def elements(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes in bytes, sixteen inputs at once."""
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not _elements(isa, problem, blocks):
        return
    sums = _dots_by_elements(isa) if isa.dotprod else ByteWords(_dot(isa, problem, 8), 8)
    for r in element_tilings(isa, problem, blocks) if isa.dotprod else byte_word_tilings(isa, problem, blocks):
        ns = compute_ns(isa, problem, blocks, isa.byte_rate, r)
        yield DirectConv2d(Frame(problem, blocks, r.tiling), sums, SumFinish(), ns)


def matrices(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes in bytes, two pixels by two channels at once."""
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not isa.i8mm:
        return
    if not problem.x.in_bytes or problem.by_channel or not multiplies_pairs(problem, blocks):
        return
    bits = _stored_bits(problem, blocks)
    for r in byte_tilings(problem, blocks, isa.vector_bytes, isa.registers, shared=tile_blocks(bits)):
        if r.tiling.pixels % 2 == 0:
            ns = compute_ns(isa, problem, blocks, isa.matrix_rate, r)
            yield DirectConv2d(Frame(problem, blocks, r.tiling), MatrixSums(SignedDot(), bits), SumFinish(), ns)


def rounded(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Products of floats that are rounded in blocks."""
    bits = problem.grid.bits if isinstance(problem, Conv2d) and problem.grid is not None else 8
    dot = SignedDot() if isa.dotprod else WidenedPairs(fits_sixteen_bits(127, 2**bits - 1), isa.wide)
    yield from rounded_products(isa, problem, dot, 2**bits - 1)


def _dots_by_elements(isa: Isa) -> ElementDots:
    """In an order of our own for cores that keep to it; others take its loads for two operations."""
    return (OrderedElements if isa.in_order else ElementDots)(SignedDot(), 8)


def _rows(isa: Isa, ranked: Ranked) -> RowMismatches:
    """One pixel alone has sixteen channels, and no registers for batches."""
    if ranked.tiling.pixels > 1 and in_batches(isa):
        return RowBatches(False, fourfold=not isa.dotprod)
    return RowMismatches(isa.dotprod)


# blocks whose weights of 5 to 7 bits are put together from two parts without a need of the stack
_MOST_JOINED = 2

# planes of activations whose words there are registers for
_MOST_IN_BATCHES = 2

# that do not pay for whole bytes of weights; chosen
_FEW_PIXELS = 4

# pixels whose inputs are broadcast at once without a need of the stack
_MOST_BROADCAST = 6

# chunks first, since all kernels wait for the same memory if there are many weights
KERNELS: tuple[Family[Isa], ...] = (
    *COMMON_BUT_PLANES,
    planes,
    chunks,
    rows,
    held,
    words,
    nibbles,
    dots,
    elements,
    matrices,
    rounded,
)


def _most_lookups(isa: Isa) -> int:
    """Of an input, with which they may still be faster than products of bytes, and need no stack."""
    if isa.dotprod:
        return 2
    return 3 if isa.mcpu == "cortex-a72" else 4


def _dot(isa: Isa, problem: Conv2d, bits: int) -> ByteDot:
    """The fastest instructions that are exact; bits: of weights as they are stored."""
    if isa.dotprod:
        return SignedDot()
    return WidenedPairs(fits_sixteen_bits(largest_input(problem), largest_weight(problem, bits)), isa.wide)


def _stored_bits(problem: Conv2d, blocks: Blocks) -> int:
    """Of weights in the library: whole bytes where they are read for many pixels, since to unpack them costs more."""
    return 8 if problem.pixels > _FEW_PIXELS else stored_bits(problem, blocks)


def _elements(isa: Isa, problem: Conv2d, blocks: Blocks) -> bool:
    """Whether sixteen inputs can be read at once, and meet weights in whole bytes."""
    reads = problem.x.in_bytes and reads_registers(problem, blocks)
    return isa.wide and reads and _stored_bits(problem, blocks) == 8


def _can_hold(isa: Isa, problem: Conv2d, blocks: Blocks) -> bool:
    return isa.wide and holds(Geometry(problem, blocks), 1)
