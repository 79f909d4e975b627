"""Products of bytes on x86: vpdpbusd, or vpmaddubsw where that cannot saturate, or vpmaddwd on two halves of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import LANES, Expr, lanes, splat, temporary, write
from qcompiler.targets.vector.multiply_words import MultiplyWords

MADD_WORDS = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"}
"""Sums of two products of 16 bits, by lanes of 32 bits."""

# the same of bytes
_MADD_BYTES = {16: "llvm.x86.avx512.pmaddubs.w.512", 8: "llvm.x86.avx2.pmadd.ub.sw"}
# of sixteen lanes of 32 bits: two for each
_PAIRS = 2 * LANES
# of vpmaddubsw beside vpmaddwd where no sum of two products is widened, and what widening adds; as measured
_MOST_SPEED, _WIDENING = 1.75, 1 / 6
_DOTS = {16: "llvm.x86.avx512.vpdpbusd.512", 8: "llvm.x86.avx512.vpdpbusd.256"}


@dataclass(frozen=True)
class Vnni:
    """VNNI, of AVX-512 or of AVX: four products and their sum in one instruction, without saturation."""

    width: int = 16
    name: ClassVar[str] = "vnni"
    parts: ClassVar[int] = 1
    signed: ClassVar[bool] = False
    speed: ClassVar[float] = 1

    @property
    def chain(self) -> int:
        """A latency of four cycles, at one of 512 bits or two of 256 in a cycle."""
        return 64 // self.width

    def inputs(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes."""
        return (T.reinterpret(f"uint8x{4 * self.width}", words),)

    def weights(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes."""
        return (T.reinterpret(f"uint8x{4 * self.width}", words),)

    def add(self, total: Expr, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> Expr:
        """One instruction."""
        return T.call_llvm_pure_intrin(f"int32x{self.width}", _DOTS[self.width], total, *inputs, *weights)


@dataclass(frozen=True)
class MultiplyBytes:
    """Sums of two products in 16 bits, which must hold them, then of two of those.

    held: how many sums of two products 16 bits hold the sum of.
    """

    width: int
    held: int = 1
    name: ClassVar[str] = "pmaddubsw"
    parts: ClassVar[int] = 1
    signed: ClassVar[bool] = False
    # only the last of three instructions waits for the sum before it
    chain: ClassVar[int] = 1

    @property
    def speed(self) -> float:
        """The more sums 16 bits hold, the fewer are added up in 32."""
        return _MOST_SPEED * self.held / (self.held + _WIDENING)

    def inputs(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes."""
        return (T.reinterpret(f"uint8x{4 * self.width}", words),)

    def weights(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes."""
        return (T.reinterpret(f"uint8x{4 * self.width}", words),)

    def add(self, total: Expr, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> Expr:
        """Two instructions and a sum."""
        return total + self.widened(self.pairs(inputs, weights))

    def pairs(self, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> Expr:
        """int16 lanes, twice as many: sums of two products."""
        return T.call_llvm_pure_intrin(f"int16x{2 * self.width}", _MADD_BYTES[self.width], *inputs, *weights)

    def multiply(self, total: Expr, first: int, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> None:
        """Add sums of two products to an array int16 [32] of those of sixteen lanes, for the lanes from `first` on."""
        here = lanes(2 * first, 2 * self.width)
        write(total, total[here] + self.pairs(inputs, weights), here)

    def settle(self, total: Expr, pairs: Expr) -> None:
        """Add an array of `multiply` to sixteen lanes of 32 bits."""
        for first in range(0, LANES, self.width):
            here = lanes(first, self.width)
            write(total, total[here] + self.widened(pairs[lanes(2 * first, 2 * self.width)]), here)

    def widened(self, pairs: Expr) -> Expr:
        """int32 lanes: sums of two of those each."""
        ones = splat(T.int16(1), 2 * self.width)
        return T.call_llvm_pure_intrin(f"int32x{self.width}", MADD_WORDS[self.width], pairs, ones)


def no_pairs() -> Expr:
    """An array int16 [32] of zeros, as `MultiplyBytes.multiply` adds to."""
    found = temporary("int16", _PAIRS)
    write(found, splat(T.int16(0), _PAIRS), lanes(0, _PAIRS))
    return found


def multiply_words(width: int) -> MultiplyWords:
    """By vpmaddwd on vectors of `width` lanes of 32 bits."""
    return MultiplyWords(width, "pmaddwd", MADD_WORDS[width], chain=1)
