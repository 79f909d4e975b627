"""Whole numbers added to a layer of wide sums join its 32-bit sums, which are then rounded to float32 once.

That is how integer operators of files (QLinearConv, QGemm) add their biases. Sums below 2**24 are exact in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.ranges import WIDE, IntegerRanges
from qcompiler.ir.ops import is_wide
from qcompiler.ir.traits import channel_axis
from qcompiler.ir.view import constant_of, is_op, only_consumer, static_shape
from qcompiler.passes.editing import attributes_of, insert, remove_dead, replace
from qcompiler.passes.result import PassResult

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FuseWideBiases:
    """Make the constants that are added to wide sums an operand of the layer."""

    name: str = "fuse-wide-biases"
    bound: float = 1e-5
    """The sums before were rounded at every addition."""

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every layer with such a constant per channel, or several in a row."""
        ranges = IntegerRanges()
        layers = [node for node in model.graph if is_wide(node) and len(node.inputs) == 2]
        rewrites = sum(_fuse(node, ranges) for node in layers)
        remove_dead(model.graph)
        return PassResult(self.name, rewrites)


def _fuse(node: ir.Node, ranges: IntegerRanges) -> int:
    value, shape, lattice = node.outputs[0], static_shape(node.outputs[0]), ranges.lattice(node)
    if shape is None or lattice is None:
        return 0
    axis, total = channel_axis(node, len(shape)), np.zeros(len(lattice.low), np.int64)
    while (reader := only_consumer(value)) is not None and (found := _added(reader, value, axis)) is not None:
        total, value = total + found, reader.outputs[0]
    low, high = lattice.low + total, lattice.high + total
    if value is node.outputs[0] or max(np.abs(low).max(), np.abs(high).max(), np.abs(total).max()) >= WIDE:
        return 0
    last = value.producer()
    layout = [-1, *(1,) * (-axis - 1)]
    bias = total.astype(np.int32).reshape(layout)
    origins = (node, last)
    replace(value, insert(last, node.op_type, [*node.inputs, bias], shape, attributes_of(node), origins=origins))
    return 1


def _added(node: ir.Node, value: ir.Value, axis: int) -> IntArray | None:
    """Whole numbers per channel, or one for all, that a node adds to a value; None if it does anything else."""
    if not is_op(node, "Add"):
        return None
    constant = constant_of(node.inputs[1 if node.inputs[0] is value else 0])
    shape = static_shape(value) or ()
    if constant is None or constant.dtype != np.float32 or static_shape(node.outputs[0]) != shape:
        return None
    full = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
    per_channel = full.size == full.shape[axis]
    if not per_channel or not np.isfinite(full).all() or not np.array_equal(full, np.rint(full)):
        return None
    return full.reshape(-1).astype(np.int64) if np.abs(full).max() < WIDE else None
