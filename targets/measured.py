"""What was measured of kernels: how much longer each family takes, on each tile, than its estimate says.

A table is JSON: {"machine": name, "ratios": {variant: {kind of problem: {family: {tile: {size: ratio}}}}}}. Estimates
know the arithmetic of a problem, ratios the kernel, and what caches do to it where sums are long; so a ratio holds for
sizes that nobody measured. `python -m benchmarks.costs` writes it.

Of a family each tile is measured on few sizes, and not all on the same ones. So a logarithm of a ratio is taken apart
into what all tiles have in common at a size, what a tile adds at all sizes, and the rest (`Family`): a tile that was
measured on one size alone is not held to be better because that size was easy.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from math import exp, hypot, log, log2
from typing import TypeAlias

import numpy as np

from qcompiler.targets.problem import Conv2d, Problem

MEASURED = "measured.json"
"""The table that comes with the package, in this folder."""

FEW_PIXELS = 16
"""Below that many, weights are read for few products."""

# how much what a tile adds is held to be nothing, in measurements; over how many doublings of a size it fades; how far
# another walk is, in doublings of a tile; and the least distance of two tiles; chosen
_DOUBT, _FADING, _OTHER_WALK, _LEAST = 0.25, 4.0, 1.0, 0.05
_TILE = re.compile(r"(?P<form>\w*?)p(?P<pixels>\d+)b(?P<blocks>\d+)(?P<walk>\w*)")

Tiles: TypeAlias = Mapping[str, Mapping[str, float]]
"""Ratios of a family by tile and size, which is a decimal number."""

Table: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Tiles]]]
"""By variant, kind of problem, and family."""

_Curve: TypeAlias = Sequence[tuple[float, float]]
# sizes, ascending, and logarithms


def kind_of(problem: Problem) -> str:
    """The kinds of problems whose ratios differ: "rows" of few pixels, "channels" each alone, a "point", a "window"."""
    if not isinstance(problem, Conv2d):
        return ""
    if problem.pixels < FEW_PIXELS:
        return "rows"
    if 1 < problem.groups == problem.x.c:
        return "channels"
    return "point" if problem.kernel == (1, 1) else "window"


def size_of(problem: Conv2d) -> float:
    """The logarithm of how many products a sum has; of rows and single channels that of all weights.

    Those are what caches hold or do not.
    """
    products = problem.kernel[0] * problem.kernel[1] * max(1, problem.x.c // problem.groups)
    return log2(products if kind_of(problem) in ("window", "point") else products * problem.out_channels)


def in_table(size: float) -> str:
    """A size as the table writes it."""
    return f"{size:.1f}"


def family_and_tile(name: str) -> tuple[str, str]:
    """The parts of the name of a kernel, as "bytes_conv2d_vnni_w4" and "p4b2c" of "bytes_conv2d_vnni_w4_p4b2s7c"."""
    family, _, tiling = name.rpartition("_")
    tile, _, walk = tiling.partition("s")
    return family, tile + walk[-1:]


@dataclass(frozen=True)
class Family:
    """The logarithms of a family's ratios: what sizes have, what tiles add, and what is left of each measurement."""

    sizes: _Curve
    tiles: Mapping[str, float]
    rest: Mapping[str, _Curve]
    _guessed: dict[tuple[str, float], float] = field(init=False, default_factory=dict)

    def ratio(self, tile: str, size: float) -> float:
        """Measured over estimated time.

        Between sizes that were measured it changes evenly; beyond those of a tile the rest fades over one doubling, and
        what the tile adds over four. A tile that was not measured is like those near it.
        """
        common = _at(self.sizes, size)
        if tile not in self.tiles:
            return exp(common + self._near(tile, size))
        rest = _at(self.rest[tile], size) * max(0.0, 1 - self._beyond(tile, size))
        return exp(common + self._added(tile, size) + rest)

    def _beyond(self, tile: str, size: float) -> float:
        """How far a size is from those on which a tile was measured, in doublings."""
        sizes = self.rest[tile]
        return max(0.0, sizes[0][0] - size, size - sizes[-1][0])

    def _added(self, tile: str, size: float) -> float:
        """What a tile adds that was measured."""
        return self.tiles[tile] * max(0.0, 1 - self._beyond(tile, size) / _FADING)

    def _near(self, tile: str, size: float) -> float:
        """What a tile adds that was not measured."""
        if (tile, size) not in self._guessed:
            weights = {other: (_distance(tile, other) + _LEAST) ** -2 for other in self.tiles}
            total = sum(weight * self._added(other, size) for other, weight in weights.items())
            self._guessed[tile, size] = total / sum(weights.values())
        return self._guessed[tile, size]


