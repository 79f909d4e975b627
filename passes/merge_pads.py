"""Merge an explicit Pad of the spatial axes into the window op that follows.

A zero Pad before Conv adds to its pads; a Pad of -1 or +1 before IntegerConv becomes its pad_value; and before a
MaxPool a Pad with a value that no element is below is what MaxPool's own pads do, as long as every window keeps a real
pixel. Between the two there may be transposes, and reshapes that add or drop axes of extent 1 (a causal convolution
over [N, L, C], a 1-D one over [N, C, L]): the same layout changes of the unpadded value take their place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.analysis.ranges import IntArray, IntegerRanges
from qcompiler.ir.view import constant_of, ints, is_op, is_quantized_op, number, static_shape, text
from qcompiler.passes.editing import attributes_of, insert, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal


@dataclass(frozen=True)
class MergePads:
    """Merge Pad into Conv, IntegerConv, MaxPool and IntegerMaxPool."""

    name: str = "merge-pads"
    bound: float = 1e-6

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every window op that reads a Pad."""
        rewrites, refusals = 0, []
        ranges = IntegerRanges()
        for node in list(model.graph):
            window = is_op(node, "Conv", "MaxPool") or is_quantized_op(node, "IntegerConv", "IntegerMaxPool")
            border = _border_of(node.inputs[0]) if window and len(node.outputs) == 1 else None
            if border is None:
                continue
            outcome = _merge(node, border, ranges)
            if isinstance(outcome, str):
                refusals.append(Refusal(node.name or "", outcome))
            else:
                rewrites += 1
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


@dataclass(frozen=True)
class _Border:
    """A Pad, and the transposes and reshapes from it to a window op, in order."""

    pad: ir.Node
    layouts: tuple[ir.Node, ...]


def _border_of(value: ir.Value) -> _Border | None:
    layouts: list[ir.Node] = []
    node = value.producer()
    while is_op(node, "Transpose", "Reshape"):
        layouts.insert(0, node)
        node = node.inputs[0].producer()
    return _Border(node, tuple(layouts)) if is_op(node, "Pad") else None


def _merge(node: ir.Node, border: _Border, ranges: IntegerRanges) -> ir.Value | str:
    """The output of the merged op, or why the Pad must stay."""
    pad = border.pad
    added, shape = _spatial(_moved_pads(border)), static_shape(node.outputs[0])
    fill = constant_of(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] is not None else np.zeros(1)
    if added is None or fill is None or shape is None or "pads" not in node.attributes:
        return "the Pad before it is not a constant border of the spatial axes"
    value, own = float(fill.reshape(())), ints(node, "pads", (0, 0, 0, 0))
    attributes = attributes_of(node)
    attributes["pads"] = [a + b for a, b in zip(own, added, strict=True)]
    if "MaxPool" in node.op_type:
        objection = _pool_objection(node, pad, value, added, ranges)
    else:
        objection = _conv_objection(node, pad, value, own, ranges)
        if node.op_type == "IntegerConv":
            attributes["pad_value"] = value
    if objection:
        return objection
    dtype = node.outputs[0].dtype or ir.DataType.FLOAT
    inputs = [_without_border(node, border), *node.inputs[1:]]
    merged = insert(node, node.op_type, inputs, shape, attributes, origins=(pad, node), dtype=dtype)
    replace(node.outputs[0], merged)
    return merged


def _pads_of(pad: ir.Node) -> IntArray | None:
    """What a constant-mode Pad adds before and after each axis, int64 [2, rank]; None if that is not constant."""
    shape, pads = static_shape(pad.inputs[0]), constant_of(pad.inputs[1])
    if shape is None or pads is None or text(pad, "mode", "constant") != "constant":
        return None
    rank = len(shape)
    axes = constant_of(pad.inputs[3]) if len(pad.inputs) > 3 and pad.inputs[3] is not None else np.arange(rank)
    if axes is None:
        return None
    added = np.zeros((2, rank), np.int64)
    added[:, axes % rank] = pads.reshape(2, -1)
    return added


