"""Make quantized layers free of offsets, so that signs remain: activations s * a + t and weights alpha * w + beta.

A layer is linear, so for one number t and a beta per output channel

    layer(u + t, alpha * w + beta) = layer(u, alpha * w) + beta * layer(u, 1) + layer(t, alpha * w + beta).

The first product has weights of one magnitude, the second is a window sum, one channel for all of them, and the third
is constant; zeros that pad the border make it another number there. Activations b ± a and weights of two values per
channel (AdaBin) become one binary product and one binary window sum. The bound is that of a sum in another order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.borders import layer_of_constant
from qcompiler.analysis.levels import levels_of
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.analysis.weights import signs_and_scales, two_values
from qcompiler.ir.provenance import NOTE, REASON
from qcompiler.ir.traits import Trait, channel_axis, has, weight_axis
from qcompiler.ir.view import constant_of, integer, is_op, static_shape
from qcompiler.passes.editing import attributes_of, insert, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal

FloatArray = npt.NDArray[np.float32]

# two or three levels, as signs have; chosen
_MOST_STEPS = 2
# elements of what offsets add, 16 MiB of the library; chosen
_LARGEST_CONSTANT = 2**22
_LAYOUTS = ("Reshape", "Transpose", "MaxPool", "Slice", "Identity")


@dataclass(frozen=True)
class ExtractOffsets:
    """Take offsets out of Conv and MatMul on activations of two or three levels."""

    name: str = "extract-offsets"
    bound: float = 1e-4

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every such layer whose weights then have one magnitude per output channel."""
        rewrites, refusals = 0, []
        ranges = IntegerRanges()
        for node in [node for node in model.graph if is_op(node, "Conv", "MatMul")]:
            outcome = _extract(node, ranges)
            if isinstance(outcome, str):
                node.metadata_props[REASON] = outcome
                refusals.append(Refusal(node.name or "", outcome))
            else:
                rewrites += outcome
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


@dataclass(frozen=True)
class _Shifted:
    """A value x + offset: x, and the layout changes of the sum in between, in order."""

    x: ir.Value
    offset: float
    layouts: tuple[ir.Node, ...]


def _extract(node: ir.Node, ranges: IntegerRanges) -> int | str:
    """1 if rewritten, 0 if there is no offset, or why it must stay."""
    weights, shape = constant_of(node.inputs[1]), static_shape(node.outputs[0])
    rank, axis = 4 if has(node, Trait.CONVOLVES) else 2, weight_axis(node)
    if (
        weights is None
        or weights.ndim != rank
        or shape is None
        or len(node.inputs) > 2
        or not _few_levels(node, ranges)
    ):
        return 0
    shifted = _Shifted(node.inputs[0], 0.0, ())
    if ranges.codes(node.inputs[0]) is None:
        shifted = _shifted(node.inputs[0])
    split = two_values(weights, axis)
    centred, mean = split if split is not None else (weights, np.zeros(1, np.float32))
    if (shifted.offset == 0 and not mean.any()) or signs_and_scales(centred, axis) is None:
        return 0
    if mean.any() and integer(node, "group", 1) != 1:
        return "its weights take two values that are no +c and -c, in groups; subtract their mean"
    constant = _of_constant(node, shifted.offset, weights)
    if constant.size > _LARGEST_CONSTANT:
        return "its activations have an offset, and zeros pad a large image; pad with the offset"
    _rewrite(node, shifted, centred, mean, constant)
    return 1


def _few_levels(node: ir.Node, ranges: IntegerRanges) -> bool:
    shape = static_shape(node.inputs[0])
    levels = None if shape is None else levels_of(node.inputs[0], channel_axis(node, len(shape)), ranges)
    return levels is not None and bool(np.rint((levels.high - levels.low) / levels.step).max() <= _MOST_STEPS)


def _shifted(value: ir.Value) -> _Shifted:
    layouts: list[ir.Node] = []
    found = value
    while is_op(node := found.producer(), *_LAYOUTS) and len(node.outputs) == 1:
        layouts.insert(0, node)
        found = node.inputs[0]
    if is_op(node, "Add", "Sub") and static_shape(node.outputs[0]) is not None:
        for x, other in ((0, 1), (1, 0)) if node.op_type == "Add" else ((0, 1),):
            constant = constant_of(node.inputs[other])
            same_shape = static_shape(node.inputs[x]) == static_shape(node.outputs[0])
            if constant is not None and constant.size == 1 and same_shape:
                offset = float(constant.reshape(()))
                return _Shifted(node.inputs[x], offset if node.op_type == "Add" else -offset, tuple(layouts))
    return _Shifted(value, 0.0, ())


def _of_constant(node: ir.Node, offset: float, weights: FloatArray) -> FloatArray:
    """What the layer makes of activations that are all `offset`: [O] for MatMul, else [1, O, 1, 1] or [1, O, H, W]."""
    return (offset * layer_of_constant(node, weights)).astype(np.float32)


def _rewrite(node: ir.Node, shifted: _Shifted, centred: FloatArray, mean: FloatArray, constant: FloatArray) -> None:
    shape, x = static_shape(node.outputs[0]) or (), shifted.x
    for layout in shifted.layouts:
        moved = attributes_of(layout)
        target = static_shape(layout.outputs[0]) or ()
        x = insert(node, layout.op_type, [x, *layout.inputs[1:]], target, moved, origins=(layout,))
    attributes = attributes_of(node)
    total = insert(node, node.op_type, [x, centred], shape, attributes)
    total.producer().metadata_props[NOTE] = "offsets of its activations or weights are taken out of it"
    if mean.any():
        convolves = has(node, Trait.CONVOLVES)
        ones = np.ones((1, *centred.shape[1:]) if convolves else (centred.shape[0], 1), np.float32)
        sums = (shape[0], 1, *shape[2:]) if convolves else (*shape[:-1], 1)
        window = insert(node, node.op_type, [x, ones], sums, attributes)
        term = insert(node, "Mul", [window, mean.reshape(1, -1, 1, 1) if convolves else mean], shape)
        total = insert(node, "Add", [total, term], shape)
    if constant.any():
        total = insert(node, "Add", [total, constant], shape)
    replace(node.outputs[0], total)
