"""Products of bytes one by one, for processors whose instructions multiply nothing smaller than a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import Expr, splat

_BYTES = 4


@dataclass(frozen=True)
class SingleBytes:
    """Four products of 32 bits."""

    name: ClassVar[str] = "mul"
    width: ClassVar[int] = 4
    parts: ClassVar[int] = _BYTES
    chain: ClassVar[int] = 8
    speed: ClassVar[float] = 1
    signed: ClassVar[bool] = False

    def inputs(self, words: Expr) -> tuple[Expr, ...]:
        """Each byte, zero-extended."""
        mask = splat(T.uint32(0xFF), self.width)
        return tuple(self._signed(T.shift_right(words, self._bits(byte)) & mask) for byte in range(_BYTES))

    def weights(self, words: Expr) -> tuple[Expr, ...]:
        """Each byte, sign-extended."""
        highest = [T.shift_left(words, self._bits(_BYTES - 1 - byte)) for byte in range(_BYTES)]
        return tuple(T.shift_right(self._signed(word), splat(T.int32(24), self.width)) for word in highest)

    def add(self, total: Expr, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> Expr:
        """Four products and sums."""
        for x, w in zip(inputs, weights, strict=True):
            total = total + x * w
        return total

    def _bits(self, byte: int) -> Expr:
        return splat(T.uint32(8 * byte), self.width)

    def _signed(self, words: Expr) -> Expr:
        return T.reinterpret(f"int32x{self.width}", words)
