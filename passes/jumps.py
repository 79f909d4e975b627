"""Signs and roundings of real numbers: where correct code may land on either side, decided by rounding errors alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.layout import ELEMENTWISE
from qcompiler.ir.view import constant_of, integer
from qcompiler.passes.editing import is_op, is_quantized_op

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

# of the largest magnitude of what is rounded
TIE = 1e-5

_SIGNS = ("Binarize", "Sign")
_ROUNDINGS = ("Round", "Floor", "Ceil")
_FOLLOWED = (*ELEMENTWISE, "Cast", "DequantizeLinear")


@dataclass(frozen=True)
class Jump:
    """A sign, or a rounding to integers, of the value `source` over `scale`: one number, or one for each of `axis`."""

    op: str
    source: str
    scale: tuple[float, ...] = (1.0,)
    axis: int = 1

    def near(self, values: Array) -> Mask:
        """Which numbers lie within `TIE` of a place where the result jumps; values: float, of `source`."""
        distance, largest = self._distance(values)
        near: Mask = distance <= TIE * largest
        return near

    def undecided(self, values: Array) -> int:
        """How many of them are not on that place itself, which is decided."""
        distance, largest = self._distance(values)
        return int(np.sum((distance <= TIE * largest) & (distance > 0)))

    def _distance(self, values: Array) -> tuple[Array, float]:
        """Distance of every number from the next jump, and the largest magnitude of a number, in units of `scale`."""
        shape = np.ones(values.ndim, np.int64)
        if len(self.scale) > 1:
            shape[self.axis] = -1
        scaled = values / np.reshape(np.array(self.scale, values.dtype), shape)
        largest = float(np.abs(scaled[np.isfinite(scaled)]).max(initial=0.0))
        if self.op in _SIGNS:
            return np.abs(scaled), largest
        shifted = scaled - (0.0 if self.op in ("Floor", "Ceil") else 0.5)
        return np.abs(shifted - np.rint(shifted)), largest


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
        if node and (jump or is_op(node, *_FOLLOWED)):
            new = {each: None for each in node.inputs if each is not None and each.name not in stored}
            waiting += [each for each in new if each not in seen]
            seen |= new.keys()


def _jump(node: ir.Node) -> Jump | None:
    source = node.inputs[0] if node.inputs else None
    if source is None or constant_of(source) is not None:
        return None
    name = str(source.name)
    if is_op(node, "QuantizeLinear"):
        scale = constant_of(node.inputs[1])
        # scales of blocks are two-dimensional
        if scale is None or scale.ndim > 1:
            return None
        return Jump(node.op_type, name, tuple(scale.reshape(-1).tolist()), integer(node, "axis", 1))
    known = is_op(node, "Sign", *_ROUNDINGS) or is_quantized_op(node, "Binarize")
    return Jump(node.op_type, name) if known else None