def _moved_pads(border: _Border) -> IntArray | None:
    """The pads in the axes of the window op; None where a reshape takes axes of other extents than 1 apart."""
    added = _pads_of(border.pad)
    for node in border.layouts:
        before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
        if added is None or before is None or after is None:
            return None
        if is_op(node, "Transpose"):
            added = added[:, ints(node, "perm", tuple(reversed(range(len(before)))))]
            continue
        kept, taken = ([i for i, size in enumerate(shape) if size != 1] for shape in (before, after))
        dropped = [i for i, size in enumerate(before) if size == 1]
        if [before[i] for i in kept] != [after[i] for i in taken] or added[:, dropped].any():
            return None
        moved = np.zeros((2, len(after)), np.int64)
        moved[:, taken] = added[:, kept]
        added = moved
    return added


def _spatial(added: IntArray | None) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right) of pads of [N, C, H, W] that touch H and W only."""
    if added is None or added.shape[1] != 4 or added[:, :2].any() or (added < 0).any():
        return None
    return int(added[0, 2]), int(added[0, 3]), int(added[1, 2]), int(added[1, 3])


def _without_border(anchor: ir.Node, border: _Border) -> ir.Value:
    """The layout changes again, of the value that is not padded."""
    value = border.pad.inputs[0]
    dtype = value.dtype or ir.DataType.FLOAT
    for node in border.layouts:
        shape = static_shape(value) or ()
        if is_op(node, "Transpose"):
            perm = ints(node, "perm", tuple(reversed(range(len(shape)))))
            moved = [shape[axis] for axis in perm]
            value = insert(anchor, "Transpose", [value], moved, {"perm": list(perm)}, origins=(node,), dtype=dtype)
            continue
        value = _reshaped(anchor, node, value, dtype)
    return value


def _reshaped(anchor: ir.Node, node: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """A reshape that adds or drops axes of extent 1, of a value whose other extents are smaller than they were."""
    before, after = static_shape(node.inputs[0]) or (), static_shape(node.outputs[0]) or ()
    sizes = iter(size for size, padded in zip(static_shape(value) or (), before, strict=True) if padded != 1)
    shape = [1 if size == 1 else next(sizes) for size in after]
    return insert(anchor, "Reshape", [value, np.asarray(shape, np.int64)], shape, origins=(node,), dtype=dtype)


def _conv_objection(node: ir.Node, pad: ir.Node, value: float, own: tuple[int, ...], ranges: IntegerRanges) -> str:
    if node.op_type == "Conv":
        return "" if value == 0 else f"the border is filled with {value:g}, and a real convolution pads with 0"
    codes = ranges.codes(pad.inputs[0])
    if value != 0 and (codes is None or not codes.low <= value <= codes.high or value != round(value)):
        return f"the border is filled with {value:g}, which is no code of the image"
    if any(own) and number(node, "pad_value", 0.0) != value:
        return "the Pad and the convolution fill the border with different values"
    return ""


def _pool_objection(
    node: ir.Node, pad: ir.Node, value: float, added: tuple[int, int, int, int], ranges: IntegerRanges
) -> str:
    kernel, own = ints(node, "kernel_shape", (1, 1)), ints(node, "pads", (0, 0, 0, 0))
    if any(a + b >= kernel[i % 2] for i, (a, b) in enumerate(zip(added, own, strict=True))):
        return "the border is as wide as the window, so a window may hold no pixel"
    codes = ranges.codes(pad.inputs[0])
    above = np.isneginf(value) or (codes is not None and codes.low >= value)
    above = above or (value <= 0 and is_op(pad.inputs[0].producer(), "Relu", "Sigmoid"))
    if node.op_type == "IntegerMaxPool":
        flip = constant_of(node.inputs[1])
        above = above and flip is not None and bool((flip > 0).all())
    return "" if above else f"an element may be below the border's {value:g}"
