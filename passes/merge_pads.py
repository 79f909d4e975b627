"""Merge an explicit Pad of the spatial axes into the window op that follows.

A zero Pad before Conv adds to its pads; a Pad of -1 or +1 before BinaryConv becomes its pad_value; and before a
MaxPool a Pad with a value that no element is below is what MaxPool's own pads do, as long as every window keeps a real
pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.ir.view import constant_of, ints, number, text
from qcompiler.passes.editing import insert, is_op, is_quantized_op, remove_dead, replace, static_shape
from qcompiler.passes.ranges import IntegerRanges
from qcompiler.passes.result import PassResult, Refusal


@dataclass(frozen=True)
class MergePads:
    """Merge Pad into Conv, BinaryConv, MaxPool and BinaryMaxPool."""

    name: str = "merge-pads"
    bound: float = 1e-6

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every window op that reads a Pad."""
        rewrites, refusals = 0, []
        ranges = IntegerRanges()
        for node in list(model.graph):
            window = is_op(node, "Conv", "MaxPool") or is_quantized_op(node, "BinaryConv", "BinaryMaxPool")
            if not window or len(node.outputs) != 1 or not is_op(node.inputs[0].producer(), "Pad"):
                continue
            outcome = _merge(node, node.inputs[0].producer(), ranges)
            if isinstance(outcome, str):
                refusals.append(Refusal(node.name or "", outcome))
            else:
                rewrites += 1
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


def _merge(node: ir.Node, pad: ir.Node, ranges: IntegerRanges) -> ir.Value | str:
    """The output of the merged op, or why the Pad must stay."""
    added, shape = spatial_pads(pad), static_shape(node.outputs[0])
    fill = constant_of(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] is not None else np.zeros(1)
    if added is None or fill is None or shape is None or "pads" not in node.attributes:
        return "the Pad before it is not a constant border of the spatial axes"
    value, own = float(fill.reshape(())), ints(node, "pads", (0, 0, 0, 0))
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    attributes["pads"] = [a + b for a, b in zip(own, added, strict=True)]
    if "MaxPool" in node.op_type:
        objection = _pool_objection(node, pad, value, added, ranges)
    else:
        objection = _conv_objection(node, value, own)
        if node.op_type == "BinaryConv":
            attributes["pad_value"] = value
    if objection:
        return objection
    dtype, inputs = node.outputs[0].dtype or ir.DataType.FLOAT, [pad.inputs[0], *node.inputs[1:]]
    merged = insert(node, node.op_type, inputs, shape, attributes, origins=(pad, node), dtype=dtype)
    replace(node.outputs[0], merged)
    return merged


def spatial_pads(pad: ir.Node) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right) of a constant-mode Pad of [N, C, H, W] that pads H and W only."""
    shape, pads = static_shape(pad.inputs[0]), constant_of(pad.inputs[1])
    if shape is None or len(shape) != 4 or pads is None or text(pad, "mode", "constant") != "constant":
        return None
    axes = constant_of(pad.inputs[3]) if len(pad.inputs) > 3 and pad.inputs[3] is not None else np.arange(4)
    if axes is None:
        return None
    before, after = np.zeros(4, np.int64), np.zeros(4, np.int64)
    before[axes % 4], after[axes % 4] = pads[: len(axes)], pads[len(axes) :]
    if before[:2].any() or after[:2].any() or (before < 0).any() or (after < 0).any():
        return None
    return int(before[2]), int(before[3]), int(after[2]), int(after[3])


def _conv_objection(node: ir.Node, value: float, own: tuple[int, ...]) -> str:
    if node.op_type == "Conv":
        return "" if value == 0 else f"the border is filled with {value:g}, and a real convolution pads with 0"
    if value not in (-1, 0, 1):
        return f"the border is filled with {value:g}, which is no binary code"
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
    if node.op_type == "BinaryMaxPool":
        flip = constant_of(node.inputs[1])
        above = above and flip is not None and bool((flip > 0).all())
    return "" if above else f"an element may be below the border's {value:g}"
