"""Floats that are codes behind operations with single numbers, as DequantizeLinear makes them: read as codes.

Whoever reads such a value can read the codes, a quarter of the bytes, and run the operations once more. The codes are
stored for layers anyway, so that a residual connection between quantized layers needs no float in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.analysis.weights import WIDEST
from qcompiler.ir.view import constant_of, shape_of
from qcompiler.targets.problem import ScalarOperation

# operations in a row that are run again; chosen
_LONGEST = 8


@dataclass(frozen=True)
class CodeSource:
    """Codes, and what makes the value of them."""

    value: ir.Value
    operations: tuple[ScalarOperation, ...] = ()


def is_storable(value: ir.Value, ranges: IntegerRanges) -> bool:
    """Whether a value of floats can be stored as codes."""
    if value.dtype != ir.DataType.FLOAT or constant_of(value) is not None or value.producer() is None:
        return False
    codes = ranges.codes(value)
    return codes is not None and codes.bits <= WIDEST and len(shape_of(value)) > 0


def code_source(
    value: ir.Value,
    ranges: IntegerRanges,
    scalar_operations: Callable[[ir.Node, ir.Value], tuple[ScalarOperation, ...] | None],
) -> CodeSource | None:
    """The nearest codes that a value is made of by operations with single numbers; None if there are none.

    scalar_operations: a node as operations on one of its inputs; None if it is anything else.
    """
    operations: tuple[ScalarOperation, ...] = ()
    while not is_storable(value, ranges):
        node = value.producer()
        source = (
            None if node is None else next((v for v in node.inputs if v is not None and v.const_value is None), None)
        )
        more = None if node is None or source is None else scalar_operations(node, source)
        if source is None or more is None or len(operations) + len(more) > _LONGEST:
            return None
        value, operations = source, (*more, *operations)
    return CodeSource(value, operations)
