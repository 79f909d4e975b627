"""Whether a float value is exactly 0 with positive probability.

A value computed by float convolutions from real data is 0 only where rounding happens to land there, which the
reference itself does not define. Some ops put a lump of probability on single numbers, though: Relu on 0, Clip on its
bounds, a zero factor on 0, integer sums on all they reach, graph inputs (images!) on anything. These lumps, called
atoms, are followed through the graph per channel.

A sum of two values with atoms can be 0 where both can be 0, or where both live on a coarse grid of binary fractions
(integers, quantizer steps), on which coincidences are likely; trained scales and offsets do not cancel by chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.view import constant_of
from qcompiler.passes.editing import is_op, static_shape
from qcompiler.passes.elementwise import Step, step_of
from qcompiler.passes.ranges import IntegerRanges, Lattice
from qcompiler.passes.thresholds import attains_zero, finite_at_ends

FloatArray = npt.NDArray[np.float32]

_LAYOUT = ("Reshape", "Transpose", "MaxPool", "Identity", "Slice", "Expand", "Pad")
_KEEPS_CHANNELS = ("MaxPool", "Identity")
_MEANS = ("AveragePool", "GlobalAveragePool", "ReduceMean")
_MOST_ATOMS = 8
_GRID = 256.0


@dataclass(frozen=True)
class Atoms:
    """Numbers that a value takes with positive probability.

    anything: any number may be one. points: per atom, a float32 scalar or one number per channel [C], NaN where that
    channel has no such atom. lattice: all that `steps` make of these integers.
    """

    anything: bool = False
    points: tuple[FloatArray, ...] = ()
    lattice: Lattice | None = None
    steps: tuple[Step, ...] = ()

    @property
    def none(self) -> bool:
        """True if the value is continuous."""
        return not self.anything and not self.points and self.lattice is None

    @property
    def zero(self) -> bool:
        """True if 0 may be among them."""
        if self.lattice is not None and (
            not finite_at_ends(self.steps, self.lattice) or attains_zero(self.steps, self.lattice).any()
        ):
            return True
        return self.anything or any(bool((point == 0).any()) for point in self.points)

    @property
    def coarse(self) -> bool:
        """True if they lie on a coarse grid of binary fractions."""
        numbers = [*self.points, *(constant for step in self.steps for constant in step.constants)]
        return self.anything or all(_on_grid(number) for number in numbers)


ANYTHING = Atoms(anything=True)
CONTINUOUS = Atoms()


def _on_grid(numbers: FloatArray) -> bool:
    scaled = np.asarray(numbers[~np.isnan(numbers)], dtype=np.float64) * _GRID
    return bool((scaled == np.rint(scaled)).all())


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
        if node is None or not node.inputs or node.inputs[0] is None or self.ranges.codes(value) is not None:
            return ANYTHING
        if is_op(node, "Conv", "MatMul"):
            return self._product(node)
        if is_op(node, *_LAYOUT):
            return self._moved(node)
        if is_op(node, *_MEANS):
            inner = self.atoms(node.inputs[0])
            single = inner.none or (len(inner.points) == 1 and inner.lattice is None)
            return inner if single else _either(inner.zero or inner.coarse)
        run_time = [i for i in node.inputs if i is not None and constant_of(i) is None]
        if len(run_time) == 2 and is_op(node, "Add", "Sub"):
            return _sum(self.atoms(run_time[0]), self.atoms(run_time[1]), node.op_type)
        if len(run_time) == 2 and is_op(node, "Mul"):
            return _either(any(self.atoms(i).zero for i in run_time))
        if len(run_time) != 1:
            return ANYTHING
        step = step_of(node, run_time[0], _channel_axis(run_time[0]))
        return ANYTHING if isinstance(step, str) else _stepped(step, self.atoms(run_time[0]))

    def _product(self, node: ir.Node) -> Atoms:
        """Sums with real weights are continuous, except over a region of zeros and in channels of zero weights."""
        weights = constant_of(node.inputs[1])
        if weights is None or (len(node.inputs) > 2 and node.inputs[2] is not None):
            return ANYTHING
        lattice = self.ranges.lattice(node)
        if lattice is not None:
            return Atoms(lattice=lattice)
        rows = weights.reshape(-1, weights.shape[-1]).T if node.op_type == "MatMul" else weights
        dead = ~rows.reshape(rows.shape[0], -1).any(axis=1)
        blank = self._may_be_blank(node.inputs[0])
        if not blank and not dead.any():
            return CONTINUOUS
        return Atoms(points=(np.where(dead | blank, np.float32(0), np.float32(np.nan)),))

    def _may_be_blank(self, source: ir.Value) -> bool:
        """True if the whole receptive field may be 0."""
        codes = self.ranges.codes(source)
        if codes is None:
            return self.atoms(source).zero
        return codes.low <= 0 <= codes.high and codes.low % codes.step == 0

    def _moved(self, node: ir.Node) -> Atoms:
        inner = self.atoms(node.inputs[0])
        if is_op(node, *_KEEPS_CHANNELS) or inner.none or inner.anything:
            return inner
        before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
        if is_op(node, "Reshape") and before is not None and after is not None and before[:2] == after[:2]:
            return inner
        if inner.lattice is not None or is_op(node, "Pad"):
            return ANYTHING
        numbers = {float(number) for point in inner.points for number in np.unique(point[~np.isnan(point)])}
        return _limited([np.asarray(number, dtype=np.float32) for number in sorted(numbers)])


def _channel_axis(value: ir.Value) -> int:
    shape = static_shape(value)
    return 1 if shape is not None and len(shape) > 2 else -1


def _either(zero: bool) -> Atoms:
    return ANYTHING if zero else CONTINUOUS


def _limited(points: list[FloatArray]) -> Atoms:
    return Atoms(points=tuple(points)) if len(points) <= _MOST_ATOMS else ANYTHING


def _sum(a: Atoms, b: Atoms, op: str) -> Atoms:
    if a.none or b.none:
        return CONTINUOUS
    if a.points and b.points and a.lattice is None and b.lattice is None:
        return _limited([p + q if op == "Add" else p - q for p in a.points for q in b.points])
    return _either((a.zero and b.zero) or (a.coarse and b.coarse))


def _stepped(step: Step, inner: Atoms) -> Atoms:
    if inner.anything:
        return ANYTHING
    if inner.lattice is not None:
        return Atoms(lattice=inner.lattice, steps=(*inner.steps, step))
    points = [step(point) for point in inner.points]
    if step.op == "Relu":
        points.append(np.zeros((), np.float32))
    elif step.op in ("Clip", "Max", "Min"):
        points.extend(step.constants)
    elif step.op in ("Mul", "PRelu", "LeakyRelu") and (step.constants[0] == 0).any():
        points.append(np.where(step.constants[0] == 0, np.float32(0), np.float32(np.nan)))
    return _limited(points)
