"""Convolutions and matrix products of every geometry."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.draws import Draw, a_value, chance, choice, number
from tests.fuzz.grid import of_array, product, total
from tests.fuzz.net import Array, Net, Rejected, Value
from tests.fuzz.weights import weights

_CHANNELS = (1, 2, 3, 5, 8, 16, 17, 32, 33, 40, 64, 100)
_KERNELS = (1, 2, 3, 5)


def conv(draw: Draw, net: Net, source: Value | None = None) -> Value:
    """A 1-D or 2-D convolution: grouped, depthwise, strided, dilated, padded in any way."""
    x = source or a_value(draw, net, lambda value: value.rank in (3, 4))
    groups = _groups(draw, x.shape[1])
    out = groups * choice(draw, [n for n in _CHANNELS if n * groups <= 100] or [1])
    spatial = x.rank - 2
    kernel = [choice(draw, [k for k in _KERNELS if k <= size + 2]) for size in x.shape[2:]]
    made = weights(draw, net, (out, x.shape[1] // groups, *kernel), 0)
    grid = made.sums(range(1, 2 + spatial), x.grid)
    operands: list[Any] = [x, made.name]
    if chance(draw, 3):
        bias = _offsets(net, out)
        operands.append(bias)
        grid = total(grid, of_array(bias))
    return net.add("Conv", *operands, grid=grid, **_geometry(draw, x, kernel, groups))


def depthwise(draw: Draw, net: Net) -> Value:
    """A depthwise convolution, which a draw of all group counts seldom hits."""
    x = a_value(draw, net, lambda value: value.rank in (3, 4) and 1 < value.shape[1] <= 64)
    kernel = [choice(draw, [k for k in (3, 1, 2) if k <= size + 2]) for size in x.shape[2:]]
    made = weights(draw, net, (x.shape[1], 1, *kernel), 0)
    grid = made.sums(range(1, x.rank), x.grid)
    return net.add("Conv", x, made.name, grid=grid, **_geometry(draw, x, kernel, x.shape[1]))


def matmul(draw: Draw, net: Net, source: Value | None = None) -> Value:
    """A product of the last axis with a constant matrix."""
    x = source or a_value(draw, net, lambda value: value.rank >= 2 and value.shape[-1] <= 512)
    out = choice(draw, _CHANNELS)
    made = weights(draw, net, (x.shape[-1], out), 1)
    result = net.add("MatMul", x, made.name, grid=made.sums([0], x.grid))
    if not chance(draw, 3):
        return result
    bias = _offsets(net, out)
    return net.add("Add", *_either_way(draw, result, bias), grid=total(result.grid, of_array(bias)))


def gemm(draw: Draw, net: Net, source: Value | None = None) -> Value:
    """A Gemm with any transposition, factor and shape of its third operand."""
    x = source or a_value(draw, net, lambda value: value.rank == 2 and max(value.shape) <= 512)
    transposed, turned = chance(draw), source is None and chance(draw, 6)
    out = choice(draw, _CHANNELS)
    rows, depth = x.shape[::-1] if turned else x.shape
    made = weights(draw, net, (out, depth) if transposed else (depth, out), 0 if transposed else 1)
    attributes: dict[str, Any] = {"transB": int(transposed)} | ({"transA": 1} if turned else {})
    grid = made.sums([1 if transposed else 0], x.grid)
    factor = choice(draw, (1.0, 0.5, 2.0))
    if factor != 1:
        attributes["alpha"] = factor
        grid = product(grid, of_array(np.float32([factor])))
    third = choice(draw, (None, (out,), (), (1,), (1, out), (rows, out), (rows, 1)))
    if third is None:
        return net.add("Gemm", x, made.name, grid=grid, **attributes)
    bias = _offsets(net, *third)
    if chance(draw, 4):
        attributes["beta"], scaled = 0.5, bias / 2
        return net.add("Gemm", x, made.name, bias, grid=total(grid, of_array(scaled)), **attributes)
    return net.add("Gemm", x, made.name, bias, grid=total(grid, of_array(bias)), **attributes)


def inner_product(draw: Draw, net: Net) -> Value:
    """A product of two values, as in attention."""
    left = a_value(draw, net, lambda value: value.rank >= 2 and value.shape[-1] <= 64)
    right = a_value(draw, net, lambda value: value.rank == left.rank and value.shape[:-2] == left.shape[:-2])
    if right.shape[-2] != left.shape[-1]:
        if right.shape[-1] != left.shape[-1]:
            raise Rejected
        perm = [*range(right.rank - 2), right.rank - 1, right.rank - 2]
        right = net.alike("Transpose", right, perm=perm)
    grid = product(left.grid, right.grid)
    if grid is not None:
        grid = total(*[grid] * left.shape[-1])
    return net.add("MatMul", left, right, grid=grid)


def conv_transpose(draw: Draw, net: Net) -> Value:
    """A transposed convolution."""
    x = a_value(draw, net, lambda value: value.rank in (3, 4) and value.shape[1] <= 32)
    spatial = x.rank - 2
    out, kernel, stride = choice(draw, (1, 2, 3, 5, 8)), choice(draw, (2, 3, 1)), choice(draw, (2, 1))
    made = weights(draw, net, (x.shape[1], out, *[kernel] * spatial), 1)
    grid = made.sums([0, *range(2, 2 + spatial)], x.grid)
    return net.add("ConvTranspose", x, made.name, grid=grid, strides=[stride] * spatial)


def _groups(draw: Draw, channels: int) -> int:
    possible = [n for n in (1, 2, 3, 4, channels) if channels % n == 0 and n <= 130]
    return choice(draw, sorted(set(possible))) if chance(draw, 3) else 1


def _geometry(draw: Draw, x: Value, kernel: list[int], groups: int) -> dict[str, Any]:
    spatial = len(kernel)
    found: dict[str, Any] = {"kernel_shape": kernel}
    if groups != 1:
        found["group"] = groups
    if chance(draw, 4):
        found["strides"] = [choice(draw, (2, 1, 3)) for _ in range(spatial)]
    if chance(draw, 5):
        found["dilations"] = [choice(draw, (2, 1, 3)) for _ in range(spatial)]
    padding = choice(draw, ("none", "same", "same", "any", "auto"))
    if padding == "same":
        found["pads"] = [k // 2 for k in kernel] * 2
    elif padding == "any":
        found["pads"] = [number(draw, 0, 2) for _ in range(2 * spatial)]
    elif padding == "auto" and "dilations" not in found:
        found["auto_pad"] = choice(draw, ("SAME_UPPER", "SAME_LOWER", "VALID"))
    pads = found.get("pads", [0] * 2 * spatial)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, found.get("dilations", [1] * spatial), strict=True)]
    room = [size + pads[axis] + pads[axis + spatial] for axis, size in enumerate(x.shape[2:])]
    if any(r > n for r, n in zip(reach, room, strict=True)) and not found.get("auto_pad", "").startswith("SAME"):
        raise Rejected
    return found


def _offsets(net: Net, *shape: int) -> Array:
    return net.random(*shape).integers(-4, 5, shape).astype(np.float32) / 2


def _either_way(draw: Draw, value: Value, other: Array) -> tuple[Any, Any]:
    return (value, other) if not chance(draw, 4) else (other, value)
