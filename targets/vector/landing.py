"""Chains of floats that end in codes: the rounding at their end and the clipping around it, in four operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.targets.problem import Operation, Scalar
from qcompiler.targets.vector.emit import Expr, fenced, lanes, splat, temporary, write
from qcompiler.targets.vector.quotient import Quotient, quotient

_INTEGERS = 1.5 * 2.0**23
"""Added to a number of at most 2^22, it leaves its next integer, halves to even, in the lowest bits of float32."""

_MOST = 2**20


@dataclass(frozen=True)
class Landing:
    """The end of an epilogue: codes are round(v) + shift, clipped to `codes`, which are stored, or multiples of them.

    before: the operations that give v, or what is divided to give it.
    """

    before: tuple[Operation, ...]
    codes: Codes
    shift: int
    quotient: Quotient | None = None

    def indices(self, v: Expr) -> Expr:
        """int32x16, the numbers of the codes of float32x16 values; of what is no number the lowest."""
        low, high = _ends(self.codes, self.shift)
        divided = self.quotient
        inside = clipped(v, low, high) if divided is None else divided.of(clipped(v, divided.least, divided.most))
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
    rest, shift = list(operations[:-1]), 0
    codes = _multiplied(operations[-1].into.codes, rest)
    if codes is None:
        return None
    while rest and rest[-1].op != "round":
        operation = rest.pop()
        if not _clips_alike(operation, *_ends(codes, shift)):
            added = _integer_added(operation)
            if added is None:
                return None
            shift += added
    if not rest or max(abs(codes.low - shift), abs(codes.high - shift)) > _MOST:
        return None
    rest.pop()
    ends = _ends(codes, shift)
    rest = _unclipped(rest, *ends)
    divided = _quotient(rest[-1], *ends) if rest else None
    if divided is not None:
        rest = _unclipped(rest[:-1], divided.least, divided.most)
    return Landing(tuple(rest), codes, shift, divided)


def _multiplied(stored: Codes | None, rest: list[Operation]) -> Codes | None:
    """The codes before the product that makes those stored of them, which leaves the rest, if there has to be one."""
    if stored is None or stored.step == 1:
        return stored
    product = rest.pop() if rest else None
    if product is None or product.op != "mul" or not isinstance(product.operand, Scalar):
        return None
    if product.operand.value != stored.step or stored.low % stored.step:
        return None
    return Codes(stored.low // stored.step, stored.high // stored.step)


def _ends(codes: Codes, shift: int) -> tuple[int, int]:
    """The integers that give the lowest and the highest code."""
    return codes.low - shift, codes.high - shift


def _quotient(operation: Operation, lowest: int, highest: int) -> Quotient | None:
    """How to divide without a division, if that is possible."""
    by = operation.operand
    if operation.op != "div" or not isinstance(by, Scalar) or not by.fused:
        return None
    return quotient(by.value, lowest, highest)


def _integer_added(operation: Operation) -> int | None:
    """What an operation between rounding and storing adds, if it is such a sum."""
    if operation.op not in ("add", "sub") or not isinstance(operation.operand, Scalar):
        return None
    number = operation.operand.value
    if abs(number) > _MOST or number != int(number):
        return None
    return int(number) if operation.op == "add" else -int(number)


def _unclipped(operations: list[Operation], lowest: float, highest: float) -> list[Operation]:
    """Without clips at their end that one from `lowest` to `highest` repeats."""
    while operations and _clips_alike(operations[-1], lowest, highest):
        operations = operations[:-1]
    return operations


def _clips_alike(operation: Operation, lowest: float, highest: float) -> bool:
    """Whether an operation is a clipping that one from `lowest` to `highest` repeats."""
    if not isinstance(operation.operand, Scalar):
        return False
    if operation.op == "max":
        return operation.operand.value <= lowest
    return operation.op == "min" and operation.operand.value >= highest
