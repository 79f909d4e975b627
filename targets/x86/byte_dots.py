"""Products of bytes on x86: vpdpbusd, or vpmaddubsw where that cannot saturate, or vpmaddwd on two halves of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import Expr, splat
from qcompiler.targets.vector.multiply_words import MultiplyWords

# by lanes of 32 bits
_MADD_WORDS = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"}
_MADD_BYTES = {16: "llvm.x86.avx512.pmaddubs.w.512", 8: "llvm.x86.avx2.pmadd.ub.sw"}
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
    """Sums of two products in 16 bits, which must hold them, then of two of those."""

    width: int
    name: ClassVar[str] = "pmaddubsw"
    parts: ClassVar[int] = 1
    signed: ClassVar[bool] = False
    # only the last of three instructions waits for the sum before it
    chain: ClassVar[int] = 1
    # beside vpmaddwd, as measured on Zen 4
    speed: ClassVar[float] = 1.5

    def inputs(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes."""
        return (T.reinterpret(f"uint8x{4 * self.width}", words),)

    def weights(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes."""
        return (T.reinterpret(f"uint8x{4 * self.width}", words),)

    def add(self, total: Expr, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> Expr:
        """Two instructions and a sum."""
        ones = splat(T.int16(1), 2 * self.width)
        pairs = T.call_llvm_pure_intrin(f"int16x{2 * self.width}", _MADD_BYTES[self.width], *inputs, *weights)
        return total + T.call_llvm_pure_intrin(f"int32x{self.width}", _MADD_WORDS[self.width], pairs, ones)


def multiply_words(width: int) -> MultiplyWords:
    """By vpmaddwd on vectors of `width` lanes of 32 bits."""
    return MultiplyWords(width, "pmaddwd", _MADD_WORDS[width], chain=1)
