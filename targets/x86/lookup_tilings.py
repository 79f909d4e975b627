"""Register tiles of the lookup kernels."""

from __future__ import annotations

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.direct import Geometry, Tiling
from qcompiler.targets.vector.emit import LANES
from qcompiler.targets.vector.flat_conv import FlatGrid, fits_flat
from qcompiler.targets.vector.nibble_reduction import worths_of
from qcompiler.targets.vector.planes import weight_planes
from qcompiler.targets.vector.tilings import FEW_REGISTERS, Ranked, best_first, ranked, tiles_within
from qcompiler.targets.x86.channel_dots import columns_of
from qcompiler.targets.x86.lookup_sums import BLOCKS, lookups_together, units_of
from qcompiler.targets.x86.machine import Isa
from qcompiler.targets.x86.table_lookups import INPUTS, indices_apart

# cost of a lookup by vector size, as measured: the shuffle itself, finding the table (shared by the vectors of a run)
# and splitting weights into nibbles (shared by the pixels)
_LOOKUP_COSTS = {16: (0.6, 0.7, 0.4), 32: (0.57, 0.68, 0.38), 64: (0.6, 0.3, 0.5)}

# planes of pixels, and of columns, whose bits leave registers; those of columns are read again
_MOST_BITS = 8
_MOST_COLUMNS = 20
# vectors of a tile of columns, of which there are more than registers; as measured
_MOST_HELD = 44
# what loading weights, shared by the pixels, and a row of a table, shared by what is looked up in it, add to a lookup,
# and widening sums, shared by the lookups of a unit, as measured
_PER_WEIGHT, _PER_ROW, _PER_UNIT = 0.5, 0.6, 1.0

# what taking weights apart, shared by the pixels, and loading tables, shared by the blocks, add to a lookup of four
# inputs, as measured
_NIBBLE_COSTS = {16: (3.0, 3.0), 32: (0.3, 0.1), 64: (0.5, 0.1)}
# the same of weights that need not be taken apart
_COSTS_APART = (0.05, 0.2)
# of sixteen lanes, in a tile of lookups by masks, which fill the registers: more are slower and several times the code
_MOST_MASKED = 4

# vectors of pixels share the loads of tables, channels those of indices; as measured
_PIXEL_COSTS = {16: 1.3, 32: 1.1}


def lookup_tilings(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles of the lookup kernels, with the shuffle width each uses."""
    fixed, per_run, per_tile = _LOOKUP_COSTS[isa.vector_bytes]
    found: list[Ranked] = []
    for width in (16, 32, 64):
        per_vector = width // LANES
        widest = min(isa.vector_bytes, blocks.count * LANES)
        if not widest // 4 < width <= widest:
            continue
        tiles = [
            (p, b, (fixed + per_run * per_vector / b + per_tile / p) * (isa.vector_bytes / width) ** 0.5)
            for p, b in tiles_within(problem, blocks, 8 * per_vector)
            if b % per_vector == 0 and b <= 2 * per_vector and p <= 7
        ]
        found += ranked(problem, blocks, tiles, width)
    return best_first(found)


def table_tilings(problem: Conv2d, blocks: Blocks, width: int, registers: int) -> list[Ranked]:
    """Tiles of lookups in tables of 64 entries: sums in bytes of all pixels, vectors and planes stay in registers.

    Those are half of all. A single pixel would read weights that take 8 bits for 6 but once.
    """
    planes, given = len(weight_planes(problem.weights).factors), problem.x.planes
    per_vector, evenly, needless = width // LANES, blocks.count % BLOCKS == 0, _needless(problem, blocks)
    tiles = [
        (p, b, needless * (1 + _PER_WEIGHT / p + _row_cost(problem, b / per_vector)))
        for p, b in tiles_within(problem, blocks, registers // 2 * per_vector, 4 * BLOCKS)
        if b % (per_vector if evenly else BLOCKS) == 0 and (b % BLOCKS == 0 or BLOCKS % b == 0)
        if p * (b // per_vector) * planes <= registers // 2 and 1 < p <= _MOST_BITS // given
    ]
    return ranked(problem, blocks, tiles)


def lookup_column_tilings(problem: Conv2d, blocks: Blocks, width: int) -> list[Ranked]:
    """Tiles of lookups of whole kernel rows, where the channels fill the vectors and lookups of both sides.

    The weights of a row, and the sums of all pixels in bytes and in 16 bits, leave registers no more often than pays.
    """
    planes, given, taps = len(weight_planes(problem.weights).factors), problem.x.planes, problem.kernel[1]
    units, per_vector = units_of(Geometry(problem, blocks).group_inputs, given), width // LANES
    if not lookups_together(problem) or len(units) > 1 or blocks.count % BLOCKS:
        return []
    tiles, needless = [], _needless(problem, blocks)
    for p, b in tiles_within(problem, blocks, _MOST_HELD * per_vector, 4 * BLOCKS):
        vectors, columns = b // per_vector, len(columns_of(problem, p))
        held = vectors * (p * (planes + 2) + taps * planes)
        fits = held <= _MOST_HELD and columns * given <= _MOST_COLUMNS
        if b % per_vector == 0 and (b % BLOCKS == 0 or BLOCKS % b == 0) and p > 1 and fits:
            rows = _row_cost(problem, vectors, columns / (p * taps))
            tiles.append((p, b, needless * (1 + _PER_WEIGHT / p + rows)))
    return ranked(problem, blocks, tiles)


def pixel_tilings(problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles of lookups whose lanes are pixels: vectors of pixels by a run of channels, sixteen registers of sums."""
    oh, ow = problem.out_hw
    found = []
    for pixels, slowdown in _PIXEL_COSTS.items():
        if fits_flat(problem, pixels):
            tiling = Tiling(pixels, 1, 1, channel_major=True)
            computed = FlatGrid(problem, blocks, tiling).tiles * pixels
            found.append(Ranked(tiling, slowdown * computed / (oh * ow)))
    return best_first(found)


def _needless(problem: Conv2d, blocks: Blocks) -> float:
    """What weights that take 8 bits for 6, and widening sums, add to lookups."""
    unit = units_of(Geometry(problem, blocks).group_inputs, problem.x.planes)[0][0]
    return (1 + _PER_UNIT / unit.lookups) * unit.lookups * INPUTS / (unit.words * WORD_BITS)


def _row_cost(problem: Conv2d, vectors: float, found: float = 1) -> float:
    """Of the rows of tables, beside lookups; found: how often those of a pixel are, for each tap."""
    return _PER_ROW * problem.x.planes * found / (vectors * len(weight_planes(problem.weights).factors))


def nibble_tilings(problem: Conv2d, blocks: Blocks, width: int, parts: int, registers: int) -> list[Ranked]:
    """Tiles of lookups of four inputs: sums stay in registers.

    width: bytes of a vector. parts: registers that sums of a kind are in; 0: one holds those of all.
    """
    each = parts * len(worths_of(problem)) or 1
    per_pixel, per_block = _COSTS_APART if indices_apart(problem, width) else _NIBBLE_COSTS[width]
    limit, most = (16, registers * 3 // 4) if width > LANES else (_MOST_MASKED, _MOST_MASKED * each)
    tiles = [
        (p, b, 1 + per_pixel / p + per_block / b)
        for p, b in tiles_within(problem, blocks, limit)
        if p * b * each <= most or (p, b) == (1, 1)
    ]
    return ranked(problem, blocks, tiles, shorten=registers <= FEW_REGISTERS)
