"""The table of Cortex-M's kernel families."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.targets.cortex_m.byte_dots import DualProducts
from qcompiler.targets.cortex_m.machine import Isa
from qcompiler.targets.offers import Family
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.vector.byte_sums import ByteDot
from qcompiler.targets.vector.common_kernels import (
    COMMON_KERNELS,
    byte_convolutions,
    few_convolutions,
    rounded_products,
    word_convolutions,
)
from qcompiler.targets.vector.few_mismatches import FewMismatches
from qcompiler.targets.vector.single_bytes import SingleBytes


def few(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Binary convolutions of a few channels at a time: nothing counts bits."""
    yield from few_convolutions(isa, problem, FewMismatches(4, 4 if isa.vectors else 1))


def words(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Binary convolutions whose channels read different words."""
    if next(few(isa, problem), None) is None:
        yield from word_convolutions(isa, problem)


def dots(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes in bytes."""
    if isinstance(problem, Conv2d) and problem.x.in_bytes:
        yield from byte_convolutions(isa, problem, _dot(isa))


def rounded(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Products of floats that are rounded in blocks."""
    yield from rounded_products(isa, problem, SingleBytes(), 255)


KERNELS: tuple[Family[Isa], ...] = (*COMMON_KERNELS, few, words, dots, rounded)


def _dot(isa: Isa) -> ByteDot:
    return DualProducts() if isa.signals and not isa.vectors else SingleBytes()
