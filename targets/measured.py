"""What was measured of kernels: how much longer each family takes, on each tile, than its estimate says.

A table is JSON: {"machine": name, "ratios": {variant: {kind of problem: {family: {tile: ratio}}}}}. Estimates know the
size of a problem, ratios the kernel; so a ratio holds for sizes that nobody measured. `python -m benchmarks.costs`
writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from statistics import median
from typing import TypeAlias

from qcompiler.targets.problem import Conv2d, Problem

FEW_PIXELS = 16
"""Below that many, weights are read for few products."""

Ratios: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
"""By variant, kind of problem, family and tile."""


def kind_of(problem: Problem) -> str:
    """The kinds of problems whose ratios differ: "rows" of few pixels, a "point" of each image, a "window"."""
    if not isinstance(problem, Conv2d):
        return ""
    oh, ow = problem.out_hw
    if problem.x.n * oh * ow < FEW_PIXELS:
        return "rows"
    return "point" if problem.kernel == (1, 1) else "window"


def family_and_tile(name: str) -> tuple[str, str]:
    """The parts of the name of a kernel, as "bytes_conv2d_vnni_w4" and "p4b2" of "bytes_conv2d_vnni_w4_p4b2s7c"."""
    family, _, tiling = name.rpartition("_")
    return family, tiling.partition("s")[0]


def ratio(ratios: Ratios, variant: str, problem: Problem, kernel: str) -> float:
    """Measured over estimated time of a kernel; of a tile that was not measured the median of its family's, else 1."""
    family, tile = family_and_tile(kernel)
    tiles = ratios.get(variant, {}).get(kind_of(problem), {}).get(family)
    if not tiles:
        return 1.0
    return tiles[tile] if tile in tiles else median(tiles.values())


@lru_cache(maxsize=1)
def shipped() -> Ratios:
    """The table that comes with the package."""
    text = resources.files(__package__).joinpath("measured.json").read_text(encoding="utf-8")
    ratios: Ratios = json.loads(text)["ratios"]
    return ratios
