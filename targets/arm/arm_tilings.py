"""Register tiles of binary convolutions on ARM: those that need no stack in their inner loops, and how good each is.

The slowdowns are cycles of the inner loops in llvm-mca's models of Cortex-A72 and Neoverse N1, relative to three vector
instructions for 128 products (`python -m benchmarks.arm`).
"""

from __future__ import annotations

from qcompiler.targets.arm.byte_words import in_halves
from qcompiler.targets.arm.chunk_mismatches import chunk_of
from qcompiler.targets.arm.fourfold_lookups import holds_indices
from qcompiler.targets.arm.held_mismatches import holds
from qcompiler.targets.arm.machine import Isa
from qcompiler.targets.arm.nibble_findings import tables_in_bytes
from qcompiler.targets.arm.nibble_lookups import pixels_ahead
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.border_classes import borders_of
from qcompiler.targets.vector.direct import Geometry
from qcompiler.targets.vector.nibble_reduction import planes_of
from qcompiler.targets.vector.planes import plane_pairs, weight_planes
from qcompiler.targets.vector.tilings import Ranked, ranked, streams, tiles_within

Slowdowns = dict[tuple[int, int], float]

# pixels x blocks of sixteen channels; four registers of accumulators each
_WORD: Slowdowns = {(2, 1): 1.09, (3, 1): 1.2, (1, 4): 1.2, (1, 3): 1.22, (1, 2): 1.22, (1, 1): 1.35}
# with the instructions in the order that suits two pipes; in LLVM's generic order this tile
# spills, and so does (4, 1)
_WORD_SCHEDULED: Slowdowns = {**_WORD, (2, 2): 1.07}
# without a loop the sums of larger tiles need the stack
_WORD_SINGLE: Slowdowns = {(2, 1): 1.09, (1, 2): 1.22, (1, 1): 1.35}
_WORD_16_REGISTERS: Slowdowns = {(2, 1): 1.1, (1, 2): 1.2, (1, 1): 1.3}
# one pixel reaches 1.04 with its weights at hand, and reads them twice as often as two
_ROW: Slowdowns = {(2, 1): 1.0, (3, 1): 1.01, (4, 1): 1.02, (1, 1): 1.17}
# in batches; on cores in order two pixels wait longer for what is loaded
_ROW_BATCHES: Slowdowns = {**_ROW, (2, 1): 1.05, (3, 1): 1.1, (4, 1): 1.0}
# one pixel reads all weights once for 16 channels
_HELD: Slowdowns = {(2, 1): 1.0, (3, 1): 1.0, (4, 1): 1.0, (1, 1): 1.25}
_CHUNK: Slowdowns = {(1, 1): 1.06}
# vector registers of 64-bit code
_REGISTERS = 32
# of lookups, in slots of vector pipes: what a load of a table takes from the dispatch of Neoverse N1, and what
# Cortex-A53 waits for a lookup that nothing else fills the time of
_LOAD, _WAIT = 1, 4


