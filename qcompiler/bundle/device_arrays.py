"""Arrays on a device, as torch, CuPy and others describe theirs: `__cuda_array_interface__`, version 2 or 3."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qcompiler.bundle.tensors import describe
from qcompiler.errors import UsageError
from qcompiler.ir.program import TensorInfo

_INTERFACE = "__cuda_array_interface__"


def addresses_of(given: Mapping[str, Any], tensors: Sequence[TensorInfo], kind: str) -> list[int]:
    """The addresses of C-contiguous arrays on a device, by name, in the order of the tensors.

    kind: "input" or "output". Raises UsageError for a missing or unknown name, an array that is not on a device, or one
    of another dtype, shape or layout.
    """
    known = [tensor.name for tensor in tensors]
    for name in given:
        if name not in known:
            raise UsageError(f"there is no {kind} '{name}'", remedy=f"there are {', '.join(known)}")
    for tensor in tensors:
        if tensor.name not in given:
            raise UsageError(f"no array for {kind} '{tensor.name}'", remedy=f"give {describe(tensor)}")
    return [_address(given[tensor.name], tensor, kind) for tensor in tensors]


def _address(array: Any, tensor: TensorInfo, kind: str) -> int:
    what = f"{kind} '{tensor.name}'"
    # arrays in memory of the host have the attribute, too, in some libraries, and raise where it is read
    described = getattr(array, _INTERFACE, None)
    if not isinstance(described, Mapping):
        remedy = "give a CUDA tensor; run() takes numpy arrays"
        raise UsageError(f"{what} is {type(array).__name__}, which is not on a device", remedy=remedy)
    dtype, shape = np.dtype(described["typestr"]), tuple(described["shape"])
    if dtype != np.dtype(tensor.dtype) or shape != tensor.shape:
        raise UsageError(f"{what} is {dtype} {list(shape)}", remedy=f"give {describe(tensor)}")
    strides = described.get("strides")
    if strides is not None and tuple(strides) != _contiguous(shape, dtype.itemsize):
        raise UsageError(f"{what} is not contiguous: its strides are {list(strides)}", remedy="give a contiguous copy")
    address, read_only = described["data"]
    if read_only and kind == "output":
        raise UsageError(f"{what} is read-only", remedy="give an array that can be written")
    return int(address)


def _contiguous(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
