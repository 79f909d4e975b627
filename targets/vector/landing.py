"""Chains of floats that end in codes: the rounding at their end and the clipping around it, in four operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.targets.problem import Operation, Scalar
from qcompiler.targets.vector.emit import Expr, fenced, lanes, splat, temporary, write

_INTEGERS = 1.5 * 2.0**23
"""Added to a number of at most 2^22, it leaves its next integer, halves to even, in the lowest bits of float32."""

_MOST = 2**20


@dataclass(frozen=True)
class Landing:
    """The end of an epilogue: codes are round(v) + shift, clipped to those that are stored.

    before: the operations that give v.
    """

    before: tuple[Operation, ...]
    codes: Codes
    shift: int

    def indices(self, v: Expr) -> Expr:
        """int32x16, the numbers of the codes of float32x16 values; of what is no number the lowest."""
        low, high = self.codes.low - self.shift, self.codes.high - self.shift
        inside = clipped(v, low, high)
        bits = T.reinterpret("int32x16", fenced(inside + splat(T.float32(_INTEGERS))))
        return bits - splat(T.int32(int(np.float32(_INTEGERS + low).view(np.int32))))


def clipped(v: Expr, low: float, high: float) -> Expr:
    """float32x16 between two numbers; what is no number becomes the lower one."""
    least, most = splat(T.float32(low)), splat(T.float32(high))
    inside = temporary("float32")
    write(inside, T.Select(v > least, v, least), lanes(0))
    return T.Select(inside[lanes(0)] < most, inside[lanes(0)], most)


def landing(operations: Sequence[Operation]) -> Landing | None:
    """How an epilogue lands on codes that it only stores; None if it does so in another way."""
    if not operations or operations[-1].op != "store_codes" or operations[-1].into is None:
        return None
    codes = operations[-1].into.codes
    if codes is None or codes.step != 1:
        return None
    rest, shift = list(operations[:-1]), 0
    while rest and rest[-1].op != "round":
        operation = rest.pop()
        if not _clips_alike(operation, codes, shift):
            added = _integer_added(operation)
            if added is None:
                return None
            shift += added
    if not rest or max(abs(codes.low - shift), abs(codes.high - shift)) > _MOST:
        return None
    rest.pop()
    while rest and _clips_alike(rest[-1], codes, shift):
        rest.pop()
    return Landing(tuple(rest), codes, shift)


def _integer_added(operation: Operation) -> int | None:
    """What an operation between rounding and storing adds, if it is such a sum."""
    if operation.op not in ("add", "sub") or not isinstance(operation.operand, Scalar):
        return None
    number = operation.operand.value
    if abs(number) > _MOST or number != int(number):
        return None
    return int(number) if operation.op == "add" else -int(number)


def _clips_alike(operation: Operation, codes: Codes, shift: int) -> bool:
    """Whether an operation is a clipping that the codes repeat, which are `shift` above what it clips."""
    if not isinstance(operation.operand, Scalar):
        return False
    if operation.op == "max":
        return operation.operand.value <= codes.low - shift
    return operation.op == "min" and operation.operand.value >= codes.high - shift
