"""Which standard ops can run on channels-last tensors, and how their axes change there."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, integer, ints, shape_of

LAYOUT = "qcompiler.layout"
CHANNELS_LAST = "channels_last"


# position of each NCHW axis in NHWC
AXIS = {0: 0, 1: 3, 2: 1, 3: 2}


def can_be_channels_last(node: ir.Node) -> bool:
    """Whether a standard op over rank-4 float tensors can be told to run channels-last."""
    if not is_flexible(node) or len(node.outputs) != 1:
        return False
    out = node.outputs[0]
    run_time = [value for value in node.inputs if value is not None and constant_of(value) is None]
    if out.dtype != ir.DataType.FLOAT or not run_time:
        return False
    if any(value.dtype != ir.DataType.FLOAT or len(shape_of(value)) != 4 for value in run_time):
        return False
    if has(node, Trait.REDUCES):
        return _reduces_cleanly(node)
    return len(shape_of(out)) == 4


def is_flexible(node: ir.Node) -> bool:
    """Whether an op has a form for channels-last tensors, with other axes at most."""
    if node.domain != "":
        return False
    slides_over_all = node.op_type in ("GlobalAveragePool", "GlobalMaxPool")
    return has(node, Trait.POINTWISE, Trait.REDUCES) or slides_over_all or node.op_type == "Concat"


def _reduces_cleanly(node: ir.Node) -> bool:
    """Reductions keep the rank, or leave [N, C]."""
    axes = reduced_axes(node)
    return axes is not None and (integer(node, "keepdims", 1) == 1 or axes == (2, 3))


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes of a reduction over a rank-4 tensor, non-negative and sorted; None if they are not constant."""
    if "axes" in node.attributes:
        axes = ints(node, "axes", ())
    elif len(node.inputs) > 1 and node.inputs[1] is not None:
        constant = constant_of(node.inputs[1])
        if constant is None:
            return None
        axes = tuple(int(axis) for axis in np.asarray(constant).reshape(-1))
    else:
        axes = (0, 1, 2, 3)
    return tuple(sorted(axis % 4 for axis in axes))


def channels_last_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """NCHW shape as NHWC; other ranks unchanged."""
    return (shape[0], shape[2], shape[3], shape[1]) if len(shape) == 4 else shape


def is_marked(node: ir.Node) -> bool:
    """Whether the layout pass put the node on the channels-last side."""
    return bool(node.metadata_props.get(LAYOUT) == CHANNELS_LAST)
