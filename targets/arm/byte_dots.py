"""Products of bytes on ARM: sdot where there is one, else one byte of every word at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.storage import WORD_BYTES
from qcompiler.targets.vector.emit import Expr, splat


@dataclass(frozen=True)
class SignedDot:
    """Dotprod: four products and their sum in one instruction."""

    name: ClassVar[str] = "sdot"
    width: ClassVar[int] = 4
    signed: ClassVar[bool] = True

    def inputs(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes."""
        return (T.reinterpret("int8x16", words),)

    def weights(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes."""
        return (T.reinterpret("int8x16", words),)

    def add(self, total: Expr, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> Expr:
        """One instruction."""
        name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
        return T.call_llvm_pure_intrin("int32x4", name, total, *inputs, *weights)


@dataclass(frozen=True)
class MultiplyAdd:
    """A multiply-add of 32 bits for every byte."""

    name: ClassVar[str] = "mla"
    width: ClassVar[int] = 4
    signed: ClassVar[bool] = False

    def inputs(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes, zero-extended."""
        mask = splat(T.int32(0xFF), self.width)
        return tuple(T.shift_right(self._whole(words), self._bits(8 * byte)) & mask for byte in range(WORD_BYTES))

    def weights(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes, sign-extended."""
        whole, top = self._whole(words), 8 * (WORD_BYTES - 1)
        return tuple(
            T.shift_right(T.shift_left(whole, self._bits(top - 8 * byte)), self._bits(top))
            for byte in range(WORD_BYTES)
        )

    def add(self, total: Expr, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> Expr:
        """Four instructions."""
        for x, w in zip(inputs, weights, strict=True):
            total = total + x * w
        return total

    def _whole(self, words: Expr) -> Expr:
        return T.reinterpret(f"int32x{self.width}", words)

    def _bits(self, count: int) -> Expr:
        return splat(T.int32(count), self.width)