def family_of(tiles: Tiles) -> Family:
    """Take measurements apart, by least squares."""
    cells = [(tile, float(size), log(value)) for tile, sizes in tiles.items() for size, value in sizes.items()]
    sizes, names = sorted({size for _, size, _ in cells}), sorted(tiles)
    equations = np.zeros((len(cells) + len(names), len(sizes) + len(names)))
    values = np.zeros(len(equations))
    for row, (tile, size, value) in enumerate(cells):
        equations[row, [sizes.index(size), len(sizes) + names.index(tile)]] = 1
        values[row] = value
    for number in range(len(names)):
        equations[len(cells) + number, len(sizes) + number] = _DOUBT**0.5
    found = np.linalg.lstsq(equations, values, rcond=None)[0].tolist()
    common = dict(zip(sizes, found, strict=False))
    added = dict(zip(names, found[len(sizes) :], strict=True))
    rest: dict[str, list[tuple[float, float]]] = {tile: [] for tile in names}
    for tile, size, value in sorted(cells):
        rest[tile].append((size, value - common[size] - added[tile]))
    return Family(sorted(common.items()), added, rest)


def _at(curve: _Curve, size: float) -> float:
    """The value of a curve, which is even beyond its ends."""
    after = bisect_left(curve, (size,))
    if after in (0, len(curve)):
        return curve[min(after, len(curve) - 1)][1]
    (left, low), (right, high) = curve[after - 1 : after + 1]
    return low + (high - low) * (size - left) / (right - left)


def _distance(one: str, other: str) -> float:
    """How far tiles are from each other, in doublings."""
    here, there = _TILE.fullmatch(one), _TILE.fullmatch(other)
    if here is None or there is None:
        return _OTHER_WALK
    pixels, blocks = (log2(int(here[part]) / int(there[part])) for part in ("pixels", "blocks"))
    return hypot(pixels, blocks) + _OTHER_WALK * (here["form"] != there["form"] or here["walk"] != there["walk"])


class Ratios:
    """A table of measurements, by which estimates are corrected."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._families: dict[tuple[str, str, str], Family | None] = {}

    def ratio(self, variant: str, problem: Problem, kernel: str) -> float:
        """Measured over estimated time of a kernel; 1 where nothing of its family was measured."""
        if not isinstance(problem, Conv2d):
            return 1.0
        name, tile = family_and_tile(kernel)
        family = self._family(variant, kind_of(problem), name)
        # as it was rounded when it was measured, so that a layer that was measured is told exactly that
        return 1.0 if family is None else family.ratio(tile, float(in_table(size_of(problem))))

    def _family(self, variant: str, kind: str, name: str) -> Family | None:
        key = variant, kind, name
        if key not in self._families:
            tiles = self.table.get(variant, {}).get(kind, {}).get(name)
            self._families[key] = family_of(tiles) if tiles else None
        return self._families[key]


@lru_cache(maxsize=1)
def shipped() -> Ratios:
    """The table that comes with the package."""
    text = resources.files(__package__).joinpath(MEASURED).read_text(encoding="utf-8")
    return Ratios(json.loads(text)["ratios"])
