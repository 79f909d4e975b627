"""How large a network would be if its constants were stored as other systems store them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

_NUMBERS = frozenset(
    getattr(ir.DataType, name)
    for name in ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8", "INT16", "UINT16", "INT32", "INT4", "UINT4")
)
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Constants:
    """Numbers that a graph holds: weights, of two axes or more, and others (biases, scales).

    Indices and shapes, which are int64, and truth values are not among them.
    """

    weights: int
    others: int

    @property
    def float32_bytes(self) -> int:
        """Everything in float32."""
        return (self.weights + self.others) * _FLOAT_BYTES

    @property
    def int8_bytes(self) -> int:
        """Weights in bytes, the others in four."""
        return self.weights + self.others * _FLOAT_BYTES


def constants_of(graph: ir.Graph) -> Constants:
    """Count the constants of a graph that a node reads, each once."""
    sizes = [(tensor.size, len(tensor.shape)) for tensor in _tensors(graph) if tensor.dtype in _NUMBERS]
    weights = sum(size for size, rank in sizes if rank > 1)
    return Constants(weights, sum(size for size, _ in sizes) - weights)


def _tensors(graph: ir.Graph) -> Iterator[ir.TensorProtocol]:
    for value in graph.initializers.values():
        if value.const_value is not None and value.uses():
            yield value.const_value
    for node in graph:
        if node.op_type == "Constant" and "value" in node.attributes:
            yield node.attributes["value"].as_tensor()
