"""Register tiles of the lookup kernels."""

from __future__ import annotations

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.emit import LANES
from qcompiler.targets.vector.tilings import Ranked, best_first, ranked, tiles_within
from qcompiler.targets.x86.machine import Isa

# cost of a lookup by vector size, as measured: the shuffle itself, finding the table (shared by the vectors of a run)
# and splitting weights into nibbles (shared by the pixels)
_LOOKUP_COSTS = {16: (0.6, 0.7, 0.4), 32: (0.57, 0.68, 0.38), 64: (0.6, 0.3, 0.5)}


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
