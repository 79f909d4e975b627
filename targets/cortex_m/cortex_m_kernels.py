"""The table of Cortex-M's kernel families."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.targets.cortex_m.byte_dots import DualProducts
from qcompiler.targets.cortex_m.few_mismatches import FewMismatches
from qcompiler.targets.cortex_m.machine import Isa
from qcompiler.targets.offers import Family
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.vector.byte_sums import ByteDot
from qcompiler.targets.vector.common_kernels import (
    COMMON_KERNELS,
    binary_blocks,
    byte_convolutions,
    counting,
    rounded_products,
    word_convolutions,
)
from qcompiler.targets.vector.direct import Geometry
from qcompiler.targets.vector.estimates import compute_ns
from qcompiler.targets.vector.single_bytes import SingleBytes
from qcompiler.targets.vector.tilings import word_tilings

# channels whose sums stay in registers
_AT_ONCE = 4


def few(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Binary convolutions of a few channels at a time."""
    blocks = binary_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not Geometry(problem, blocks).uniform(1):
        return
    for r in word_tilings(problem, blocks, isa.counts):
        ns = compute_ns(isa, problem, blocks, isa.binary_rate, r)
        yield counting(problem, blocks, r.tiling, ns, FewMismatches(4, 4) if isa.vectors else FewMismatches(4, 1))


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
    return SingleBytes() if isa.vectors else DualProducts()
