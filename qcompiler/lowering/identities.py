"""The values that reductions start from, as ONNX has them.

TVM starts a maximum of floats from the smallest finite number, so that a row of -inf, which attention makes of a masked
row, gives -3.4e38. It starts the index of a maximum from -1, which a row of nothing but minima keeps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import s_tir, tirx

_FLOATS = ("float32", "float64")


def with_identities(function: Any) -> Any:
    """A PrimFunc whose reductions of floats start from an infinity instead of the largest finite magnitude."""
    return function.with_body(_statement(function.body))


def _statement(statement: Any) -> Any:
    if isinstance(statement, tirx.SeqStmt):
        return tirx.SeqStmt([_statement(part) for part in statement])
    if isinstance(statement, tirx.For):
        return tirx.For(
            statement.loop_var,
            statement.min,
            statement.extent,
            statement.kind,
            _statement(statement.body),
            statement.thread_binding,
            statement.annotations,
        )
    if isinstance(statement, s_tir.SBlockRealize):
        return s_tir.SBlockRealize(statement.iter_values, statement.predicate, _statement(statement.block))
    return _block(statement) if isinstance(statement, s_tir.SBlock) else statement


def _block(block: Any) -> Any:
    return s_tir.SBlock(
        block.iter_vars,
        block.reads,
        block.writes,
        block.name_hint,
        _statement(block.body),
        None if block.init is None else _start(block.init),
        block.alloc_buffers,
        block.match_buffers,
        block.annotations,
    )


def _start(init: Any) -> Any:
    """The initial stores of a reduction."""
    if isinstance(init, tirx.SeqStmt):
        return tirx.SeqStmt([_start_at_zero(part) or _start(part) for part in init])
    if isinstance(init, tirx.BufferStore) and isinstance(init.value, tirx.FloatImm):
        dtype = str(init.value.ty)
        if dtype in _FLOATS and abs(init.value.value) == np.finfo(dtype).max:
            return tirx.BufferStore(init.buffer, tirx.const(np.copysign(np.inf, init.value.value), dtype), init.indices)
    return init


def _start_at_zero(store: Any) -> Any | None:
    """The initial store of an index that starts at -1; every element that is no less than the start replaces it."""
    if isinstance(store.value, tirx.IntImm) and store.value.value == -1:
        return tirx.BufferStore(store.buffer, tirx.const(0, str(store.value.ty)), store.indices)
    return None
