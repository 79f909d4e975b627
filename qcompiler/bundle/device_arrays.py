"""Arrays on a device, as torch, CuPy, JAX and others describe theirs.

By `__cuda_array_interface__`, version 2 or 3, where they have it, else by DLPack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.bundle import dlpack
from qcompiler.bundle.tensors import describe
from qcompiler.errors import UsageError
from qcompiler.ir.program import TensorInfo

_INTERFACE = "__cuda_array_interface__"


@dataclass(frozen=True)
class DeviceArray:
    """An array on a device, C-contiguous; owner: what keeps it alive."""

    address: int
    owner: Any


def arrays_of(given: Mapping[str, Any], tensors: Sequence[TensorInfo], kind: str, stream: int = 0) -> list[DeviceArray]:
    """Arrays on a device, by name, in the order of the tensors.

    kind: "input" or "output". stream: where they are used, which DLPack's producers are told. Raises UsageError for a
    missing or unknown name, an array that is not on a device, or one of another dtype, shape or layout.
    """
    known = [tensor.name for tensor in tensors]
    for name in given:
        if name not in known:
            raise UsageError(f"there is no {kind} '{name}'", remedy=f"there are {', '.join(known)}")
    for tensor in tensors:
        if tensor.name not in given:
            raise UsageError(f"no array for {kind} '{tensor.name}'", remedy=f"give {describe(tensor)}")
    return [_array(given[tensor.name], tensor, kind, stream) for tensor in tensors]


def _array(array: Any, tensor: TensorInfo, kind: str, stream: int) -> DeviceArray:
    what = f"{kind} '{tensor.name}'"
    # arrays in memory of the host have the attribute, too, in some libraries, and raise where it is read
    described = getattr(array, _INTERFACE, None)
    if isinstance(described, Mapping):
        address, read_only = described["data"]
        if read_only and kind == "output":
            raise UsageError(f"{what} is read-only", remedy="give an array that can be written")
        dtype, shape, strides = np.dtype(described["typestr"]), tuple(described["shape"]), described.get("strides")
        _check(what, tensor, dtype, shape, None if strides is None else tuple(strides))
        return DeviceArray(int(address), array)
    capsule = _capsule(array, what, stream)
    found = dlpack.described(capsule)
    size = 0 if found.dtype is None else found.dtype.itemsize
    strides = None if found.strides is None else tuple(size * stride for stride in found.strides)
    _check(what, tensor, found.dtype, found.shape, strides)
    return DeviceArray(found.address, capsule)


def _capsule(array: Any, what: str, stream: int) -> Any:
    """The DLPack capsule of an array on a device."""
    device = array.__dlpack_device__()[0] if hasattr(array, "__dlpack_device__") else dlpack.CPU
    if int(device) not in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        remedy = "give a CUDA tensor; run() takes numpy arrays"
        raise UsageError(f"{what} is {type(array).__name__}, which is not on a device", remedy=remedy)
    # 1 is the default stream: 0 means two things in CUDA, and DLPack forbids it
    return array.__dlpack__(stream=stream or 1)


def _check(what: str, tensor: TensorInfo, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...] | None) -> None:
    """Raise UsageError unless an array is as its tensor, in C's order; strides in bytes."""
    if dtype is None or dtype != np.dtype(tensor.dtype) or shape != tensor.shape:
        kind = "of a dtype that numpy lacks," if dtype is None else dtype
        raise UsageError(f"{what} is {kind} {list(shape)}", remedy=f"give {describe(tensor)}")
    # axes of one element have any stride
    expected = _contiguous(shape, dtype.itemsize)
    if strides is not None and any(n > 1 and a != b for n, a, b in zip(shape, strides, expected, strict=True)):
        raise UsageError(f"{what} is not contiguous: its strides are {list(strides)}", remedy="give a contiguous copy")


def _contiguous(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
