"""Monotone chains from a value up to a sign or a quantizer of few levels."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.analysis.layers import feeds_integer_layer
from qcompiler.analysis.monotone import MonotoneOp, landing_op, monotone_op
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.provenance import label
from qcompiler.ir.view import is_quantized_op, number, only_consumer

MOST_LEVELS = 256
"""Of codes that layers on integers read."""


@dataclass(frozen=True)
class Chain:
    """Ops from a value up to `end`: a Binarize behind them, or the last of them, which makes `codes`."""

    ops: tuple[MonotoneOp, ...]
    end: ir.Node
    codes: Codes

    @property
    def sign(self) -> float | None:
        """The code of 0 where the chain ends in a sign, -1 or +1; None where the last op makes the codes."""
        return number(self.end, "zero", 1.0) if is_quantized_op(self.end, "Binarize") else None


def chain_to_codes(value: ir.Value, axis: int, ranges: IntegerRanges) -> Chain | str:
    """The longest chain behind `value`, whose channels lie along `axis`, that nothing else reads; or why there is none.

    Codes of more than one bit count where a layer on integers reads them.
    """
    ops: list[MonotoneOp] = []
    found: Chain | None = None
    while True:
        reader = only_consumer(value)
        if reader is None:
            readers = "is a graph output" if value.is_graph_output() else "is read by more than one node"
            return found or f"the value after {label(value.producer())} {readers} (a float epilogue keeps it)"
        if is_quantized_op(reader, "Binarize"):
            zero = number(reader, "zero", 1.0)
            return Chain(tuple(ops), reader, BINARY) if zero in (-1, 1) else "the sign after it can be 0"
        op = landing_op(reader, value, axis) or monotone_op(reader, value, axis)
        if isinstance(op, str):
            return found or f"{op} (a float epilogue keeps it)"
        ops.append(op)
        value = reader.outputs[0]
        codes = ranges.codes(value)
        if codes is not None and 1 < codes.levels <= MOST_LEVELS and feeds_integer_layer(value):
            found = Chain(tuple(ops), reader, codes)
