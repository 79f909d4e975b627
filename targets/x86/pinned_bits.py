"""Bits of inputs that LLVM takes apart where they are used, and not all of them beforehand.

In straight code it would shift all inputs of many lookups first, and keep them on the stack. A value passes through an
empty piece of assembly, which emits nothing and lets no memory access pass: what is made of it is computed behind it,
and what is loaded there is loaded before the next one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import Expr

_DEFINITION = """
define linkonce_odr hidden i64 @pin_bits(i64 %bits) alwaysinline nounwind {
  %same = call i64 asm sideeffect "", "=r,0,~{memory}"(i64 %bits)
  ret i64 %same
}
"""


def in_order() -> AbstractContextManager[None]:
    """The statements within may use `pinned`."""
    frame: AbstractContextManager[None] = T.attr(T.int32(0), "pragma_import_llvm", _DEFINITION)
    return frame


def pinned(bits: Expr) -> Expr:
    """uint64: the same bits, not looked at before what comes first in the source."""
    return T.bind(T.call_extern("uint64", "pin_bits", bits))
