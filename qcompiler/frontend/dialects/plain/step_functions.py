"""Which values are step functions of another value: the analysis behind the recognition of binarization.

Whatever way a file writes a sign (Sign, comparisons, Where, Cast, arithmetic on {0, 1}, rounding of a clipped value,
signs of shifted signs), the result takes one value below a threshold of its source, one at it and one above. The three
values are computed with the operators' own float32 arithmetic, so equality with the original is exact for every
number. NaN is outside: Binarize maps it to -1, comparisons and Sign treat it in other ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.frontend.dialects.plain.known_constants import Array, KnownConstants, apply, reduced
from qcompiler.ir.ops import DOMAIN
from qcompiler.ir.view import number


@dataclass(frozen=True)
class StepFunction:
    """`below` where source < threshold, `at` where they are equal, `above` where source > threshold.

    All four arrays broadcast against the source; those that are constant are 0-dimensional. threshold is float32.
    """

    source: ir.Value
    threshold: Array
    below: Array
    at: Array
    above: Array

    def same_place(self, other: StepFunction) -> bool:
        """Whether both step at the same threshold of the same source."""
        return self.source is other.source and np.array_equal(self.threshold, other.threshold)

    @property
    def as_signs(self) -> StepFunction | None:
        """+1 where a boolean step is true and -1 where it is false; None where the step is not boolean."""
        if self.above.dtype != np.bool_:
            return None
        below, at, above = (np.where(part, np.float32(1), np.float32(-1)) for part in (self.below, self.at, self.above))
        return replace(self, below=reduced(below), at=reduced(at), above=reduced(above))

    @property
    def symmetric(self) -> bool:
        """Whether the values are a scale times a code: -s below and s above, and s, -s or 0 at the threshold."""
        return self.above.dtype == np.float32 and self.zero is not None and bool(self.above.any())

    @property
    def zero(self) -> float | None:
        """The code at the threshold, None where the step is not symmetric."""
        if not np.array_equal(self.below, -self.above):
            return None
        for code, value in ((1.0, self.above), (-1.0, self.below), (0.0, np.zeros_like(self.above))):
            if bool(np.equal(self.at, value).all()):
                return code
        return None


def step_function_of(
    node: ir.Node, known: Mapping[ir.Value, StepFunction], constants: KnownConstants
) -> StepFunction | None:
    """The step function that the first output of `node` is, given those of its inputs; None if it is none."""
    carried = _carried(node, known, constants)
    if carried is not None and (_is_uniform(carried) or not _starts(node)):
        return carried
    if carried is not None and (carried.as_signs or carried).symmetric:
        return carried
    started = _started(node, constants)
    return carried if started is None else started


def _is_uniform(step: StepFunction) -> bool:
    return not (step.below.shape or step.at.shape or step.above.shape)


def _starts(node: ir.Node) -> bool:
    return node.op_type in ("Sign", "Binarize") or node.op_type in _COMPARISONS


def _carried(node: ir.Node, known: Mapping[ir.Value, StepFunction], constants: KnownConstants) -> StepFunction | None:
    """An elementwise operator on steps at one place, and on constants."""
    steps = [known[value] for value in node.inputs if value in known]
    if not steps or not all(step.same_place(steps[0]) for step in steps):
        return None
    columns: list[list[Array | None]] = [[], [], []]
    for value in node.inputs:
        step, constant = known.get(value), constants.of(value)
        if step is None and constant is None and value is not None:
            return None
        parts = (step.below, step.at, step.above) if step is not None else (constant,) * 3
        for column, part in zip(columns, parts, strict=True):
            column.append(part)
    below, at, above = (apply(node, column) for column in columns)
    if below is None or at is None or above is None:
        return None
    return replace(steps[0], below=below, at=at, above=above)


def _started(node: ir.Node, constants: KnownConstants) -> StepFunction | None:
    """A step that begins at this node."""
    if node.op_type == "Sign" and node.domain == "":
        return _at_zero(node, 0.0, constants)
    if node.op_type == "Binarize" and node.domain == DOMAIN:
        return _at_zero(node, number(node, "zero", 1.0), constants)
    if node.op_type in _COMPARISONS and node.domain == "":
        return _comparison(node, constants)
    return None


def _at_zero(node: ir.Node, zero: float, constants: KnownConstants) -> StepFunction | None:
    below, at, above = (np.float32(value) for value in (-1, zero, 1))
    return _step(node.inputs[0], np.float32(0), (below, at, above), constants)


def _comparison(node: ir.Node, constants: KnownConstants) -> StepFunction | None:
    left, right = node.inputs[:2]
    outcomes = _COMPARISONS[node.op_type]
    threshold = constants.of(right)
    source = left
    if threshold is None:
        threshold, source, outcomes = constants.of(left), right, outcomes[::-1]
    if threshold is None or not bool(np.isfinite(threshold).all()):
        return None
    return _step(source, threshold, outcomes, constants)


def _step(
    source: ir.Value | None, threshold: npt.ArrayLike, values: Sequence[npt.ArrayLike], constants: KnownConstants
) -> StepFunction | None:
    if source is None or source.dtype != ir.DataType.FLOAT:
        return None
    below, at, above = (np.asarray(value) for value in values)
    positive_zero = np.float32(0)
    step = StepFunction(
        source, np.asarray(reduced(np.asarray(threshold, np.float32)) + positive_zero), below, at, above
    )
    return _before_clips(step, constants)


def _before_clips(step: StepFunction, constants: KnownConstants) -> StepFunction:
    """The same step of the value before a Clip, whose bounds enclose the threshold or touch it."""
    while (bounds := _clip_bounds(step.source.producer(), constants)) is not None:
        low, high = bounds
        if bool((step.threshold < low).any() or (step.threshold > high).any()):
            break
        touched_low, touched_high = step.threshold == low, step.threshold == high
        node = step.source.producer()
        assert node is not None and node.inputs[0] is not None
        step = replace(
            step,
            source=node.inputs[0],
            below=reduced(np.where(touched_low, step.at, step.below)),
            above=reduced(np.where(touched_high, step.at, step.above)),
        )
    return step


def _clip_bounds(node: ir.Node | None, constants: KnownConstants) -> tuple[np.float32, np.float32] | None:
    """Bounds of a Clip by constants or a Relu, with low < high."""
    if node is None or node.domain != "":
        return None
    low, high = np.float32(-np.inf), np.float32(np.inf)
    if node.op_type == "Relu":
        low = np.float32(0)
    elif node.op_type == "Clip":
        bounds = [low, high]
        for index, value in enumerate(node.inputs[1:3]):
            if value is not None:
                constant = constants.of(value)
                if constant is None or constant.size != 1:
                    return None
                bounds[index] = np.float32(constant.reshape(()))
        low, high = bounds
    else:
        return None
    return (low, high) if low < high else None


# Below, at and above the threshold on the right-hand side.
_COMPARISONS: dict[str, tuple[bool, bool, bool]] = {
    "Greater": (False, False, True),
    "GreaterOrEqual": (False, True, True),
    "Less": (True, False, False),
    "LessOrEqual": (True, True, False),
    "Equal": (False, True, False),
}
