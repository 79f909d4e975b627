"""Whether a float value is exactly 0 with positive probability.

A value computed by float convolutions from real data is 0 only where rounding happens to land there, which the
reference itself does not define. Some ops put a lump of probability on single numbers, though: Relu on 0, Clip on its
bounds, a zero factor on 0, sums over codes on all they reach, graph inputs (images!) on anything. These lumps, called
atoms, are followed through the graph per channel.

Graph inputs are taken as multiples of 1/256 (and of what scales and offsets make of that) once a layer of coarse
weights sums them up, see products.py: such sums reach 0, and trained offsets behind them move it away. Of all else that
is not followed, such sums can be any number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.atoms import (
    ANYTHING,
    CONTINUOUS,
    INTEGERS,
    PIXELS,
    Atoms,
    Progression,
    after_op,
    limited,
    mean_of,
    point,
    sum_of,
    union,
)
from qcompiler.analysis.levels import Levels, levels_of
from qcompiler.analysis.monotone import VARIES, MonotoneOp, monotone_op
from qcompiler.analysis.moves import keeps_channels, moves_elements
from qcompiler.analysis.products import product_of
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.analysis.sums import sums_of
from qcompiler.ir.traits import LAYER, Trait, channel_axis, has
from qcompiler.ir.view import constant_of, ints, is_op, static_shape, text

# pixels whose constants differ; chosen
_MOST_PLACES = 16
_WHOLE = ("Round", "Floor", "Ceil", "Sign")


@dataclass
class ZeroMass:
    """Lazily computed atoms of the values of one graph; ask in topological order to keep the recursion shallow."""

    ranges: IntegerRanges
    known: dict[ir.Value, Atoms] = field(default_factory=dict)

    def atoms(self, value: ir.Value) -> Atoms:
        """Atoms of `value`."""
        if value not in self.known:
            self.known[value] = self._compute(value)
        return self.known[value]

    def _compute(self, value: ir.Value) -> Atoms:
        node = value.producer()
        if node is None:
            return PIXELS
        if not node.inputs or node.inputs[0] is None:
            return ANYTHING
        if has(node, LAYER):
            return self._product(node)
        run_time = [i for i in node.inputs if i is not None and constant_of(i) is None]
        if len(run_time) == 1 and not isinstance(stepped := self._applied(node, run_time[0]), str):
            return stepped
        if (levels := levels_of(value, -1, self.ranges)) is not None:
            return _of_levels(levels, -1)
        if is_op(node, *_WHOLE):
            return INTEGERS
        if moves_elements(node) or is_op(node, "Pad"):
            return _moved(node, self.atoms(node.inputs[0]))
        if has(node, Trait.AVERAGES):
            return _mean(node, self.atoms(node.inputs[0]))
        if is_op(node, "Concat"):
            return CONTINUOUS if all(self.atoms(i).none for i in run_time) else ANYTHING
        if len(run_time) == 2 and is_op(node, "Add", "Sub"):
            return sum_of(self.atoms(run_time[0]), self.atoms(run_time[1]), node.op_type)
        if len(run_time) == 2 and is_op(node, "Mul"):
            factors = [self.atoms(i) for i in run_time]
            return CONTINUOUS if any(a.none for a in factors) and not any(a.zero for a in factors) else ANYTHING
        return ANYTHING

    def _applied(self, node: ir.Node, x: ir.Value) -> Atoms | str:
        """Atoms behind an elementwise op with constants, or why it is none."""
        atoms, reason = self.atoms(x), ""
        rank = len(static_shape(node.outputs[0]) or ())
        axes = (atoms.axis,) if atoms.by_channel or not rank else (atoms.axis, *(-1 - i for i in range(rank)))
        for axis in axes:
            op = monotone_op(node, x, axis, broadcast=True)
            if not isinstance(op, str):
                return after_op(op, atoms, axis)
            reason = op
        return _by_place(node, x, atoms) if reason == VARIES.format(node.op_type) else reason

    def _product(self, node: ir.Node) -> Atoms:
        weights = constant_of(node.inputs[1])
        if weights is None or (len(node.inputs) > 2 and node.inputs[2] is not None):
            return ANYTHING
        axis, reads = _channels_of(node, node.outputs[0]), _channels_of(node, node.inputs[0])
        levels = levels_of(node.inputs[0], reads, self.ranges)
        sums = None if levels is None else sums_of(node, levels)
        if sums is not None:
            scale = MonotoneOp(node, "Mul", (sums.scale,))
            return Atoms(lattice=sums.lattice, ops=(scale,), origin=node, slack=sums.slack, axis=axis)
        source = self.atoms(node.inputs[0]) if levels is None else _of_levels(levels, reads)
        has_zero = source.zero if levels is None else levels.has_zero
        pieces = product_of(node, weights, source, reads, has_zero)
        return ANYTHING if pieces is None else limited(pieces, axis)


def _of_levels(levels: Levels, axis: int) -> Atoms:
    size = np.maximum(np.abs(levels.low), np.abs(levels.high))
    unit = np.where(levels.low == levels.high, 0, levels.step)
    return limited([Progression(levels.low, unit, size), *([point(0)] if levels.zeros else [])], axis)


def _by_place(node: ir.Node, x: ir.Value, atoms: Atoms) -> Atoms:
    """Atoms behind a constant that is another one per channel at a few kinds of places, as borders are."""
    position = 0 if node.inputs[0] is x else 1
    constant, out = constant_of(node.inputs[1 - position]), static_shape(node.outputs[0])
    if atoms.anything or constant is None or out is None or not is_op(node, "Add", "Sub", "Mul"):
        return ANYTHING
    full = np.moveaxis(np.broadcast_to(constant, out), atoms.axis, 0)
    places = np.unique(full.reshape(len(full), -1), axis=1)
    if not np.isfinite(places).all() or places.shape[1] > _MOST_PLACES:
        return ANYTHING if not atoms.none or not np.isfinite(places).all() or not places.all() else CONTINUOUS
    ops = [MonotoneOp(node, node.op_type, (place,), swapped=position == 1) for place in places.T]
    return union(after_op(op, atoms, atoms.axis) for op in ops)


def _channels_of(node: ir.Node, value: ir.Value) -> int:
    """The negative channel axis of an operand or the result of a layer."""
    return channel_axis(node, len(static_shape(value) or (0, 0, 0, 0)))


def _moved(node: ir.Node, inner: Atoms) -> Atoms:
    if is_op(node, "Pad"):
        return _padded(node, inner if not inner.by_channel or _keeps_extent(node, inner.axis) else _mixed(inner))
    if not inner.by_channel or keeps_channels(node, inner.axis):
        return inner
    axis = _moved_axis(node, inner.axis)
    if axis is not None:
        return replace(inner, axis=axis)
    return _mixed(inner)


def _keeps_extent(node: ir.Node, axis: int) -> bool:
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    return before is not None and after is not None and before[axis] == after[axis]


def _mixed(inner: Atoms) -> Atoms:
    """The atoms of a value whose channels no longer lie apart along one axis."""
    if inner.anything or any(piece.unit.any() for piece in inner.pieces):
        return ANYTHING
    numbers = {float(number) for piece in inner.pieces for number in np.unique(piece.base[~np.isnan(piece.base)])}
    return limited([point(number) for number in sorted(numbers)], -1)


def _padded(node: ir.Node, inner: Atoms) -> Atoms:
    """The border is one more atom, or repeats what is there."""
    if inner.anything or text(node, "mode", "constant") != "constant":
        return inner
    fill = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    return ANYTHING if fill is None else limited([*inner.pieces, point(fill.reshape(()))], inner.axis)


def _moved_axis(node: ir.Node, axis: int) -> int | None:
    """Where the channels lie behind a layout change, as a negative axis; None if they no longer are one axis."""
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if before is None or after is None:
        return None
    position = axis % len(before)
    if is_op(node, "Transpose"):
        perm = ints(node, "perm", tuple(reversed(range(len(before)))))
        return perm.index(position) - len(after)
    if is_op(node, "Resize", "Tile", "Expand") and len(before) == len(after) and before[position] == after[position]:
        return axis
    inner = math.prod(before[position + 1 :])
    if not is_op(node, "Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return None
    fitting = [i for i, size in enumerate(after) if size == before[position] and math.prod(after[i + 1 :]) == inner]
    return fitting[0] - len(after) if fitting else None


def _means_apart(node: ir.Node, axis: int) -> bool:
    """Whether no mean is over several channels, and the channels stay where they are."""
    if not is_op(node, "ReduceMean"):
        return keeps_channels(node, axis)
    before, after = static_shape(node.inputs[0]) or (), static_shape(node.outputs[0]) or ()
    return len(before) == len(after) and before[axis % len(before)] == after[axis % len(before)]


def _mean(node: ir.Node, inner: Atoms) -> Atoms:
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if before is None or after is None or (inner.by_channel and not _means_apart(node, inner.axis)):
        return CONTINUOUS if inner.none else ANYTHING
    if is_op(node, "AveragePool"):
        padded = any(ints(node, "pads", ())) or text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
        if padded and not inner.none:
            return ANYTHING
        return mean_of(inner, math.prod(ints(node, "kernel_shape", ())), inner.axis)
    return mean_of(inner, math.prod(before) // math.prod(after), inner.axis)
