"""Register tiles of convolutions: which ones fit a machine, and which is best before anything is measured.

The rule, from measurements: tiles that divide the row and the channel blocks beat everything else; with equal waste,
enough independent accumulators to hide the latency of an addition or multiply-add; then few operand loads per product.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.direct import Geometry, Tiling
from qcompiler.targets.vector.emit import LANES
from qcompiler.targets.vector.planes import plane_pairs, weight_planes
from qcompiler.targets.vector.walk import walk

MOST_PIXELS = 14
"""Of a tile; rows of 7, 14, 28 and 56 are multiples."""

# three quarters of a first-level cache of 32 KiB, and of a second of 512; chosen
_L1_WEIGHTS, _L2_WEIGHTS = 24 * 1024, 384 * 1024
# pixels for which floats of weights must be read once, so that products wait for none of the three caches, as measured
# on a Zen 3 in pairs of registers
_FLOAT_REUSE = (2.0, 2.2, 2.6)
# putting a part of weights to another, in products of a register, as measured on x86
_JOINING = 1.1
# tilings that are offered of each family; chosen
_KEPT = 16
# what code for the last tile of a row must gain; chosen
_WORTH = 1.02
# processors whose registers hold so few pixels that tiles divide few rows
FEW_REGISTERS = 16


@dataclass(frozen=True)
class Ranked:
    """A tiling and its estimated time relative to the port limit (1 is perfect)."""

    tiling: Tiling
    slowdown: float
    width: int = 0


def word_tilings(problem: Conv2d, blocks: Blocks, limit: int) -> list[Ranked]:
    """Tiles of the word kernels: at most `limit` accumulators of sixteen lanes.

    Codes of several bits have an accumulator per pair of planes, and load a weight for every plane of a pixel. Where
    few accumulators are allowed, an addition hides behind the expansion of the population count.
    """
    pairs, planes = plane_pairs(problem), problem.x.planes
    need = min(4, limit) / pairs
    tiles = streams(problem, blocks, max(1, limit // pairs))
    return ranked(problem, blocks, [(p, b, _vector_slowdown(p, b, need, 2 / planes)) for p, b in tiles])


def float_tilings(problem: Conv2d, blocks: Blocks, vector_bytes: int, registers: int) -> list[Ranked]:
    """Tiles of float convolutions: accumulators, the weights of one step and the broadcast input stay in registers."""
    per_block, geometry = 64 // vector_bytes, Geometry(problem, blocks)
    tiles = [
        (p, b, _vector_slowdown(p, b, 8 / per_block, _float_reuse(geometry, b)))
        for p, b in streams(problem, blocks, 16)
        if per_block * (p * b + (b if p > 1 else 0)) < registers
    ]
    return ranked(problem, blocks, tiles, shorten=registers <= FEW_REGISTERS)


def _float_reuse(geometry: Geometry, run: int) -> float:
    """Pixels for which the weights of a tile of `run` blocks must be read once; a single pixel reads those of all."""
    weights = geometry.steps * LANES * WORD_BYTES * (geometry.blocks.count if geometry.single else run)
    first, second, third = _FLOAT_REUSE
    return first if weights <= _L1_WEIGHTS else second if weights <= _L2_WEIGHTS else third


def byte_tilings(
    problem: Conv2d,
    blocks: Blocks,
    vector_bytes: int,
    registers: int,
    shared: int = 1,
    parts: int = 1,
    joins: int = 0,
    chain: int = 8,
) -> list[Ranked]:
    """Tiles of convolutions of bytes: accumulators, one side of a step and one operand of the other in registers.

    shared: blocks whose weights lie in the same bytes; tiles hold all of them. parts: registers of an operand; where
    there are several, those of all pixels are held. joins: parts of stored weights that are put to a first one. chain:
    registers of sums that hide the latency of a product and its addition.
    """
    per_block, limit = 64 // vector_bytes, 24
    inputs = int(problem.centred and not problem.by_channel)
    found = streams(problem, blocks, limit)
    if shared > 1:
        found = [(p, b) for p, b in tiles_within(problem, blocks, limit) if b % shared == blocks.count % b == 0]
    tiles = [
        (p, b, _vector_slowdown(p, b, chain / per_block) * (1 + _JOINING * joins / p))
        for p, b in found
        if per_block * p * (b + inputs) + _held(p, b, parts) <= registers or (p, b) == (1, shared)
    ]
    return ranked(problem, blocks, tiles, shorten=registers <= FEW_REGISTERS)


def _held(pixels: int, blocks: int, parts: int) -> int:
    """Registers of operands."""
    return min(pixels, blocks) + 2 if parts == 1 else parts * pixels + 3


def tiles_within(problem: Conv2d, blocks: Blocks, limit: int, most: int = 8) -> list[tuple[int, int]]:
    """All (pixels, blocks) of at most `limit` accumulators of sixteen lanes; pixels of one product of a batch.

    most: blocks.
    """
    rows = walk(problem)[1] // (1 if problem.second is None else problem.second.n)
    geometry = Geometry(problem, blocks)
    usable = [b for b in range(1, min(blocks.count, most) + 1) if b == 1 or geometry.uniform(b)]
    return [
        (p, b)
        for b in usable
        for p in range(1, min(rows, MOST_PIXELS) + 1)
        if p * b <= limit and (problem.second is None or rows % p == 0)
    ]


def streams(problem: Conv2d, blocks: Blocks, limit: int) -> list[tuple[int, int]]:
    """Those of `tiles_within` whose runs lie evenly in the weights."""
    side_by_side = Geometry(problem, blocks).interleave
    return [(p, b) for p, b in tiles_within(problem, blocks, limit) if side_by_side % b == 0 or b % side_by_side == 0]


def _vector_slowdown(pixels: int, blocks: int, need: float, reuse: float = 2) -> float:
    """Latency that `need` accumulators hide, weights loaded for fewer than `reuse` pixels, and loads per product."""
    return max(1.0, need / (pixels * blocks), reuse / pixels) * (1 + 0.05 / pixels + 0.03 / blocks)


def ranked(
    problem: Conv2d, blocks: Blocks, tiles: list[tuple[int, int, float]], width: int = 0, shorten: bool = False
) -> list[Ranked]:
    """The best tiles, with the slowdown of overlapping tiles on top.

    shorten: whether the last tile of a row may be short, which is code of its own.
    """
    row, count = walk(problem)[1], blocks.count
    slowdowns = {(p, b): s for p, b, s in tiles}
    found = []
    for p, b, s in tiles:
        overlapped, rest = s * -(-row // p) * p, row % p
        cut = s * (row - rest) + slowdowns.get((rest, b), s) * rest
        short = shorten and cut * _WORTH < overlapped
        tiling = replace(_tiling(problem, blocks, p, b), short=short)
        found.append(Ranked(tiling, (cut if short else overlapped) / row * -(-count // b) * b / count, width))
    return best_first(found)


def best_first(found: list[Ranked]) -> list[Ranked]:
    """The best tiles, fastest first."""
    return sorted(found, key=lambda one: one.slowdown)[:_KEPT]


def unit_weights(problem: Conv2d) -> float:
    """Bytes of weights of a channel for a unit of input."""
    if problem.x.in_tables:
        return len(weight_planes(problem.weights).factors) / (8 * len(problem.x.digits))
    return 1 if problem.by_channel else WORD_BYTES


def _tiling(problem: Conv2d, blocks: Blocks, pixels: int, run: int) -> Tiling:
    """Order and size of the work items around a register tile."""
    weights = Geometry(problem, blocks).steps * blocks.count * LANES * unit_weights(problem)
    height, width = walk(problem)
    rereads_rows, tiles = problem.x.nbytes * -(-blocks.count // run), -(-width // pixels)
    channel_major = weights > _L1_WEIGHTS and rereads_rows < weights * problem.x.n * problem.out_hw[0]
    return Tiling(pixels, run, tiles if problem.x.n * height >= 8 else min(tiles, 8), channel_major)
