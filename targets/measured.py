"""What was measured of kernels: how much longer each family takes, on each tile, than its estimate says.

A table is JSON: {"machine": name, "ratios": {variant: {kind of problem: {family: {tile: {depth: ratio}}}}}}. Estimates
know the size of a problem, ratios the kernel, and what caches do to it where sums are long; so a ratio holds for sizes
that nobody measured. `python -m benchmarks.costs` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from math import log2
from statistics import median
from typing import TypeAlias

from qcompiler.targets.problem import Conv2d, Problem

FEW_PIXELS = 16
"""Below that many, weights are read for few products."""

Ratios: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]]
"""By variant, kind of problem, family, tile and depth."""


def kind_of(problem: Problem) -> str:
    """The kinds of problems whose ratios differ: "rows" of few pixels, a "point" of each image, a "window"."""
    if not isinstance(problem, Conv2d):
        return ""
    oh, ow = problem.out_hw
    if problem.x.n * oh * ow < FEW_PIXELS:
        return "rows"
    return "point" if problem.kernel == (1, 1) else "window"


def depth_of(problem: Conv2d) -> int:
    """The logarithm of how many products a sum has, rounded."""
    return round(log2(problem.kernel[0] * problem.kernel[1] * max(1, problem.x.c // problem.groups)))


def family_and_tile(name: str) -> tuple[str, str]:
    """The parts of the name of a kernel, as "bytes_conv2d_vnni_w4" and "p4b2c" of "bytes_conv2d_vnni_w4_p4b2s7c"."""
    family, _, tiling = name.rpartition("_")
    tile, _, walk = tiling.partition("s")
    return family, tile + walk[-1:]


def ratio(ratios: Ratios, variant: str, problem: Problem, kernel: str) -> float:
    """Measured over estimated time of a kernel, at the nearest depth; 1 where nothing of its family was measured.

    Of a tile that was not measured, the median of all tiles of its family.
    """
    family, tile = family_and_tile(kernel)
    tiles = ratios.get(variant, {}).get(kind_of(problem), {}).get(family)
    if not tiles or not isinstance(problem, Conv2d):
        return 1.0
    if tile not in tiles:
        return median(value for depths in tiles.values() for value in depths.values())
    wanted = depth_of(problem)
    nearest = min(tiles[tile], key=lambda depth: (abs(int(depth) - wanted), int(depth)))
    return tiles[tile][nearest]


@lru_cache(maxsize=1)
def shipped() -> Ratios:
    """The table that comes with the package."""
    text = resources.files(__package__).joinpath("measured.json").read_text(encoding="utf-8")
    ratios: Ratios = json.loads(text)["ratios"]
    return ratios
