"""Stored values of a compiled network as logical arrays, for verification and debugging.

A value of rank 4 is [N, C, H, W]; any other is a matrix of prod(shape[:-1]) rows and shape[-1] channels, stored as
one image of one row (n = h = 1, w = rows), as in `qcompiler.targets.problem.Buffer`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.bundle.native import aligned_empty
from qcompiler.ir.numerics import pack_bits, unpack_bits, words_for
from qcompiler.ir.program import StoredValue

Array = npt.NDArray[Any]


def stored_bytes(value: StoredValue) -> int:
    """Bytes that the value takes in memory, its halo included."""
    return math.prod(_storage_shape(value)) * np.dtype(_storage_dtype(value)).itemsize


def decode(memory: Array, value: StoredValue) -> Array:
    """The logical array, in the ONNX shape; "bit-nhwc" gives float32 codes of -1 and +1.

    memory: uint8 [at least stored_bytes(value)], starting at the value.
    """
    inner = _interior(memory, value)
    if value.layout == "dense":
        return inner.copy()
    if value.layout == "bit-nhwc":
        inner = unpack_bits(np.ascontiguousarray(inner), _nhwc(value)[3], value.groups)
    elif value.layout == "float-nchw":
        inner = inner.transpose(0, 2, 3, 1)
    logical = inner.transpose(0, 3, 1, 2) if len(value.shape) == 4 else inner
    result = aligned_empty(value.shape, str(logical.dtype))
    result[...] = logical.reshape(value.shape)
    return result


def encode(memory: Array, value: StoredValue, logical: Array) -> None:
    """Overwrite the value with a logical array of its ONNX shape; the halo keeps what is there."""
    inner = _interior(memory, value)
    if value.layout == "dense":
        inner[...] = logical.reshape(value.shape)
        return
    n, h, w, c = _nhwc(value)
    nhwc = logical.transpose(0, 2, 3, 1) if len(value.shape) == 4 else logical.reshape(n, h, w, c)
    if value.layout == "bit-nhwc":
        inner[...] = pack_bits(nhwc, value.groups)
    elif value.layout == "float-nchw":
        inner[...] = nhwc.transpose(0, 3, 1, 2)
    else:
        inner[...] = nhwc


def _nhwc(value: StoredValue) -> tuple[int, int, int, int]:
    if len(value.shape) == 4:
        n, c, h, w = value.shape
        return n, h, w, c
    channels = value.shape[-1] if value.shape else 1
    return 1, 1, math.prod(value.shape[:-1]), channels


def _storage_dtype(value: StoredValue) -> str:
    return "uint32" if value.layout == "bit-nhwc" else value.dtype if value.layout == "dense" else "float32"


def _storage_shape(value: StoredValue) -> tuple[int, ...]:
    if value.layout == "dense":
        return value.shape
    n, h, w, c = _nhwc(value)
    top, left, bottom, right = value.halo
    height, width = top + h + bottom, left + w + right
    if value.layout == "float-nchw":
        return (n, c, height, width)
    return (n, height, width, c if value.layout == "float-nhwc" else value.groups * words_for(c // value.groups))


def _interior(memory: Array, value: StoredValue) -> Array:
    """A view of the stored array without its halo."""
    whole = memory[: stored_bytes(value)].view(_storage_dtype(value)).reshape(_storage_shape(value))
    if value.layout == "dense":
        return whole
    _, h, w, _ = _nhwc(value)
    rows, columns = slice(value.halo[0], value.halo[0] + h), slice(value.halo[1], value.halo[1] + w)
    return whole[:, :, rows, columns] if value.layout == "float-nchw" else whole[:, rows, columns]
