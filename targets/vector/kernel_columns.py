"""Which pixels of a register tile see which kernel columns inside the image.

A tile at either end of a row need not visit the taps that fall into zero padding. Only its position decides which ones,
so every column is one loop over the channels per distinct set of pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.emit import Expr

Pixels = tuple[int, ...]


def sees(problem: Conv2d, column: int, starts: list[int], count: int) -> list[tuple[Pixels, list[int]]]:
    """Sets of pixels of a tile of `count` whose tap of a kernel column is inside, each with the tiles it applies to.

    starts: first output column of every tile. The set that most tiles have comes last.
    """
    found: dict[Pixels, list[int]] = {}
    for start in starts:
        first = start * problem.strides[1] + column * problem.dilations[1] - problem.pads[1]
        inside = tuple(p for p in range(count) if 0 <= first + p * problem.strides[1] < problem.x.w)
        found.setdefault(inside, []).append(start)
    return sorted(found.items(), key=lambda case: len(case[1]))


def choose(x0: Expr, cases: list[tuple[Pixels, list[int]]], body: Callable[[Pixels], None]) -> None:
    """Run `body` on the pixels that apply to the tile at x0."""
    (pixels, starts), *rest = cases
    if not rest:
        body(pixels)
        return
    with T.If(reduce(T.Or, [x0 == start for start in starts])):
        with T.Then():
            body(pixels)
        with T.Else():
            choose(x0, rest, body)
