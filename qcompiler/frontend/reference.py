"""A file as its reference runs it: with nothing that only allows kernels to be less exact."""

from __future__ import annotations

import onnx

from qcompiler.frontend import attributes
from qcompiler.frontend.structure import subgraphs

# by domain and op: attributes that are no part of the meaning
_ALLOWANCES = {("com.microsoft", "MatMulNBits"): ("accuracy_level",)}


def drop_allowances(model: onnx.ModelProto) -> None:
    """Take away attributes that let a kernel round operands, in the whole file.

    With accuracy_level = 4, onnxruntime rounds the left operand of MatMulNBits to 8 bits, on processors for which it
    has such a kernel, and is 0.5 % off.
    """
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        attributes.drop(node, _ALLOWANCES.get((node.domain, node.op_type), ()))
        waiting.extend(inner for graph in subgraphs(node) for inner in graph.node)
