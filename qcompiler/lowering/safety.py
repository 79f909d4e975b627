"""What must hold of a function that TVM made before it may see the data of a run.

An index that is computed from data must be proven to stay within its buffer, by its own limits or by a condition
around the access, and integers computed from data must not divide: the first would read or write outside of memory,
the second can trap the processor. Operators that need either have kernels of our own (`lowering/standard`).
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir.expr import TensorLoad
from tvm.sym import Analyzer
from tvm_ffi.structural import WalkResult

_CONDITIONAL = "prim.if_then_else"
_DIVISIONS = (tirx.Div, tirx.Mod, tirx.FloorDiv, tirx.FloorMod)


def hazard(function: Any) -> str | None:
    """Why the function is not safe with any data; None where it is."""
    walk = _Walk()
    walk.over(function.body)
    return walk.complaint


class _Walk:
    """One pass over a function: what is known of its integers here, and which variables hold data."""

    def __init__(self) -> None:
        self.complaint: str | None = None
        self._analyzer = Analyzer()
        self._data: list[Any] = []

    def over(self, root: Any) -> None:
        """Look at everything below `root`."""
        callbacks = [
            (s_tir.SBlock, self._block),
            (tirx.Bind, self._binding),
            (tirx.IfThenElse, self._branches),
            (tvm.ir.Call, self._call),
            (TensorLoad, lambda load: self._access(load.source, load.indices)),
            (tirx.BufferStore, lambda store: self._access(store.buffer, store.indices)),
            (_DIVISIONS, self._division),
        ]
        tvm_ffi.structural_walk(root, callbacks, order="pre")

    def _block(self, block: Any) -> None:
        for iterator in block.iter_vars:
            self._analyzer.bind(iterator.var, iterator.dom)

    def _binding(self, binding: Any) -> None:
        if self._is_data(binding.value):
            self._data.append(binding.var)
        elif _is_integer(binding.value):
            self._analyzer.bind(binding.var, binding.value)

    def _branches(self, branch: Any) -> Any:
        return self._conditional(branch.condition, branch.then_case, branch.else_case)

    def _call(self, call: Any) -> Any:
        if getattr(call.op, "name", "") != _CONDITIONAL:
            return None
        return self._conditional(*call.args)

    def _conditional(self, condition: Any, then: Any, otherwise: Any) -> Any:
        self.over(condition)
        with self._analyzer.constraint_scope(condition):
            self.over(then)
        if otherwise is not None:
            self.over(otherwise)
        return WalkResult.SKIP

    def _access(self, buffer: Any, indices: Any) -> None:
        for index, extent in zip(indices, buffer.shape, strict=True):
            if not self._is_data(index):
                continue
            bound = self._analyzer.const_int_bound(index)
            if bound.min_value < 0 or bound.max_value >= int(extent):
                self.complaint = f"an index into {buffer.name} is computed from data and has no bounds"

    def _division(self, division: Any) -> None:
        if _is_integer(division) and self._is_data(division.b):
            self.complaint = "an integer is divided by data"

    def _is_data(self, expression: Any) -> bool:
        """Whether an expression reads memory, or a variable that was read from there."""
        found: list[Any] = []
        callbacks = [
            (TensorLoad, found.append),
            (tirx.Var, lambda var: found.append(var) if any(var.same_as(known) for known in self._data) else None),
        ]
        tvm_ffi.structural_walk(expression, callbacks)
        return bool(found)


def _is_integer(expression: Any) -> bool:
    return str(expression.ty).removeprefix("T.").startswith(("int", "uint"))
