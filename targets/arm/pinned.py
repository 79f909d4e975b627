"""Loads of four registers, and an order of instructions that LLVM keeps: neither can be asked for in TIR.

A chain of empty pieces of assembly keeps the order. Each takes a value and gives it back, emits nothing, and lets no
memory access pass, so that what is pinned before a load is computed before it, and what uses it comes after.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import Expr, lanes, temporary, write

# of a register of 128 bits
_WORDS = 4
_FOUR = ", ".join(["<4 x i32>"] * 4)
_LOAD = f"""
declare {{{_FOUR}}} @llvm.aarch64.neon.ld1x4.v4i32.p0(ptr)

define linkonce_odr hidden <16 x i32> @load_four(ptr %at) alwaysinline nounwind {{
  %four = call {{{_FOUR}}} @llvm.aarch64.neon.ld1x4.v4i32.p0(ptr %at)
  %a = extractvalue {{{_FOUR}}} %four, 0
  %b = extractvalue {{{_FOUR}}} %four, 1
  %c = extractvalue {{{_FOUR}}} %four, 2
  %d = extractvalue {{{_FOUR}}} %four, 3
  %ab = shufflevector <4 x i32> %a, <4 x i32> %b, <8 x i32> <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %cd = shufflevector <4 x i32> %c, <4 x i32> %d, <8 x i32> <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %abcd = shufflevector <8 x i32> %ab, <8 x i32> %cd, <16 x i32> <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6,
    i32 7, i32 8, i32 9, i32 10, i32 11, i32 12, i32 13, i32 14, i32 15>
  ret <16 x i32> %abcd
}}
"""
_PINS = """
define linkonce_odr hidden <4 x i32> @pin_register(<4 x i32> %words) alwaysinline nounwind {
  %same = call <4 x i32> asm sideeffect "", "=w,0"(<4 x i32> %words)
  ret <4 x i32> %same
}

define linkonce_odr hidden ptr @pin_address(ptr %at) alwaysinline nounwind {
  %same = call ptr asm sideeffect "", "=r,0"(ptr %at)
  ret ptr %same
}
"""


def pinned_order() -> AbstractContextManager[None]:
    """The statements within may pin values."""
    frame: AbstractContextManager[None] = T.attr(T.int32(0), "pragma_import_llvm", _PINS)
    return frame


def fourfold_loads() -> AbstractContextManager[None]:
    """The statements within may use `load_four`."""
    frame: AbstractContextManager[None] = T.attr(T.int32(0), "pragma_import_llvm", _LOAD)
    return frame


def pinned_address(words: Expr, at: Expr) -> Expr:
    """The address of words[at], computed before what follows."""
    # calls with effects are not moved into their uses, which would be computed twice
    return T.bind(T.call_extern("handle", "pin_address", words.access_ptr("r", offset=at)))


class Register:
    """A vector of sixteen bytes that can be pinned."""

    def __init__(self, value: Expr) -> None:
        self._slot = temporary("uint32", _WORDS)
        write(self._slot, T.reinterpret("uint32x4", value), lanes(0, _WORDS))

    @property
    def words(self) -> Expr:
        """uint32x4: the value."""
        return self._slot[lanes(0, _WORDS)]

    @property
    def bytes(self) -> Expr:
        """uint8x16: the value."""
        return T.reinterpret("uint8x16", self.words)

    def pin(self) -> None:
        """Compute the value before what follows."""
        write(self._slot, T.call_pure_extern("uint32x4", "pin_register", self.words), lanes(0, _WORDS))


def pin(registers: Sequence[Register]) -> None:
    """Compute all values before what follows."""
    for register in registers:
        register.pin()


def load_four(address: Expr) -> list[Register]:
    """Four registers that lie side by side, by one instruction."""
    words = T.bind(T.call_pure_extern("uint32x16", "load_four", address))
    return [Register(T.Shuffle([words], list(range(i, i + _WORDS)))) for i in range(0, 4 * _WORDS, _WORDS)]


def pinned(dtype: str, value: Expr) -> Expr:
    """A value of 128 bits that is computed before what follows, if it is stored: other values are made where used."""
    return T.reinterpret(dtype, T.call_pure_extern("uint32x4", "pin_register", T.reinterpret("uint32x4", value)))
