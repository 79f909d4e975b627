"""The table of x86's kernel families."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qcompiler.ir.numerics import WORD_BITS, WORD_BYTES
from qcompiler.targets.measured import kind_of
from qcompiler.targets.offers import Family
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.byte_sums import ByteDot, ByteSums, codes_of
from qcompiler.targets.vector.common_kernels import (
    COMMON_KERNELS,
    binary_blocks,
    byte_convolutions,
    convolution_blocks,
    counting,
    largest_weight,
    patch_convolutions,
    pixel_blocks,
    pixel_convolutions,
    plane_blocks,
    rounded_products,
    word_convolutions,
)
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.direct import Geometry
from qcompiler.targets.vector.estimates import compute_ns
from qcompiler.targets.vector.flat_conv import FlatConv2d
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.multiply_words import MultiplyWords
from qcompiler.targets.vector.nibble_reduction import fits_nibbles
from qcompiler.targets.vector.patch_sums import PatchSums
from qcompiler.targets.vector.planes import weight_planes
from qcompiler.targets.vector.sum_finish import SumFinish
from qcompiler.targets.vector.tilings import FEW_REGISTERS
from qcompiler.targets.x86.byte_dots import MultiplyBytes, Vnni, multiply_words
from qcompiler.targets.x86.channel_dots import ChannelDots, column_tilings, fits_columns
from qcompiler.targets.x86.code_lookups import CodeLookups, code_tilings, fits_codebook
from qcompiler.targets.x86.dotted_nibbles import DottedNibbles
from qcompiler.targets.x86.field_sums import HELD, MOST_ROWS, FieldSums, field_sums, field_tilings
from qcompiler.targets.x86.lookup_mismatches import LookupMismatches
from qcompiler.targets.x86.lookup_sums import PLANES, WIDTH, ColumnLookups, LookupSums, compared_sums, fits_sums
from qcompiler.targets.x86.lookup_tilings import (
    lookup_column_tilings,
    lookup_tilings,
    nibble_tilings,
    pixel_tilings,
    table_tilings,
)
from qcompiler.targets.x86.machine import Isa
from qcompiler.targets.x86.pair_sums import PairSums, PatchPairs
from qcompiler.targets.x86.pixel_lookups import TABLE_BYTES, PixelLookups, gains_by_pixels, parts_of
from qcompiler.targets.x86.rounded_pairs import MOST, RoundedPairs
from qcompiler.targets.x86.sorted_sums import PatchSorted, SortedSums, fits_lists, sorted_tilings
from qcompiler.targets.x86.table_lookups import (
    SelectedBits,
    SplitTables,
    TableLookup,
    WholeTables,
    indices_apart,
)
from qcompiler.targets.x86.tile_sums import TileSums, multiplies_tiles, tile_tilings
from qcompiler.targets.x86.widened_nibbles import WidenedNibbles, lane_bytes
from qcompiler.targets.x86.word_sums import PatchWords, WordSums

# bytes of vectors whose sums of two products are added up, and of those that look up whole codes by nibbles
_PAIRED = _SHUFFLED = 32
_OF_PATCHES: Mapping[type[ByteSums], type[PatchSums]] = {
    ByteSums: PatchSums,
    PairSums: PatchPairs,
    WordSums: PatchWords,
}


def lookups(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Binary convolutions by lookups in byte lanes, where that is faster than population counts."""
    blocks = binary_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or isa.lookup_rate <= isa.binary_rate:
        return
    if _can_look_up(problem, blocks):
        for r in lookup_tilings(isa, problem, blocks):
            ns = compute_ns(isa, problem, blocks, isa.lookup_rate, r)
            yield counting(problem, blocks, r.tiling, ns, LookupMismatches(r.width))


