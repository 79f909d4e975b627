"""Products of bytes by the instructions for signals: two products of 16 bits and their sum in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import Expr

_BYTE = 8


@dataclass(frozen=True)
class DualProducts:
    """Bytes 0 and 2 of a word, then bytes 1 and 3, as halves of words."""

    name: ClassVar[str] = "smlad"
    width: ClassVar[int] = 1
    parts: ClassVar[int] = 2
    chain: ClassVar[int] = 8
    speed: ClassVar[float] = 1
    signed: ClassVar[bool] = False

    def inputs(self, words: Expr) -> tuple[Expr, ...]:
        """Even and odd bytes, zero-extended."""
        return self._halves(words, "llvm.arm.uxtb16")

    def weights(self, words: Expr) -> tuple[Expr, ...]:
        """Even and odd bytes, sign-extended."""
        return self._halves(words, "llvm.arm.sxtb16")

    def add(self, total: Expr, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> Expr:
        """Two instructions."""
        for x, w in zip(inputs, weights, strict=True):
            total = T.call_llvm_pure_intrin("int32", "llvm.arm.smlad", x, w, total)
        return total

    def _halves(self, words: Expr, extended: str) -> tuple[Expr, ...]:
        word = T.bind(T.reinterpret("int32", words))
        # LLVM folds a rotation into the extension, and no shift
        turned = T.bitwise_or(T.shift_right(words, T.uint32(_BYTE)), T.shift_left(words, T.uint32(32 - _BYTE)))
        odd = T.reinterpret("int32", turned)
        return tuple(T.call_llvm_pure_intrin("int32", extended, each) for each in (word, odd))
