"""Loads of sixteen bytes at a register that holds an address and one that holds an offset, which TIR cannot ask for.

In the model of Cortex-A55 they take as long as sdot or tbl, so that neither waits for the other; a load with its offset
in the instruction is done a cycle sooner, and waits for what was begun before it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.emit import Expr

# LLVM does not see what the offset is, and keeps it in a register outside of loops
_DEFINITION = """
define linkonce_odr hidden i64 @hide_offset(i64 %offset) alwaysinline nounwind {
  %hidden = call i64 asm "", "=r,0"(i64 %offset) memory(none) nounwind willreturn
  ret i64 %hidden
}

define linkonce_odr hidden <4 x i32> @load_indexed(ptr %at, i64 %offset) alwaysinline nounwind {
  %place = getelementptr inbounds i8, ptr %at, i64 %offset
  %words = load <4 x i32>, ptr %place, align 4
  ret <4 x i32> %words
}
"""


def indexed_loads() -> AbstractContextManager[None]:
    """The statements within may use `hidden_offset` and `load_indexed`."""
    frame: AbstractContextManager[None] = T.attr(T.int32(0), "pragma_import_llvm", _DEFINITION)
    return frame


def hidden_offset(offset: int) -> Expr:
    """A number of bytes in a register; outside of a loop if it is asked for before anything is pinned there."""
    return T.bind(T.call_extern("int64", "hide_offset", T.int64(offset)))


def load_indexed(address: Expr, offset: Expr) -> Expr:
    """uint32x4 that lie a hidden offset behind an address; loaded here if it is stored, else where it is used."""
    return T.call_pure_extern("uint32x4", "load_indexed", address, offset)
