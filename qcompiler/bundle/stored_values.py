"""Stored values of a compiled network as logical arrays, for verification and debugging.

A value of rank 4 is [N, C, H, W]; any other is a matrix of prod(shape[:-1]) rows and shape[-1] channels, stored as
one image of one row (n = h = 1, w = rows), as in `qcompiler.ir.storage.Buffer`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.bundle.native import aligned_empty
from qcompiler.ir import storage
from qcompiler.ir.program import StoredValue
from qcompiler.ir.storage import PACKED_LAYOUTS, Buffer, Halo

Array = npt.NDArray[Any]


def stored_bytes(value: StoredValue) -> int:
    """Bytes that the value takes in memory, its halo included."""
    if value.layout == "dense":
        return math.prod(value.shape) * np.dtype(value.dtype).itemsize
    return _buffer(value).nbytes


def decode(memory: Array, value: StoredValue) -> Array:
    """The logical array, in the ONNX shape; packed codes as float32.

    memory: uint8 [at least stored_bytes(value)], starting at the value.
    """
    stored = _stored(memory, value)
    if value.layout == "dense":
        return stored.copy()
    logical = storage.load(_buffer(value), stored)
    result = aligned_empty(value.shape, "float32")
    result[...] = logical if len(value.shape) == 4 else logical.transpose(0, 2, 3, 1).reshape(value.shape)
    return result


def encode(memory: Array, value: StoredValue, logical: Array) -> None:
    """Overwrite the value with a logical array of its ONNX shape; the halo keeps what is there."""
    stored = _stored(memory, value)
    if value.layout == "dense":
        stored[...] = logical.reshape(value.shape)
        return
    buffer = _buffer(value)
    if len(value.shape) != 4:
        logical = logical.reshape(1, 1, buffer.w, buffer.c).transpose(0, 3, 1, 2)
    storage.overwrite(buffer, stored, logical)


def _buffer(value: StoredValue) -> Buffer:
    n, h, w, c = _nhwc(value)
    halo = Halo(*value.halo)
    packing = PACKED_LAYOUTS.get(value.layout)
    if packing is not None:
        return Buffer(n, h, w, c, value.codes, "nhwc", halo, groups=value.groups, packing=packing)
    return Buffer(n, h, w, c, "float32", "nchw" if value.layout == "float-nchw" else "nhwc", halo)


def _nhwc(value: StoredValue) -> tuple[int, int, int, int]:
    if len(value.shape) == 4:
        n, c, h, w = value.shape
        return n, h, w, c
    channels = value.shape[-1] if value.shape else 1
    return 1, 1, math.prod(value.shape[:-1]), channels


def _stored(memory: Array, value: StoredValue) -> Array:
    raw = memory[: stored_bytes(value)]
    if value.layout == "dense":
        return raw.view(value.dtype).reshape(value.shape)
    buffer = _buffer(value)
    return raw.view(buffer.dtype).reshape(buffer.storage_shape)
