"""What a dialect is: one of the ways in which files write quantized networks.

Most dialects are ops: each op is lowered by itself, to standard operators and those of the `qcompiler` domain. What a
dialect writes with standard operators alone is recognised in the whole graph afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir

from qcompiler.errors import InvalidModel
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label


@dataclass(frozen=True)
class Op:
    """One op of a dialect.

    lower: adds the canonical form of a node to the graph; the names of the node's inputs and outputs are final. Raises
    InvalidModel for impossible parameters, UnsupportedModel for those that cannot be compiled.
    inputs, outputs: how many it may have; of the inputs none is absent, unless `optional`.
    """

    lower: Callable[[Emitter, onnx.NodeProto], None]
    inputs: Sequence[int]
    outputs: Sequence[int] = (1,)
    optional: bool = False

    def check(self, node: onnx.NodeProto) -> None:
        """Refuse a node with other numbers of inputs or outputs."""
        full = self.optional or all(node.input)
        if full and len(node.input) in self.inputs and len(node.output) in self.outputs:
            return
        expected, results = (_spelled(counts) for counts in (self.inputs, self.outputs))
        raise InvalidModel(
            f"{node.op_type} has {len(node.input)} inputs, expected {expected}, and {len(node.output)} outputs,"
            f" expected {results}",
            node=label(node),
            remedy="export the model again",
        )


def _spelled(counts: Sequence[int]) -> str:
    if isinstance(counts, range):
        return f"{counts[0]}, {counts[1]} and so on"
    return " or ".join(map(str, counts))


@dataclass(frozen=True)
class Dialect:
    """One dialect.

    domains: where its ops are found; "" is the standard domain, of which it owns what it lists alone. A domain may be
    shared between dialects.
    refused: ops that cannot be compiled unless the file defines them by a function, and why.
    recognize: rewrites in place what the dialect writes with standard operators; returns how many values it found.
    """

    name: str
    domains: tuple[str, ...]
    ops: Mapping[str, Op] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    recognize: Callable[[ir.Model], int] | None = None
