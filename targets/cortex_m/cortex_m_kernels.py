"""The table of Cortex-M's kernel families: those of all processors, by words."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.targets.cortex_m.machine import Isa
from qcompiler.targets.offers import Family
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.vector.common_kernels import (
    COMMON_KERNELS,
    byte_convolutions,
    rounded_products,
    word_convolutions,
)
from qcompiler.targets.vector.single_bytes import SingleBytes


def dots(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes in bytes."""
    if isinstance(problem, Conv2d) and problem.x.in_bytes:
        yield from byte_convolutions(isa, problem, SingleBytes())


def rounded(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Products of floats that are rounded in blocks."""
    yield from rounded_products(isa, problem, SingleBytes(), 255)


KERNELS: tuple[Family[Isa], ...] = (*COMMON_KERNELS, word_convolutions, dots, rounded)
