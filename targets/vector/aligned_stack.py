"""Functions whose stack is aligned for registers that are wider than what a system aligns it for.

LLVM keeps such registers where the stack happens to begin, because it learns too late that some must lie on it. Half of
them, or all, then lie across two lines of a cache: a kernel took 2.3 times as long in one process as in another. An
array of a register's size that is there from the beginning to the end of a function makes it align the stack.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from qcompiler.targets.vector.emit import FIRST, prefetch

_ALIGNED = 16
"""Bytes by which systems align the stack: the x86-64 psABI, 3.2.2."""


def on_aligned_stack(function: Any, register: int) -> Any:
    """A PrimFunc, which ends with its return, on a stack aligned for `register` bytes, a multiple of 4."""
    if register <= _ALIGNED:
        return function
    array = tirx.decl_buffer((1,), f"int32x{register // 4}", "aligned")
    # an instruction that changes nothing, and that the optimiser keeps with what it is about
    used = tirx.Evaluate(prefetch(array.data, FIRST))
    statements = function.body.seq if isinstance(function.body, tirx.SeqStmt) else [function.body]
    *before, done = statements
    return function.with_body(tirx.SeqStmt([tirx.AllocBuffer(array), used, *before, used, done]))
