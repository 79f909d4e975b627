"""Functions that TVM made, with what it has or would take differently from ONNX put right.

- TVM starts a maximum of floats from the smallest finite number, so that a row of -inf, which attention makes of a
  masked row, gives -3.4e38. It starts the index of a maximum from -1, which a row of nothing but minima keeps.
- TVM's simplifier takes floats for numbers without rounding where they are subtracted: `x + c - c` becomes `x`, which
  is how many programs round, and `x - x` becomes 0 even of an infinity. It does not so with sums.
- A maximum or minimum is code that gives its second operand where one is NaN. With a bound as the first, as in Relu and
  Clip, NaN stays NaN and -0 stays -0, by the same instruction.
- A hyperbolic tangent is made of exponentials, 1 minus one that is nearly 1 where the operand is small: nothing is left
  of numbers below 2^-24. There its series is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir.expr import Call, TensorLoad

_FLOATS = ("float32", "float64")


def exact(function: Any) -> Any:
    """The PrimFunc with ONNX's initial values of reductions, bounds first, and floats subtracted as `a + (-1) * b`.

    Multiplication by -1 is exact, and the code generator makes one subtraction of it again.
    """
    return function.with_body(tvm_ffi.structural_map(function.body, _REPLACEMENTS, order="post"))


def _added(difference: Any) -> Any:
    dtype = _dtype(difference)
    if not dtype.startswith("float"):
        return difference
    if isinstance(difference.b, tirx.FloatImm):
        return tirx.Add(difference.a, tirx.const(-difference.b.value, dtype))
    return tirx.Add(difference.a, tirx.Mul(difference.b, tirx.const(-1.0, dtype)))


def _bound_first(extreme: Any) -> Any:
    if not _dtype(extreme).startswith("float") or not _is_bound(extreme.b) or _is_bound(extreme.a):
        return extreme
    return type(extreme)(extreme.b, extreme.a)


def _tangent(call: Any) -> Any:
    """tanh(x), below 1/16 as x - x^3/3 + 2 x^5/15 - 17 x^7/315: what is left out is less than 2^-37 of it."""
    if getattr(call.op, "name", "") != "tirx.tanh" or _dtype(call) != "float32":
        return call
    (x,) = call.args
    one, square = tirx.const(1, "float32"), x * x
    series = one
    for factor in (17 / 42, 2 / 5, 1 / 3):
        series = one - square * tirx.const(factor, "float32") * series
    return tirx.Select(tirx.abs(x) < tirx.const(1 / 16, "float32"), x * series, call)


def _is_bound(expression: Any) -> bool:
    """Whether an operand is one number for all elements."""
    scalar = isinstance(expression, TensorLoad) and not expression.indices
    return scalar or isinstance(expression, tirx.FloatImm)


def _started(block: Any) -> Any:
    if block.init is None:
        return block
    return s_tir.SBlock(
        block.iter_vars,
        block.reads,
        block.writes,
        block.name_hint,
        block.body,
        tvm_ffi.structural_map(block.init, [(tirx.BufferStore, _start), (tirx.SeqStmt, _start_of_index)]),
        block.alloc_buffers,
        block.match_buffers,
        block.annotations,
    )


def _start(store: Any) -> Any:
    """The initial store of a reduction."""
    value, dtype = store.value, _dtype(store.value)
    if isinstance(value, tirx.FloatImm) and dtype in _FLOATS and abs(value.value) == np.finfo(dtype).max:
        return tirx.BufferStore(store.buffer, tirx.const(np.copysign(np.inf, value.value), dtype), store.indices)
    return store


def _start_of_index(stores: Any) -> Any:
    """The initial stores of a value and its index; every element that is no less than the start replaces both."""
    return tirx.SeqStmt([_start_at_zero(store) for store in stores])


def _start_at_zero(store: Any) -> Any:
    if isinstance(store.value, tirx.IntImm) and store.value.value == -1:
        return tirx.BufferStore(store.buffer, tirx.const(0, _dtype(store.value)), store.indices)
    return store


def _dtype(expression: Any) -> str:
    return str(expression.ty).removeprefix("T.")


_REPLACEMENTS = [
    (s_tir.SBlock, _started),
    (tirx.Sub, _added),
    (tirx.Max, _bound_first),
    (tirx.Min, _bound_first),
    (Call, _tangent),
]
