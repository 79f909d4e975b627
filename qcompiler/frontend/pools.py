"""Pools whose windows overhang the padded image: the standard's opsets and onnxruntime tell different stories of them.

With ceil_mode the last window may overhang at the end. One that would start in the padding at the end does not exist in
onnxruntime, at any opset, nor in torch; the shape inference of opsets before 22 counts it. Without ceil_mode
onnxruntime rounds the number of windows towards zero, so that a single window can be larger than the padded image;
before opset 19 its average then is over all of the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label


@dataclass(frozen=True)
class Axis:
    """The windows along one axis of the image; `kernel` is the extent from the first to the last element.

    before, after: padding, as stated.
    """

    size: int
    kernel: int
    stride: int
    before: int
    after: int

    def count(self, ceil: bool) -> int:
        """How many windows onnxruntime makes."""
        room = self.size + self.before + self.after - self.kernel
        if not ceil:
            return int(room / self.stride) + 1
        windows = math.ceil(room / self.stride) + 1
        return windows - 1 if (windows - 1) * self.stride >= self.size + self.before else windows

    def drops(self) -> bool:
        """Whether rounding up gives a window that starts in the padding at the end."""
        room = self.size + self.before + self.after - self.kernel
        return self.count(ceil=True) < math.ceil(room / self.stride) + 1

    def fitting(self, count: int) -> int:
        """Padding at the end with which the last of `count` windows ends where the padding does."""
        return (count - 1) * self.stride + self.kernel - self.size - self.before


def pool(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """MaxPool, AveragePool and LpPool of any opset."""
    axes = _axes(emitter, node)
    mode = attributes.text(node, "auto_pad", "NOTSET")
    if mode.startswith("SAME"):
        _spell_same(node, axes, lower=mode == "SAME_LOWER")
        emitter.place(node)
        return
    ceil = bool(attributes.integer(node, "ceil_mode", 0))
    counts = [axis.count(ceil) for axis in axes]
    if any(count < 1 for count in counts):
        raise InvalidModel(
            f"{node.op_type} gives an empty result: its window does not fit into its padded image",
            node=label(node),
            remedy="use a larger image or a smaller window",
        )
    includes = node.op_type == "AveragePool" and bool(attributes.integer(node, "count_include_pad", 0))
    if ceil and any(axis.drops() for axis in axes):
        _drop_last(emitter, node, axes)
    elif not ceil and includes and opset < 19:
        # a single window that overhangs ends within the padding instead, which counts
        _set_ends(node, axes, [max(axis.after, axis.fitting(n)) for axis, n in zip(axes, counts, strict=True)])
    emitter.place(node)


def axes_and_counts(emitter: Emitter, node: onnx.NodeProto) -> list[tuple[Axis, int]]:
    """For each axis of the image, the windows of a pool that is to be spelled out, and how many onnxruntime makes.

    Padding becomes stated in the attribute pads.
    """
    axes, mode = _axes(emitter, node), attributes.text(node, "auto_pad", "NOTSET")
    if mode.startswith("SAME"):
        _spell_same(node, axes, lower=mode == "SAME_LOWER")
        axes = _axes(emitter, node)
    ceil = bool(attributes.integer(node, "ceil_mode", 0))
    counts = [axis.count(ceil) for axis in axes]
    if not axes or min(counts) < 1 or min(axis.before for axis in axes) < 0:
        raise InvalidModel(
            f"{node.op_type} has windows that do not fit its image of shape {list(emitter.shape(node.input[0])[2:])}",
            node=label(node),
            remedy="check kernel_shape, strides and pads",
        )
    return list(zip(axes, counts, strict=True))


def _axes(emitter: Emitter, node: onnx.NodeProto) -> list[Axis]:
    """The axes of a pool; none where its attributes do not fit each other, which inference refuses."""
    kernel = attributes.integers(node, "kernel_shape") or ()
    sizes = emitter.shape(node.input[0])[2:]
    ones = (1,) * len(kernel)
    strides = attributes.integers(node, "strides") or ones
    dilations = attributes.integers(node, "dilations") or ones
    stated = attributes.integers(node, "pads") if attributes.text(node, "auto_pad", "NOTSET") == "NOTSET" else None
    pads = stated or (0,) * (2 * len(kernel))
    fits = [len(sizes)] * 3 == [len(kernel), len(strides), len(dilations)] and len(pads) == 2 * len(kernel)
    if not fits or min(strides, default=0) < 1:
        return []
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    ends = pads[len(kernel) :]
    return [Axis(*values) for values in zip(sizes, extents, strides, pads, ends, strict=False)]


def _spell_same(node: onnx.NodeProto, axes: Sequence[Axis], lower: bool) -> None:
    """State the padding that gives as many windows as strides fit into the image, rounded up with or without ceil_mode.

    Refuses what the standard and onnxruntime do not see alike: dilated windows, and those much smaller than a stride.
    """
    needs = [(-(-axis.size // axis.stride) - 1) * axis.stride + axis.kernel - axis.size for axis in axes]
    dilated = max(attributes.integers(node, "dilations") or (1,)) > 1
    if dilated or min(needs, default=0) < -1:
        raise UnsupportedModel(
            f"auto_pad of {node.op_type} with {'dilations' if dilated else 'strides beyond the window'}",
            node=label(node),
            remedy="give the padding in the attribute pads",
        )
    small = [max(need, 0) // 2 for need in needs]
    large = [max(need, 0) - half for need, half in zip(needs, small, strict=True)]
    befores = large if lower else small
    ends = small if lower else large
    attributes.state(node, "ceil_mode", 0)
    _set_ends(node, [replace(axis, before=before) for axis, before in zip(axes, befores, strict=True)], ends)


def _drop_last(emitter: Emitter, node: onnx.NodeProto, axes: Sequence[Axis]) -> None:
    """State the windows that exist so that no shape inference counts another one."""
    if all(axis.drops() or axis.count(ceil=True) == axis.count(ceil=False) for axis in axes):
        attributes.state(node, "ceil_mode", 0)
        return
    ends = [axis.fitting(axis.count(ceil=True)) if axis.drops() else axis.after for axis in axes]
    if min(ends) < 0:
        _cut(emitter, node, axes, ends)
    _set_ends(node, axes, [max(end, 0) for end in ends])


def _cut(emitter: Emitter, node: onnx.NodeProto, axes: Sequence[Axis], ends: Sequence[int]) -> None:
    """Take the end that no window reads off the image: padding that is negative there."""
    if len(node.output) > 1:
        raise UnsupportedModel(
            f"{node.op_type} with ceil_mode and indices skips the end of the image",
            node=label(node),
            remedy="slice the image before the pool",
        )
    read = [axis.size + min(end, 0) for axis, end in zip(axes, ends, strict=True)]
    bounds = [emitter.constant(values, "bound", np.int64) for values in ([0] * len(read), read)]
    along = emitter.constant(range(2, 2 + len(read)), "axes", np.int64)
    node.input[0] = emitter.op("Slice", [node.input[0], *bounds, along])


def _set_ends(node: onnx.NodeProto, axes: Sequence[Axis], ends: Sequence[int]) -> None:
    if axes:
        attributes.state(node, "auto_pad", "NOTSET")
        attributes.state(node, "pads", [*(axis.before for axis in axes), *ends])
