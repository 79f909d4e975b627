"""Copies of vectors, lane by lane: CUDA has none of sixteen numbers, and a thread is a lane.

Bodies of standard operators copy runs of numbers sixteen at a time, for processors.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir.expr import Call, TensorLoad


def scalarized(body: Any) -> Any:
    """A statement in which every copy of a vector is a loop over its lanes. Raises ValueError for other vectors."""
    return tvm_ffi.structural_map(body, [(tirx.BufferStore, _store)], order="post")


def _store(store: Any) -> Any:
    index = store.indices[-1] if store.indices else None
    if not isinstance(index, tirx.Ramp):
        return store
    lane = tirx.Var("lane", "int32")
    one = tirx.BufferStore(store.buffer, _lane(store.value, lane), [_lane(index, lane)])
    return tirx.For(lane, tirx.const(0, "int32"), tirx.const(int(index.lanes), "int32"), tirx.ForKind.SERIAL, one)


def _lane(vector: Any, lane: Any) -> Any:
    """A lane of what copies are made of: numbers in memory, which a fence hides from LLVM."""
    if isinstance(vector, tirx.Ramp):
        return vector.base + vector.stride * tirx.Cast(str(vector.base.ty).removeprefix("T."), lane)
    if isinstance(vector, TensorLoad):
        (index,) = vector.indices
        return tirx.BufferLoad(vector.source, [_lane(index, lane)])
    if isinstance(vector, Call) and "call_llvm" in vector.op.name:
        return _lane(vector.args[-1], lane)
    raise ValueError(f"{vector} is a vector")
