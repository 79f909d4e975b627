"""Bits of inputs that LLVM takes apart where they are used, and sums that it adds up in the order of the source.

In straight code it would shift all inputs of many lookups first, or add what they find to each other before it adds
that to sums, and keep the rest on the stack. A value passes through an empty piece of assembly, which emits nothing:
what is made of it is computed behind it. Bits let no memory access pass, so that what is loaded behind them is loaded
before the next ones.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import Expr

_BITS = """
define linkonce_odr hidden i64 @pin_bits(i64 %bits) alwaysinline nounwind {
  %same = call i64 asm sideeffect "", "=r,0,~{memory}"(i64 %bits)
  ret i64 %same
}
"""
_SUMS = """
define linkonce_odr hidden <$ x i8> @pin_sums(<$ x i8> %sums) alwaysinline nounwind {
  %same = call <$ x i8> asm sideeffect "", "=v,0"(<$ x i8> %sums)
  ret <$ x i8> %same
}
"""


def in_order(width: int = 0) -> AbstractContextManager[None]:
    """The statements within may use `pinned`, and `pinned_sums` of `width` lanes."""
    definitions = _BITS + (_SUMS.replace("$", str(width)) if width else "")
    frame: AbstractContextManager[None] = T.attr(T.int32(0), "pragma_import_llvm", definitions)
    return frame


def pinned(bits: Expr) -> Expr:
    """uint64: the same bits, not looked at before what comes first in the source."""
    return T.bind(T.call_extern("uint64", "pin_bits", bits))


def pinned_sums(sums: Expr, width: int) -> Expr:
    """uint8 lanes: the same sums, which nothing is added to before."""
    return T.call_pure_extern(f"uint8x{width}", "pin_sums", sums)
