"""The table of WebAssembly's kernel families."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.targets.offers import Family
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.target import Kernel
from qcompiler.targets.vector.byte_mismatches import ByteMismatches
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
from qcompiler.targets.wasm.byte_dots import DOT
from qcompiler.targets.wasm.machine import Isa

# steps per jump, which leave an engine's sixteen registers for the operands
_UNROLL = 2


def byte_counts(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Binary convolutions that count bits of bytes, which vectors do; LLVM takes words apart for it."""
    blocks = binary_blocks(problem)
    if not isinstance(problem, Conv2d) or blocks is None or not isa.simd or not Geometry(problem, blocks).uniform(1):
        return
    for r in word_tilings(problem, blocks, isa.counts):
        ns = compute_ns(isa, problem, blocks, isa.binary_rate, r)
        yield counting(problem, blocks, r.tiling, ns, ByteMismatches(_UNROLL, isa.widen_counts))


def words(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Binary convolutions by words, where bytes are not counted."""
    if next(byte_counts(isa, problem), None) is None:
        yield from word_convolutions(isa, problem)


def dots(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Convolutions of codes in bytes."""
    if isinstance(problem, Conv2d) and problem.x.in_bytes:
        yield from byte_convolutions(isa, problem, DOT if isa.simd else SingleBytes())


def rounded(isa: Isa, problem: Problem) -> Iterator[Kernel]:
    """Products of floats that are rounded in blocks."""
    yield from rounded_products(isa, problem, DOT if isa.simd else SingleBytes(), 255)


KERNELS: tuple[Family[Isa], ...] = (*COMMON_KERNELS, byte_counts, words, dots, rounded)
