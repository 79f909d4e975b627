"""Windows and means: pooling of every geometry, global pooling, reductions, softmax."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tests.fuzz.draws import Draw, a_value, chance, choice, number
from tests.fuzz.grid import Grid, checked, mean
from tests.fuzz.net import Net, Rejected, Value


def max_pool(draw: Draw, net: Net) -> Value:
    """MaxPool with any window, stride, padding, dilation and ceil_mode."""
    x = a_value(draw, net, lambda value: value.rank in (3, 4))
    attributes = _window(draw, x)
    if chance(draw, 6):
        attributes["dilations"] = [2] * (x.rank - 2)
    return _pooled(net, "MaxPool", x, x.grid, x.clear, attributes)


def average_pool(draw: Draw, net: Net) -> Value:
    """AveragePool; exact where every window counts a power of two of elements."""
    x = a_value(draw, net, lambda value: value.rank in (3, 4))
    attributes = _window(draw, x)
    area = prod(attributes["kernel_shape"])
    if chance(draw):
        attributes["count_include_pad"] = 1
    whole = "ceil_mode" not in attributes and ("pads" not in attributes or "count_include_pad" in attributes)
    grid = mean(x.grid, area) if whole else None
    return _pooled(net, "AveragePool", x, grid, False, attributes)


def global_pool(draw: Draw, net: Net) -> Value:
    """GlobalAveragePool or GlobalMaxPool."""
    x = a_value(draw, net, lambda value: value.rank in (3, 4))
    if chance(draw):
        return net.add("GlobalMaxPool", x, grid=x.grid, clear=x.clear)
    return net.add("GlobalAveragePool", x, grid=mean(x.grid, prod(x.shape[2:])))


def reduction(draw: Draw, net: Net) -> Value:
    """ReduceMean, ReduceSum, ReduceMax or ReduceMin over drawn axes."""
    x = a_value(draw, net, lambda value: value.rank >= 2)
    op = choice(draw, ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"))
    axes = [axis for axis in range(1, x.rank) if chance(draw)] or [x.rank - 1]
    if chance(draw, 5):
        axes = list(range(x.rank))
    count = prod(x.shape[axis] for axis in axes)
    grid = x.grid
    if op == "ReduceMean":
        grid = mean(x.grid, count)
    elif op == "ReduceSum":
        grid = x.grid and checked(x.grid.step, x.grid.peak * count)
    keep = 0 if chance(draw) else 1
    first = 13 if op == "ReduceSum" else 18
    if net.opset >= first:
        return net.add(op, x, np.int64(axes), grid=grid, keepdims=keep)
    return net.add(op, x, grid=grid, axes=axes, keepdims=keep)


def softmax(draw: Draw, net: Net) -> Value:
    """Softmax over any axis."""
    x = a_value(draw, net, lambda value: value.rank >= 2)
    if x.grid is None or x.grid.peak > 32:
        x = net.add("Clip", x, np.float32(-8), np.float32(8), grid=None)
    return net.add(choice(draw, ("Softmax", "LogSoftmax")), x, grid=None, axis=choice(draw, (-1, 1)))


def largest(draw: Draw, net: Net) -> Value:
    """ArgMax or ArgMin along an axis, which ends a network; of equal elements it takes the first."""
    x = a_value(draw, net, lambda value: value.rank >= 2 and value.grid is not None)
    axis = number(draw, 1, x.rank - 1)
    (name,) = net.node(choice(draw, ("ArgMax", "ArgMin")), x, axis=axis, keepdims=number(draw, 0, 1))
    return net.end(name, net.shape(name), Grid(1.0, float(x.shape[axis])))


def _window(draw: Draw, x: Value) -> dict[str, Any]:
    spatial = x.rank - 2
    kernel = [choice(draw, [k for k in (2, 3, 1) if k <= size] or [1]) for size in x.shape[2:]]
    found: dict[str, Any] = {"kernel_shape": kernel}
    if chance(draw):
        found["strides"] = [choice(draw, (2, 1, 3)) for _ in range(spatial)]
    if chance(draw, 3):
        found["pads"] = [number(draw, 0, k // 2) for k in kernel * 2]
    if chance(draw, 4):
        found["ceil_mode"] = 1
    return found


def _pooled(net: Net, op: str, x: Value, grid: Grid | None, clear: bool, attributes: dict[str, Any]) -> Value:
    spatial = x.rank - 2
    (name,) = net.node(op, x, **attributes)
    sizes = [_windows(size, axis, spatial, attributes) for axis, size in enumerate(x.shape[2:])]
    if min(sizes) < 1:
        raise Rejected
    shape = (*x.shape[:2], *sizes)
    if shape == net.shape(name):
        return net.keep(name, grid, clear=clear)
    # ONNX infers a window that nobody computes, so onnxruntime refuses what reads the value by its shape
    return net.end(name, shape, grid)


def _windows(size: int, axis: int, spatial: int, attributes: dict[str, Any]) -> int:
    """How many windows onnxruntime and torch compute: none that starts in the padding at the end."""
    pads = attributes.get("pads", [0] * 2 * spatial)
    stride = attributes.get("strides", [1] * spatial)[axis]
    reach = (attributes["kernel_shape"][axis] - 1) * attributes.get("dilations", [1] * spatial)[axis] + 1
    room = size + pads[axis] + pads[axis + spatial] - reach
    if not attributes.get("ceil_mode", 0):
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + pads[axis] else count
