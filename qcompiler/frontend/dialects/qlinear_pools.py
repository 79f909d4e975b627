"""com.microsoft's average pools on 8-bit integers, as onnxruntime computes them.

QLinearGlobalAveragePool<channels_last>(x, x_scale, x_zero, y_scale, y_zero), and QLinearAveragePool with one window
over all of the image, for n pixels:
    y = saturate(half_even(float32(sum (x - x_zero)) * (x_scale / (y_scale * n))) + y_zero)
QLinearAveragePool<auto_pad, ceil_mode, channels_last, count_include_pad, kernel_shape, pads, strides>(the same):
    y = saturate(half_even(sum((x - x_zero) * x_scale) / count / y_scale + y_zero))
    with a sum of float32, row by row. Codes lie on a grid, so halves are common and rounding errors of the sum decide
    them: the sum is spelled out in this order.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.canonical_quantizers import numbers
from qcompiler.frontend.dialects.integer_operands import (
    Integers,
    integers,
    kind_of,
    product,
    quantized,
    requantization,
    scales,
    stored,
)
from qcompiler.frontend.dialects.parameters import FloatArray
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.pools import Axis, axes_and_counts
from qcompiler.frontend.structure import label
from qcompiler.ir.quantizing import SHIFT_ROUND

_T = onnx.TensorProto
# elements of a window whose sum is spelled out; chosen
_LARGEST_WINDOW = 256
# what a code and its zero point differ by at most
_MOST = 255
# up to here float32 holds every sum of codes
_EXACT_PIXELS = 2**24 // _MOST


def global_average(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a QLinearGlobalAveragePool."""
    x = _channels_first(emitter, node)
    _finish(emitter, node, _global(emitter, node, x))


def average(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a QLinearAveragePool."""
    x, kind = _channels_first(emitter, node), kind_of(emitter, node, 0)
    pool = onnx.helper.make_node(node.op_type, [x.codes], node.output, name=label(node))
    pool.attribute.extend(node.attribute)
    axes = [_Windows(*axis) for axis in axes_and_counts(emitter, pool)]
    if all(each.axis.before == 0 == each.axis.after and each.axis.size == each.axis.kernel for each in axes):
        _finish(emitter, node, _global(emitter, node, x))
        return
    if math.prod(each.axis.kernel for each in axes) > _LARGEST_WINDOW:
        raise UnsupportedModel(
            f"{node.op_type} has windows of more than {_LARGEST_WINDOW} elements",
            node=label(node),
            remedy="pool in two steps, or over the whole image",
        )
    # the largest sum must be a number, and its code
    most = np.asarray(math.prod(each.axis.kernel for each in axes) * _MOST, np.float32)
    requantization(node, scales(emitter, node, 1), most, scales(emitter, node, 3))
    scale = emitter.constant(scales(emitter, node, 1), "scale")
    total = _sum(emitter, numbers(emitter, x.codes, scale, x.zero, ()), axes)
    mean = emitter.op("Div", [total, emitter.constant(_sizes(node, axes), "count")])
    _finish(emitter, node, quantized(emitter, node, mean, 4, kind, scales(emitter, node, 3), SHIFT_ROUND))


@dataclass(frozen=True)
class _Windows:
    """How many windows there are along one axis of the image."""

    axis: Axis
    count: int

    def inside(self) -> npt.NDArray[np.int64]:
        """How many elements of each window lie in the image, int64 [count]."""
        first = np.arange(self.count) * self.axis.stride - self.axis.before
        return np.minimum(first + self.axis.kernel, self.axis.size) - np.maximum(first, 0)


def _channels_first(emitter: Emitter, node: onnx.NodeProto) -> Integers:
    x = integers(emitter, node, 0, 2)
    rank = len(emitter.shape(x.codes))
    if rank < 3:
        raise InvalidModel(
            f"{node.op_type} of a value with {rank} axes, expected at least 3",
            node=label(node),
            remedy="export it again",
        )
    if not attributes.integer(node, "channels_last", 0):
        return x
    return Integers(emitter.op("Transpose", [x.codes], perm=[0, rank - 1, *range(1, rank - 1)]), x.zero)


def _finish(emitter: Emitter, node: onnx.NodeProto, found: str) -> None:
    rank = len(emitter.shape(found))
    if attributes.integer(node, "channels_last", 0):
        found = emitter.op("Transpose", [found], perm=[0, *range(2, rank), 1])
    stored(emitter, found, node.output, kind_of(emitter, node, 0))


def _global(emitter: Emitter, node: onnx.NodeProto, x: Integers) -> str:
    image = emitter.shape(x.codes)[2:]
    count, unit = np.asarray(math.prod(image), np.float32), np.asarray(1, np.float32)
    with np.errstate(over="ignore"):
        whole = np.asarray(scales(emitter, node, 3) * count, np.float32)
    factor = requantization(node, scales(emitter, node, 1), unit, whole)
    axes = emitter.constant(range(2, 2 + len(image)), "axes", np.int64)
    value = x.centred(emitter)
    if math.prod(image) <= _EXACT_PIXELS:
        total = emitter.op("ReduceSum", [value, axes])
    else:
        wide = emitter.op("Cast", [value], to=_T.INT32)
        total = emitter.op("Cast", [emitter.op("ReduceSum", [wide, axes])], to=_T.FLOAT)
    return quantized(emitter, node, product(emitter, total, factor, ()), 4, kind_of(emitter, node, 0))


def _sum(emitter: Emitter, value: str, axes: Sequence[_Windows]) -> str:
    """The sums of all windows, element by element in their order; padding adds 0."""
    pads = [0, 0, *(each.axis.before for each in axes), 0, 0, *(max(each.axis.fitting(each.count), 0) for each in axes)]
    if any(pads):
        value = emitter.op("Pad", [value, emitter.constant(pads, "pads", np.int64)])
    along = emitter.constant(range(2, 2 + len(axes)), "axes", np.int64)
    strides = emitter.constant([each.axis.stride for each in axes], "strides", np.int64)
    total = ""
    for first in itertools.product(*(range(each.axis.kernel) for each in axes)):
        last = [start + (each.count - 1) * each.axis.stride + 1 for start, each in zip(first, axes, strict=True)]
        bounds = [emitter.constant(bound, "bound", np.int64) for bound in (first, last)]
        part = emitter.op("Slice", [value, *bounds, along, strides])
        total = emitter.op("Add", [total, part]) if total else part
    return total


def _sizes(node: onnx.NodeProto, axes: Sequence[_Windows]) -> FloatArray:
    """By how many elements each sum is divided: float32, one number or one of each window."""
    if attributes.integer(node, "count_include_pad", 0):
        return np.asarray(math.prod(each.axis.kernel for each in axes), np.float32)
    sizes = functools.reduce(np.multiply.outer, (each.inside() for each in axes))
    if not bool((sizes > 0).all()):
        raise UnsupportedModel(
            f"{node.op_type} has windows that lie in the padding", node=label(node), remedy="use less padding"
        )
    return np.asarray(sizes.flat[0] if bool((sizes == sizes.flat[0]).all()) else sizes, np.float32)
