"""Products of bytes on x86: vpdpbusd, or vpmaddwd on two halves of bytes, or vpmaddubsw where that cannot saturate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import Expr, splat

# by lanes of 32 bits
_MADD_WORDS = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"}
_MADD_BYTES = {16: "llvm.x86.avx512.pmaddubs.w.512", 8: "llvm.x86.avx2.pmadd.ub.sw"}


@dataclass(frozen=True)
class Vnni:
    """AVX-512 VNNI: four products and their sum in one instruction, without saturation."""

    name: ClassVar[str] = "vnni"
    width: ClassVar[int] = 16
    parts: ClassVar[int] = 1
    signed: ClassVar[bool] = False

    def inputs(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes."""
        return (T.reinterpret("uint8x64", words),)

    def weights(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes."""
        return (T.reinterpret("uint8x64", words),)

    def add(self, total: Expr, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> Expr:
        """One instruction."""
        return T.call_llvm_pure_intrin("int32x16", "llvm.x86.avx512.vpdpbusd.512", total, *inputs, *weights)


@dataclass(frozen=True)
class MultiplyWords:
    """Bytes 0 and 2 of every word, then bytes 1 and 3, as 16-bit integers: never saturates."""

    width: int
    name: ClassVar[str] = "pmaddwd"
    parts: ClassVar[int] = 2
    signed: ClassVar[bool] = False

    def inputs(self, words: Expr) -> tuple[Expr, ...]:
        """Even and odd bytes, zero-extended."""
        mask = splat(T.uint32(0x00FF00FF), self.width)
        odd = T.shift_right(words, splat(T.uint32(8), self.width)) & mask
        return self._halves(words & mask), self._halves(odd)

    def weights(self, words: Expr) -> tuple[Expr, ...]:
        """Even and odd bytes, sign-extended."""
        halves, eight = self._halves(words), splat(T.int16(8), 2 * self.width)
        return T.shift_right(T.shift_left(halves, eight), eight), T.shift_right(halves, eight)

    def add(self, total: Expr, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> Expr:
        """Two instructions and two sums."""
        dtype, name = f"int32x{self.width}", _MADD_WORDS[self.width]
        for x, w in zip(inputs, weights, strict=True):
            total = total + T.call_llvm_pure_intrin(dtype, name, x, w)
        return total

    def _halves(self, words: Expr) -> Expr:
        return T.reinterpret(f"int16x{2 * self.width}", words)


@dataclass(frozen=True)
class MultiplyBytes:
    """Sums of two products in 16 bits, which must hold them, then of two of those."""

    width: int
    name: ClassVar[str] = "pmaddubsw"
    parts: ClassVar[int] = 1
    signed: ClassVar[bool] = False

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
