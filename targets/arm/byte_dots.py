"""Products of bytes on ARM: sdot where there is one, else products of 16 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.pinned import pinned, pinned_order
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.byte_sums import ByteSums, codes_of
from qcompiler.targets.vector.emit import Expr
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile


@dataclass(frozen=True)
class SignedDot:
    """Dotprod: four products and their sum in one instruction."""

    name: ClassVar[str] = "sdot"
    width: ClassVar[int] = 4
    parts: ClassVar[int] = 1
    chain: ClassVar[int] = 8
    speed: ClassVar[float] = 1
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
class WidenedPairs:
    """Products of 16 bits, and sums of two neighbours in 32: bytes 0 and 1 of four words, then bytes 2 and 3.

    together: whether 16 bits hold the sum of two products, so that those of both halves are added up there. wide:
    whether this is 64-bit code. ordered: whether sums are made one after the other, within `pinned_order`.
    """

    together: bool
    wide: bool
    ordered: bool = False

    width: ClassVar[int] = 4
    parts: ClassVar[int] = 2
    chain: ClassVar[int] = 8
    speed: ClassVar[float] = 1
    signed: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The instruction that makes products."""
        return "smlal" if self.together else "smull"

    def inputs(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes 0 and 1, and bytes 2 and 3, sign-extended where they are multiplied."""
        return self._halves(words)

    def weights(self, words: Expr) -> tuple[Expr, ...]:
        """Bytes 0 and 1, and bytes 2 and 3."""
        return self._halves(words)

    def add(self, total: Expr, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> Expr:
        """Three instructions, or four."""
        low, high = (x * w for x, w in zip(inputs, weights, strict=True))
        for products in [low + high] if self.together else [low, high]:
            total = self._added(total, products)
        return pinned("int32x4", total) if self.ordered else total

    def _halves(self, words: Expr) -> tuple[Expr, ...]:
        pairs = T.bind(T.reinterpret(f"int16x{2 * self.width}", words))
        halves = [T.Shuffle([pairs], list(range(first, 2 * self.width, 2))) for first in range(2)]
        return tuple(T.Cast("int16x8", T.reinterpret("int8x8", half)) for half in halves)

    def _added(self, total: Expr, products: Expr) -> Expr:
        if self.wide:
            return total + T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp", products)
        return T.call_llvm_pure_intrin("int32x4", "llvm.arm.neon.vpadals", total, products)


@dataclass(frozen=True)
class OrderedSums(ByteSums):
    """`ByteSums` by `WidenedPairs` that are ordered: LLVM would unpack more weights ahead than there are registers."""

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Four products in every lane."""
        with pinned_order():
            super().step(tile, sums, at, weight)


def largest_input(problem: Conv2d) -> int:
    """The largest absolute value of inputs as signed bytes."""
    levels = codes_of(problem).levels
    return levels - 1 if levels <= 128 else 128
