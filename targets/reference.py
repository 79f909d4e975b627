"""What every problem computes, in numpy: the truth that all kernels of all targets are tested against.

Arrays are stored arrays, with the shape of `Buffer.storage_shape` and `Buffer.dtype`. Epilogue operations
round to float32 one by one; integer accumulators are exact, and rounded before anything else; float accumulators are
summed in float64 and rounded once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.ir.block_rounding import rounded_in_blocks
from qcompiler.ir.storage import Buffer, load, store
from qcompiler.targets.problem import (
    Channel,
    Conv2d,
    Move2d,
    Operand,
    Operation,
    Pool2d,
    Problem,
    Scalar,
    ScalarOperation,
    Tensor,
)
from qcompiler.targets.target import Constants

Array = npt.NDArray[Any]


def run(problem: Problem, x: Array, constants: Constants, tensors: Sequence[Array] = ()) -> tuple[Array, ...]:
    """Outputs of a problem, in the order of its stores.

    x: stored array of `problem.x`; tensors: stored arrays of the `Tensor` operands in epilogue order.
    """
    if isinstance(problem, Move2d):
        return (_moved(problem, [x, *tensors]),)
    logical = load(problem.x, x)
    if isinstance(problem, Pool2d) and problem.kind == "codes":
        assert problem.into is not None and constants.flip is not None
        codes, flip = problem.into.codes, constants.flip[:, None, None]
        assert codes is not None
        lowest = np.where(flip > 0, codes.low, -codes.high)
        return (store(problem.into, flip * np.maximum(_pool_max(problem, flip * logical), lowest)),)
    if isinstance(problem, Conv2d) and problem.second is not None:
        values, tensors = _products(problem, logical, tensors[0]), tensors[1:]
    elif isinstance(problem, Conv2d):
        values = _convolution(problem, logical, constants)
    elif isinstance(problem, Pool2d):
        values = _pooled(problem, after(problem.through, logical))
    else:
        values = logical.astype(np.float64)
    return _epilogue(problem.epilogue, values, constants, iter(tensors))


def _moved(problem: Move2d, sources: Sequence[Array]) -> Array:
    """Codes in their new places, stored."""
    into, held = problem.into, [np.ascontiguousarray(source).view(np.uint8).reshape(-1) for source in sources]
    assert into.codes is not None
    numbers = np.zeros((into.n, into.h, into.w, into.c), np.int64)
    for box in problem.boxes:
        place = tuple(slice(first, first + size) for first, size in zip(box.start, box.extent, strict=True))
        found: Array = np.zeros((), np.int64)
        if box.source is not None:
            found = held[box.source][functools.reduce(np.add.outer, map(np.asarray, box.offsets))].astype(np.int64)
        numbers[place] = found + box.shift
    codes = into.codes.low + into.codes.step * numbers.astype(np.float32)
    return store(into, codes.transpose(0, 3, 1, 2))


def _convolution(problem: Conv2d, x: Array, constants: Constants) -> Array:
    """Accumulators, float64 [n, o, oh, ow]; exact for codes."""
    if problem.rounded and problem.grid is not None:
        x = rounded_in_blocks(x.astype(np.float32).transpose(0, 2, 3, 1), problem.grid.size).transpose(0, 3, 1, 2)
    weights = np.asarray(constants.weights, np.float64)
    top, left, bottom, right = problem.pads
    padded = np.pad(
        x.astype(np.float64), [(0, 0), (0, 0), (top, bottom), (left, right)], constant_values=problem.pad_value
    )
    per_group = problem.x.c // problem.groups
    outputs = problem.out_channels // problem.groups
    out = np.zeros((problem.x.n, problem.out_channels, *problem.out_hw))
    for i, j, window in windows(problem, padded):
        for g in range(problem.groups):
            o = slice(g * outputs, (g + 1) * outputs)
            patch = window[:, g * per_group : (g + 1) * per_group]
            out[:, o] += np.einsum("nchw,oc->nohw", patch, weights[o, :, i, j])
    return out if constants.bias is None else out + constants.bias[:, None, None]


def _products(problem: Conv2d, x: Array, second: Array) -> Array:
    """Accumulators of a batch of matrix products, float64 [1, o, 1, rows].

    x: [1, K, 1, rows]; second: the stored right operand.
    """
    assert problem.second is not None
    batch, blocks, words = problem.second.n, problem.second.h, problem.second.w
    held = load(problem.second, second).reshape(batch, 16, 4, blocks, words).transpose(0, 4, 2, 3, 1)
    right = held.reshape(batch, words * 4, blocks * 16)[:, : problem.x.c, : problem.out_channels].astype(np.float64)
    left = x[0, :, 0].T.reshape(batch, -1, problem.x.c)
    return np.asarray((left @ right).reshape(-1, problem.out_channels).T[None, :, None])


def windows(problem: Conv2d | Pool2d, padded: Array) -> Iterator[tuple[int, int, Array]]:
    """The strided view of `padded` [n, c, h, w] that each kernel tap sees, [n, c, oh, ow]."""
    (sh, sw), (dh, dw), (oh, ow) = problem.strides, problem.dilations, problem.out_hw
    for i in range(problem.kernel[0]):
        for j in range(problem.kernel[1]):
            rows = slice(i * dh, i * dh + (oh - 1) * sh + 1, sh)
            yield i, j, padded[:, :, rows, j * dw : j * dw + (ow - 1) * sw + 1 : sw]


def _pool_pad(problem: Pool2d, x: Array, value: float) -> Array:
    """X [n, c, h, w] with pads, and enough below and right for windows that `ceil_mode` lets hang over."""
    (sh, sw), (dh, dw), (oh, ow) = problem.strides, problem.dilations, problem.out_hw
    top, left, _, _ = problem.pads
    bottom = max(0, (oh - 1) * sh + (problem.kernel[0] - 1) * dh + 1 - top - x.shape[2])
    right = max(0, (ow - 1) * sw + (problem.kernel[1] - 1) * dw + 1 - left - x.shape[3])
    return np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)], constant_values=value)


def _pooled(problem: Pool2d, x: Array) -> Array:
    """The largest, the sum or the average of each window, float32 [n, c, oh, ow]."""
    if problem.kind == "max":
        return _pool_max(problem, x)
    return _pool_sum(problem, x) if problem.kind == "sum" else _pool_average(problem, x)


def _pool_max(problem: Pool2d, x: Array) -> Array:
    """Maximum over each window, padding aside; an empty window gives -inf."""
    padded = _pool_pad(problem, x, -np.inf)
    best = np.full((*x.shape[:2], *problem.out_hw), -np.inf, np.float32)
    for _, _, window in windows(problem, padded):
        best = np.where(best < window, window, best)
    return best


def _pool_average(problem: Pool2d, x: Array) -> Array:
    """The sum divided by the count.

    "average" counts pixels of the image, "average_include_pad" those of the image and its declared padding.
    """
    inside = np.ones((1, 1, *x.shape[2:]), np.float32)
    if problem.kind == "average_include_pad":
        top, left, bottom, right = problem.pads
        inside = np.ones((1, 1, x.shape[2] + top + bottom, x.shape[3] + left + right), np.float32)
        counted = _pool_pad(_unpadded(problem), inside, 0)
    else:
        counted = _pool_pad(problem, inside, 0)
    count = sum(window for _, _, window in windows(problem, counted))
    return np.asarray(_pool_sum(problem, x) / np.maximum(count, 1), np.float32)


def _pool_sum(problem: Pool2d, x: Array) -> Array:
    """Float32 sum in row-major window order, padding aside."""
    total = np.zeros((*x.shape[:2], *problem.out_hw), np.float32)
    for _, _, window in windows(problem, _pool_pad(problem, x, 0)):
        total = total + window
    return total


def _unpadded(problem: Pool2d) -> Pool2d:
    """The same windows over an image that already carries its padding."""
    return Pool2d(problem.x, problem.kind, problem.kernel, problem.strides, (0, 0, 0, 0), problem.out_hw,
                  problem.dilations)  # fmt: skip


def _epilogue(
    operations: Sequence[Operation], values: Array, constants: Constants, tensors: Iterator[Array]
) -> tuple[Array, ...]:
    """Run the operations on values [n, c, h, w] (float64 accumulators) and collect the stores."""
    if operations and operations[0].op == "threshold":
        return (_thresholds(operations[0].into, values, constants),)
    channels = iter(constants.channels)
    outputs: list[Array] = []
    v = values.astype(np.float32)
    for operation in operations:
        if operation.op == "store":
            assert operation.into is not None
            outputs.append(store(operation.into, v))
        elif operation.op == "store_codes":
            assert operation.into is not None and operation.into.codes is not None
            outputs.append(store(operation.into, np.where(np.isnan(v), np.float32(operation.into.codes.low), v)))
        elif operation.op == "store_bits":
            assert operation.into is not None
            outputs.append(store(operation.into, np.where(v >= 0 if operation.zero_is_positive else v > 0, 1, -1)))
        else:
            v = apply(operation.op, v, _operand(operation, channels, tensors))
    return tuple(outputs)


def _thresholds(into: Buffer | None, values: Array, constants: Constants) -> Array:
    """The codes that count thresholds, stored."""
    assert into is not None and into.codes is not None
    assert constants.threshold is not None and constants.direction is not None
    thresholds = constants.threshold[:, None, :, None, None].astype(np.float64)
    reached = constants.direction[:, None, None] * (values.astype(np.float32) - thresholds) >= 0
    return store(into, into.codes.low + into.codes.step * reached.sum(axis=0))


def _operand(operation: Operation, channels: Iterator[Array], tensors: Iterator[Array]) -> Array | None:
    """The operand of an operation, if it has one: float32, shaped to broadcast against [n, c, h, w]."""
    if isinstance(operation.operand, Channel):
        return next(channels).astype(np.float32)[:, None, None]
    if isinstance(operation.operand, Tensor):
        return after(operation.operand.through, load(operation.operand.buffer, next(tensors)))
    return number(operation.operand)


def after(operations: Sequence[ScalarOperation], v: Array) -> Array:
    """Numbers after what they go through before they are used."""
    for operation in operations:
        v = apply(operation.op, v, number(operation.operand))
    return v


def number(operand: Operand | None) -> Array | None:
    """An operand that is a constant, float32, if there is one."""
    if operand is None:
        return None
    assert isinstance(operand, Scalar)
    return np.asarray(operand.value, np.float32)


def apply(op: str, v: Array, operand: Array | None) -> Array:
    """One float32 operation; max and min keep v unless the operand is strictly better, so a NaN in v stays."""
    if op == "round":
        return np.rint(v)
    if op == "sign":
        return np.where(v > 0, np.float32(1), np.where(v < 0, np.float32(-1), v))
    assert operand is not None
    with np.errstate(all="ignore"):
        if op == "max":
            return np.where(v < operand, operand, v)
        if op == "min":
            return np.where(v > operand, operand, v)
        if op == "prelu":
            return np.where(v >= 0, v, v * operand)
        function = {"mul": np.multiply, "add": np.add, "sub": np.subtract, "div": np.divide}[op]
        return np.asarray(function(v, operand, dtype=np.float32))
