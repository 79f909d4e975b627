"""Products of bytes as products of 16 bits, by an instruction that adds two neighbouring products in 32 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import Expr, splat


@dataclass(frozen=True)
class MultiplyWords:
    """Bytes 0 and 2 of every word, then bytes 1 and 3, as 16-bit integers: never saturates.

    instruction: the LLVM intrinsic that adds the products of two neighbours of 16 bits; name: what people call it;
    chain: see `ByteDot`, where additions take one cycle and products more than that they take none.
    """

    width: int
    name: str
    instruction: str
    chain: int = 8
    speed: ClassVar[float] = 1
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
        for x, w in zip(inputs, weights, strict=True):
            total = total + T.call_llvm_pure_intrin(f"int32x{self.width}", self.instruction, x, w)
        return total

    def _halves(self, words: Expr) -> Expr:
        return T.reinterpret(f"int16x{2 * self.width}", words)
