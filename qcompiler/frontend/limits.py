"""What a bundle cannot hold is refused before anything is compiled."""

from __future__ import annotations

import onnx

from qcompiler.errors import UnsupportedModel
from qcompiler.ir.program import MAX_RANK, MAX_TENSORS, MAX_TEXT


def check_limits(graph: onnx.GraphProto) -> None:
    """Refuse names, and numbers and ranks of inputs and outputs, that a bundle does not hold."""
    for what, values in (("inputs", graph.input), ("outputs", graph.output)):
        if not 1 <= len(values) <= MAX_TENSORS:
            raise UnsupportedModel(
                f"the model has {len(values)} {what}, expected 1 to {MAX_TENSORS}", remedy="join or remove some"
            )
        for value in values:
            _check_name(value.name, f"one of the {what}")
            rank = len(value.type.tensor_type.shape.dim)
            if rank > MAX_RANK:
                raise UnsupportedModel(
                    f"'{value.name}' has {rank} axes, expected at most {MAX_RANK}", remedy="reshape it in your program"
                )
    for node in graph.node:
        _check_name(node.name, "a node")


def _check_name(name: str, owner: str) -> None:
    if len(name) <= MAX_TEXT and "\0" not in name:
        return
    raise UnsupportedModel(
        f"the name of {owner} has {len(name)} characters, expected at most {MAX_TEXT}, and none that is zero",
        node=name,
        remedy="give it another name",
    )