def word_tilings(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles of `WordConv2d` and `ByteConv2d`."""
    if isa.registers == 16:
        return _offered(problem, blocks, _WORD_16_REGISTERS)
    if Geometry(problem, blocks).steps == 1:
        return _offered(problem, blocks, _WORD_SINGLE)
    scheduled = isa.mcpu in ("cortex-a72", "cortex-a76")
    return _offered(problem, blocks, _WORD_SCHEDULED if scheduled else _WORD)


def row_tilings(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles of `RowMismatches` and `RowBatches` that are too large for `HeldMismatches`."""
    geometry = Geometry(problem, blocks)
    slowdowns = _ROW_BATCHES if in_batches(isa) else _ROW
    return _offered(problem, blocks, {tile: s for tile, s in slowdowns.items() if not holds(geometry, tile[0])})


def in_batches(isa: Isa) -> bool:
    """Whether rows of several pixels come in batches: where there may be cores that keep to an order."""
    return isa.mcpu == "generic"


def chunk_tilings(problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles of `ChunkConv2d` that are too large for `HeldConv2d`."""
    geometry = Geometry(problem, blocks)
    return _offered(problem, blocks, _CHUNK if chunk_of(geometry) and not holds(geometry, 1) else {})


def held_tilings(problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles of `HeldConv2d`, which visits the rows of zero padding where other kernels skip them."""
    geometry = Geometry(problem, blocks)
    borders = borders_of(problem)
    visited = borders.row_taps[borders.row_class]
    waste = visited.size / max(visited.sum(), 1) if geometry.skips_rows else 1.0
    return _offered(problem, blocks, {tile: s * waste for tile, s in _HELD.items() if holds(geometry, tile[0])})


def counts_of_planes(isa: Isa, problem: Conv2d) -> int:
    """Pairs of planes of a pixel that are counted at once: fewer where words of more than two planes are held."""
    if isa.registers == 16 or problem.x.planes > 3:
        return 2
    return 4 if problem.x.planes <= 2 else 3


def plane_tilings(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles of `BytePlanes`: of one block, so that registers are left for the words of all planes of a pixel."""
    pairs, planes = plane_pairs(problem), len(weight_planes(problem.weights).factors)
    tiles = [(p, b) for p, b in tiles_within(problem, blocks, max(1, counts_of_planes(isa, problem) // pairs), 1)]
    # a word is broadcast for all planes of weights, and weights are loaded for all pixels and planes of activations
    return ranked(problem, blocks, [(p, b, 1 + 0.08 / planes + 0.1 / (p * problem.x.planes)) for p, b in tiles])


def element_tilings(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles of `ElementDots`: sums, inputs and a few weights in registers, in order one more and what is shifted."""
    others = 4 if isa.in_order else 2
    tiles = [(p, b) for p, b in streams(problem, blocks, 6) if 4 * p * b + p <= _REGISTERS - others]
    return ranked(problem, blocks, [(p, b, max(1.0, 2 / (p * b)) * (1 + 0.4 / p)) for p, b in tiles])


def byte_word_tilings(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles of `ByteWords`: slots of a pipe for sixteen products, of which cores with two have four in two cycles."""
    slots = (2.2, 0.8) if in_halves(problem) else (5.1, 0.8)
    if not isa.in_order:
        slots = (4, 0.4) if in_halves(problem) else (4.4, 0.4)
    return ranked(
        problem, blocks, [(p, b, (slots[0] + slots[1] / p) / 4) for p, b in tiles_within(problem, blocks, 2, 1)]
    )


def nibble_tilings(isa: Isa, problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles of `NibbleLookups` and `FourfoldLookups`."""
    fits = holds_indices if fourfold_tables(isa) else pixels_ahead
    tiles = [(p, b) for p, b in tiles_within(problem, blocks, 8, 2) if fits(problem, p, b)]
    return ranked(problem, blocks, [(p, b, _lookup_slowdown(isa, problem, p, b)) for p, b in tiles])


def fourfold_tables(isa: Isa) -> bool:
    """Whether tables are loaded four at a time: in code that is not for cores that keep to an order too."""
    return isa.mcpu == "cortex-a76"


def _lookup_slowdown(isa: Isa, problem: Conv2d, pixels: int, blocks: int) -> float:
    """Slots of vector pipes per lookup, and what loads and latency add, relative to a tbl and an addition."""
    columns, widened = blocks * len(planes_of(problem).factors), 1 / tables_in_bytes(problem)
    slots = isa.lookup_slots + 1 + 2 * widened + 1 / pixels
    if isa.in_order:
        slots += 1 / columns + 1 / (2 * pixels) + _WAIT / (columns * pixels_ahead(problem, pixels, blocks)) ** 2
    elif isa.dotprod and not isa.i8mm and not fourfold_tables(isa):
        slots += _LOAD / columns
    return slots / (isa.lookup_slots + 1)


def _offered(problem: Conv2d, blocks: Blocks, slowdowns: Slowdowns) -> list[Ranked]:
    """Those that the problem is large enough for."""
    possible = streams(problem, blocks, 4)
    return ranked(problem, blocks, [(p, b, slowdowns[p, b]) for p, b in possible if (p, b) in slowdowns])
