"""Bounds written with absolute values, rewritten to Clip: 0.5 * (|x| - |x - a| + a), as PACT is published, and others.

A value that is a piecewise linear function of another one, and equal to min(max(x, low), high) on all pieces, becomes
Clip(x, low, high). The file's arithmetic meant that, and differs from it by rounding only, which without bounds around
it lets codes take any value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.frontend.dialects.plain.known_constants import KnownConstants
from qcompiler.ir.provenance import NOTE
from qcompiler.ir.view import is_op, static_shape

DoubleArray = npt.NDArray[np.float64]

# relative; constants of files are rounded to float32
_PRECISION = 1e-6
# pieces of any function that is looked at; chosen
_MOST_KNOTS = 16


@dataclass(frozen=True)
class _Pieces:
    """A continuous piecewise linear function of a source.

    knots: where its slope changes, rising, at least one; values: at these; slopes: before the first and behind the last
    knot. joined: whether several functions were added up.
    """

    source: ir.Value
    knots: tuple[float, ...]
    values: tuple[float, ...]
    slopes: tuple[float, float]
    joined: bool = False

    def at(self, x: DoubleArray) -> DoubleArray:
        """Values of the function, float64 of any shape."""
        inside = np.interp(x, self.knots, self.values)
        before, behind = np.minimum(x - self.knots[0], 0), np.maximum(x - self.knots[-1], 0)
        return np.asarray(inside + before * self.slopes[0] + behind * self.slopes[1])

    def scaled(self, factor: float, offset: float) -> _Pieces:
        """The function factor * f + offset."""
        values = tuple(factor * value + offset for value in self.values)
        return replace(self, values=values, slopes=(factor * self.slopes[0], factor * self.slopes[1]))

    def plus(self, other: _Pieces) -> _Pieces:
        """The sum of two functions of one source."""
        knots = np.unique([*self.knots, *other.knots])
        slopes = (self.slopes[0] + other.slopes[0], self.slopes[1] + other.slopes[1])
        values = self.at(knots) + other.at(knots)
        return _Pieces(self.source, tuple(map(float, knots)), tuple(map(float, values)), slopes, True)

    def magnitude(self) -> _Pieces:
        """|f|, with knots where f crosses 0."""
        knots = np.unique([*self.knots, *self._zeros()])
        ends = self.at(np.asarray([knots[0] - 1, knots[-1] + 1]))
        slopes = tuple(float(np.sign(end) * slope) for end, slope in zip(ends, self.slopes, strict=True))
        values = tuple(map(float, np.abs(self.at(knots))))
        return replace(self, knots=tuple(map(float, knots)), values=values, slopes=(slopes[0], slopes[1]))

    def _zeros(self) -> list[float]:
        found = []
        for x, y, slope, side in (
            (self.knots[0], self.values[0], self.slopes[0], -1),
            (self.knots[-1], self.values[-1], self.slopes[1], 1),
        ):
            if slope and -y / slope * side > 0:
                found.append(x - y / slope)
        for left, right, low, high in zip(self.knots, self.knots[1:], self.values, self.values[1:], strict=False):
            if low * high < 0:
                found.append(left + (right - left) * low / (low - high))
        return found

    def bounds(self) -> tuple[float, float] | None:
        """The ends low < high of min(max(x, low), high), infinite where there is none; None for other functions."""
        low = self.values[0] if self.slopes[0] == 0 else -np.inf
        high = self.values[-1] if self.slopes[1] == 0 else np.inf
        if not low < high or not (self.slopes[0] in (0, 1) and self.slopes[1] in (0, 1)):
            return None
        knots = np.asarray(self.knots)
        size = _PRECISION * max(1.0, float(np.abs(knots).max()), *map(abs, self.values))
        meant = np.minimum(np.maximum(knots, low), high)
        return (low, high) if (np.abs(meant - self.values) <= size).all() else None


def recognize_clips(model: ir.Model) -> int:
    """Rewrite the clips of `model` in place that are written as sums; returns how many values were rewritten."""
    constants, found, count = KnownConstants(), dict[ir.Value, _Pieces](), 0
    for node in list(model.graph):
        constants.note(node)
        pieces = _pieces(node, found, constants)
        if pieces is None or len(pieces.knots) > _MOST_KNOTS:
            continue
        found[node.outputs[0]] = pieces
        bounds = pieces.bounds() if pieces.joined else None
        if bounds is not None and static_shape(pieces.source) == static_shape(node.outputs[0]):
            _rewrite(node, pieces.source, bounds)
            count += 1
    return count


def _pieces(node: ir.Node, found: dict[ir.Value, _Pieces], constants: KnownConstants) -> _Pieces | None:
    if not is_op(node, "Abs", "Add", "Sub", "Mul", "Div", "Neg") or node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    numbers = [_number(constants.of(value)) for value in node.inputs]
    functions = [
        None if number is not None else _function(value, found)
        for value, number in zip(node.inputs, numbers, strict=True)
    ]
    if is_op(node, "Abs", "Neg"):
        only = functions[0]
        return None if only is None else only.magnitude() if is_op(node, "Abs") else only.scaled(-1, 0)
    left, right = functions
    if left is not None and right is not None:
        same = left.source is right.source and is_op(node, "Add", "Sub")
        return left.plus(right.scaled(1 if is_op(node, "Add") else -1, 0)) if same else None
    function, number = (left, numbers[1]) if left is not None else (right, numbers[0])
    if function is None or number is None or not np.isfinite(number):
        return None
    return _with_number(node, function, number, swapped=left is None)


def _with_number(node: ir.Node, function: _Pieces, number: float, *, swapped: bool) -> _Pieces | None:
    match node.op_type:
        case "Add":
            return function.scaled(1, number)
        case "Sub":
            return function.scaled(-1, number) if swapped else function.scaled(1, -number)
        case "Mul":
            return function.scaled(number, 0)
    return None if swapped or number == 0 else function.scaled(1 / number, 0)


def _function(value: ir.Value | None, found: dict[ir.Value, _Pieces]) -> _Pieces | None:
    """What is known of a value as a function; a value that is read more than once is a source itself."""
    if value is None or value.dtype != ir.DataType.FLOAT:
        return None
    known = found.get(value)
    if known is not None and len(value.uses()) == 1:
        return known
    return _Pieces(value, (0.0,), (0.0,), (1.0, 1.0))


def _number(array: npt.NDArray[Any] | None) -> float | None:
    return None if array is None or array.size != 1 else float(array.reshape(()))


def _rewrite(node: ir.Node, source: ir.Value, bounds: tuple[float, float]) -> None:
    """Make the node a Clip."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    inputs: list[ir.Value | None] = [source]
    for side, bound in zip(("low", "high"), bounds, strict=True):
        name = f"{node.outputs[0].name}/{side}"
        if not np.isfinite(bound):
            inputs.append(None)
            continue
        tensor = ir.tensor(np.asarray(bound, np.float32), name=name)
        value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(()), type=ir.TensorType(tensor.dtype))
        graph.register_initializer(value)
        inputs.append(value)
    clip = ir.node("Clip", inputs, name=node.name)
    clip.metadata_props.update(node.metadata_props)
    clip.metadata_props[NOTE] = "the absolute values around it are taken as the bounds that they make"
    old, new = node.outputs[0], clip.outputs[0]
    new.shape, new.type, new.name = old.shape, old.type, old.name
    graph.insert_before(node, clip)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