def tables(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes of few bits in bit planes by lookups in tables of 64 entries."""
    blocks = plane_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None:
        return
    if problem.x.planes not in PLANES or not fits_sums(problem, Geometry(problem, blocks).steps):
        return
    look = _table_lookup(isa, problem)
    sums = compared_sums(problem, blocks) if look.width == WIDTH else "int32"
    for r in table_tilings(problem, blocks, look.width, isa.registers):
        ns = compute_ns(isa, problem, blocks, isa.table_rate * problem.x.planes, r)
        yield DirectConv2d(Frame(problem, blocks, r.tiling), LookupSums(look, sums), SumFinish(sums), ns)
    if problem.kernel[1] > 1 and isa.registers > FEW_REGISTERS:
        for r in lookup_column_tilings(problem, blocks, look.width):
            ns = compute_ns(isa, problem, blocks, isa.table_rate * problem.x.planes, r)
            yield DirectConv2d(Frame(problem, blocks, r.tiling), ColumnLookups(look, sums), SumFinish(sums), ns)


def whole_codes(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes of few bits in bit planes by lookups of all bits of some codes (AVX2, VBMI)."""
    blocks, width = plane_blocks(problem), isa.vector_bytes
    if not isinstance(problem, Conv2d) or blocks is None or not (width == _SHUFFLED or isa.vbmi):
        return
    if problem.x.planes not in PLANES or not fits_sums(problem, Geometry(problem, blocks).steps):
        return
    if fits_codebook(problem, blocks, width):
        sums = compared_sums(problem, blocks) if width == WIDTH else "int32"
        for r in code_tilings(problem, blocks, width):
            ns = compute_ns(isa, problem, blocks, isa.code_rate * problem.x.planes, r)
            yield DirectConv2d(Frame(problem, blocks, r.tiling), CodeLookups(width, sums), SumFinish(sums), ns)


def nibbles(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes in tables by lookups of four inputs."""
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not fits_nibbles(problem, _most_lookups(isa)):
        return
    dotted = isa.vbmi and isa.vnni
    apart = indices_apart(problem, isa.vector_bytes)
    reduction = DottedNibbles() if dotted else WidenedNibbles(isa.vector_bytes, apart)
    parts = 0 if dotted else lane_bytes(problem, isa.vector_bytes)
    for r in nibble_tilings(problem, blocks, isa.vector_bytes, parts, isa.registers):
        ns = compute_ns(isa, problem, blocks, isa.nibble_rate, r)
        yield DirectConv2d(Frame(problem, blocks, r.tiling), reduction, SumFinish(), ns)


def pixels(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of activations of fewer bits than weights, by pixels: lookups in sums of weights.

    Processors without the instructions count bits of the same words.
    """
    blocks = pixel_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not gains_by_pixels(problem):
        return
    if not (isa.vbmi and isa.vnni):
        yield from pixel_convolutions(isa, problem)
        return
    parts = len(parts_of(problem.weights))
    # estimates reckon with a product for each bit of a weight
    rate = isa.pixel_rate * len(weight_planes(problem.weights).factors) / parts
    for r in pixel_tilings(problem, blocks):
        ns = compute_ns(isa, problem, blocks, rate, r, parts * TABLE_BYTES / WORD_BYTES)
        yield FlatConv2d(Frame(problem, blocks, r.tiling), PixelLookups(), SumFinish(), ns)


def dots(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes in bytes, but for those that `fields` does: all variants share one copy of the weights."""
    if isinstance(problem, Conv2d) and problem.x.in_bytes and _field_sums(isa, problem) is None:
        dot, bits = _dot(isa, problem), _stored_bits(isa, problem)
        reduction = _reduction(isa, problem, dot)
        yield from byte_convolutions(isa, problem, dot, bits, reduction)
        yield from patch_convolutions(isa, problem, dot, bits, _OF_PATCHES[reduction])


def sorted_steps(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Products of bytes of which two rarely overflow 16 bits (AVX2)."""
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not problem.x.in_bytes or problem.by_channel:
        return
    if problem.second is not None or not problem.mostly_small or not isinstance(_dot(isa, problem), MultiplyWords):
        return
    if isa.vector_bytes == _PAIRED and kind_of(problem) != "rows" and fits_lists(problem, blocks):
        sums = SortedSums(MultiplyBytes(isa.vector_bytes // 4))
        for r in sorted_tilings(problem, blocks):
            ns = compute_ns(isa, problem, blocks, isa.byte_rate * sums.dot.speed, r)
            yield DirectConv2d(Frame(problem, blocks, r.tiling), sums, SumFinish(), ns)
        patches = patch_convolutions(isa, problem, sums.dot, reduction=PatchSorted)
        yield from (each for each in patches if each.frame.tiling.blocks == 1)


def matrices(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes in bytes by products of tiles."""
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not isa.amx or not multiplies_tiles(problem, blocks):
        return
    for r in tile_tilings(problem, blocks):
        ns = compute_ns(isa, problem, blocks, isa.tile_rate, r)
        yield DirectConv2d(Frame(problem, blocks, r.tiling), TileSums(), SumFinish(), ns)


def channels(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions channel by channel of codes in bytes, several kernel rows in one product."""
    blocks = convolution_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or blocks.groups > 1 or not (isa.vnni and isa.vbmi):
        return
    if fits_columns(problem):
        for r in column_tilings(problem, blocks, isa.registers):
            ns = compute_ns(isa, problem, blocks, isa.float_rate, r)
            yield DirectConv2d(Frame(problem, blocks, r.tiling), ChannelDots(), SumFinish(), ns)


def fields(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Products of a few rows of bytes with weights of few bits."""
    sums = _field_sums(isa, problem)
    blocks = convolution_blocks(problem)
    if isinstance(problem, Conv2d) and blocks is not None and sums is not None:
        for r in field_tilings(problem, blocks, sums, isa.vector_bytes, isa.registers):
            ns = compute_ns(isa, problem, blocks, isa.byte_rate, r, sums.bits / 8)
            yield DirectConv2d(Frame(problem, blocks, r.tiling), sums, SumFinish(), ns)


def rounded(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Products of floats that are rounded in blocks."""
    width = isa.vector_bytes // 4
    bits = problem.grid.bits if isinstance(problem, Conv2d) and problem.grid is not None else 8
    if isa.vnni:
        yield from rounded_products(isa, problem, Vnni(width), 255)
    elif width > 4 and bits < 8:
        yield from rounded_products(isa, problem, MultiplyBytes(width), MOST, RoundedPairs)
    else:
        yield from rounded_products(isa, problem, multiply_words(width), 255)


KERNELS: tuple[Family[Isa], ...] = (
    *COMMON_KERNELS,
    word_convolutions,
    lookups,
    tables,
    whole_codes,
    nibbles,
    pixels,
    dots,
    sorted_steps,
    matrices,
    channels,
    fields,
    rounded,
)


def _most_lookups(isa: Isa) -> int:
    """Of four inputs, with which they may still be faster than products of bytes."""
    return 2 if isa.vnni or isa.vector_bytes != 32 else 4


def _table_lookup(isa: Isa, problem: Conv2d) -> TableLookup:
    """The fastest way to look up."""
    if isa.vbmi:
        return WholeTables()
    if isa.vector_bytes > SelectedBits.width:
        return SplitTables(isa.vector_bytes)
    return SelectedBits(problem.x.planes, weight_planes(problem.weights).signs)


def _stored_bits(isa: Isa, problem: Conv2d) -> int | None:
    """Of weights in the library: whole bytes, since to take them apart costs more; None for the fewest.

    With VNNI a few rows read weights for so few products that fewer bytes are faster.
    """
    return None if isa.vnni and problem.pixels <= MOST_ROWS else 8


def _dot(isa: Isa, problem: Conv2d) -> ByteDot:
    """The fastest instructions that are exact."""
    width = isa.vector_bytes // 4
    if isa.vnni:
        return Vnni(width)
    held = _pairs_held(isa, problem) if width > 4 else 0
    return MultiplyBytes(width, held) if held else multiply_words(width)


def _reduction(isa: Isa, problem: Conv2d, dot: ByteDot) -> type[ByteSums]:
    """What adds products up by such instructions; other vectors than those of AVX2 are not measured."""
    if isinstance(dot, MultiplyBytes):
        return PairSums if dot.held > 1 else ByteSums
    blocks = convolution_blocks(problem)
    side_by_side = blocks is not None and Geometry(problem, blocks).uniform(1) and not problem.centred
    return WordSums if isa.vector_bytes == _PAIRED and not isa.vnni and side_by_side else ByteSums


def _pairs_held(isa: Isa, problem: Conv2d) -> int:
    """How many sums of two products 16 bits hold the sum of, 1 where only one is added to others."""
    held = (2**15 - 1) // max(1, 2 * (codes_of(problem).levels - 1) * largest_weight(problem, 8))
    return held if isa.vector_bytes == _PAIRED and problem.second is None else min(held, 1)


def _field_sums(isa: Isa, problem: Problem) -> FieldSums | None:
    """Bytes times weights where they lie in their bytes, by the fastest instructions that are exact."""
    blocks, width = convolution_blocks(problem), isa.vector_bytes // 4
    if not isinstance(problem, Conv2d) or blocks is None:
        return None
    if isa.vnni:
        return field_sums(problem, blocks, Vnni(width))
    return field_sums(problem, blocks, MultiplyBytes(width, HELD) if width > 4 else multiply_words(width))


def _can_look_up(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether lookups apply: one input word serves sixteen lanes, and sums fit sixteen bits."""
    geometry = Geometry(problem, blocks)
    return geometry.uniform(1) and geometry.steps * WORD_BITS < 2**16
