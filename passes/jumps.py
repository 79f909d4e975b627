"""Signs and roundings of real numbers: where correct code may land on either side, decided by rounding errors alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.layout import ELEMENTWISE
from qcompiler.ir.view import constant_of
from qcompiler.passes.editing import is_op, is_quantized_op

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

# of the largest magnitude of what is rounded
TIE = 1e-5

_SIGNS = ("Binarize", "Sign")
_ROUNDINGS = ("Round", "Floor", "Ceil")


@dataclass(frozen=True)
class Jump:
    """A sign, or a rounding to integers, of the value `source`."""

    op: str
    source: str

    def near(self, values: Array) -> Mask:
        """Which numbers lie within `TIE` of a place where the result jumps; values: float, of `source`."""
        return self._distance(values) <= TIE * _largest(values)

    def undecided(self, values: Array) -> int:
        """How many of them are not on that place itself, which is decided."""
        distance = self._distance(values)
        return int(np.sum((distance <= TIE * _largest(values)) & (distance > 0)))

    def _distance(self, values: Array) -> Array:
        if self.op in _SIGNS:
            return np.abs(values)
        middle = 0.5 if self.op == "Round" else 0.0
        shifted = values - middle
        return np.abs(shifted - np.rint(shifted))


def jumps(graph: ir.Graph) -> list[Jump]:
    """All that `graph` takes of values that are not constant."""
    return [jump for node in graph if (jump := _jump(node))]


def jumps_before(graph: ir.Graph, stored: Collection[str]) -> dict[str, list[Jump]]:
    """For every stored value, the jumps that its elements pass on the way from the stored values before it."""
    values = {str(value.name): value for node in graph for value in node.outputs}
    return {name: list(_above(values[name], stored)) for name in stored if name in values}


def _above(value: ir.Value, stored: Collection[str]) -> Iterator[Jump]:
    seen, waiting = {value}, [value]
    while waiting:
        node = waiting.pop().producer()
        jump = _jump(node) if node else None
        if jump:
            yield jump
        if node and (jump or is_op(node, *ELEMENTWISE)):
            new = {each: None for each in node.inputs if each is not None and each.name not in stored}
            waiting += [each for each in new if each not in seen]
            seen |= new.keys()


def _jump(node: ir.Node) -> Jump | None:
    source = node.inputs[0] if node.inputs else None
    if source is None or constant_of(source) is not None:
        return None
    known = is_op(node, "Sign", *_ROUNDINGS) or is_quantized_op(node, "Binarize")
    return Jump(node.op_type, str(source.name)) if known else None


def _largest(values: Array) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
