"""A graph in pieces: some of its values are given to their readers instead of being computed, all in one evaluation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from qcompiler.ir.oracle import Session
from qcompiler.ir.portable import portable
from qcompiler.ir.view import constant_of

Array = npt.NDArray[Any]

_GIVEN = "given:"


class Pieces:
    """`model` with the values `given` cut: their readers take what is given, and they are computed all the same."""

    def __init__(self, model: ir.Model, given: Collection[str], wanted: Sequence[str]) -> None:
        self._inputs = [str(value.name) for value in model.graph.inputs]
        prepared = portable(model)
        graph = prepared.proto.graph
        values = [output for node in model.graph for output in node.outputs if output.name in set(given)]
        self._given = [str(value.name) for value in values if any(True for _ in value.uses())]
        for node in graph.node:
            for position, name in enumerate(node.input):
                if name in self._given:
                    node.input[position] = _GIVEN + name
        graph.input.extend(_declared(value) for value in values if value.name in self._given)
        self._session = Session(prepared, wanted)

    def run(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """The wanted values as the pieces compute them from `values`: the graph's inputs, and all that is given."""
        given = {_GIVEN + name: np.asarray(values[name]) for name in self._given}
        return self._session.run({**{name: values[name] for name in self._inputs}, **given})


def computed_names(model: ir.Model) -> list[str]:
    """All that the nodes of the graph itself compute at run time."""
    return [str(each.name) for node in model.graph for each in node.outputs if each.name and constant_of(each) is None]


def _declared(value: ir.Value) -> onnx.ValueInfoProto:
    declared = ir.serde.serialize_value(value)
    declared.name = _GIVEN + declared.name
    return declared
