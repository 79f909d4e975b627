"""How tiles walk the outputs of an image: row by row, or as if all pixels were one row.

Pixels of an image without halo lie behind one another, row after row, and a kernel of 1x1 without stride reads no
neighbours. Tiles go on then where a row ends, and need not divide it: rows of 7 pixels in tiles of 4 compute 8.
"""

from __future__ import annotations

from dataclasses import replace

from qcompiler.ir.storage import Halo
from qcompiler.targets.problem import Conv2d, Problem, outputs_of, tensors_of


def in_one_row(problem: Problem) -> Problem:
    """The problem, whose pixels are one row where they can be; what has lanes of pixels walks in its own way."""
    if not isinstance(problem, Conv2d) or problem.x.by_pixels or problem.second is not None:
        return problem
    alone = problem.kernel == problem.strides == (1, 1) and not any(problem.pads) and problem.x.halo == Halo()
    return replace(problem, one_row=True) if alone else problem


def walk(problem: Conv2d) -> tuple[int, int]:
    """Rows of an image and pixels of a row, as tiles walk them."""
    oh, ow = problem.out_hw
    return (1, oh * ow) if problem.one_row else (oh, ow)


def ends_rows(problem: Conv2d) -> bool:
    """Whether an output's place must be taken apart: its row and column matter where a halo lies between rows."""
    return problem.one_row and any(b.halo != Halo() for b in (*outputs_of(problem), *tensors_of(problem)))
