"""What a DLPack capsule says of its tensor, read with ctypes: https://dmlc.github.io/dlpack/latest/c_api.html."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
"""Kinds of devices, as DLDeviceType has them; others are not NVIDIA's."""

LARGEST_RANK = 64
_NAME = b"dltensor"
_KINDS = {0: "i", 1: "u", 2: "f"}
"""DLDataTypeCode: signed, unsigned, float; others have no numpy dtype of their own."""


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


@dataclass(frozen=True)
class Described:
    """A tensor: where it lies, by kind of device and address; dtype, None where numpy has none; strides in elements.

    The tensor lives as long as its capsule, which whoever reads the address must hold.
    """

    device: int
    address: int
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None


def described(capsule: Any) -> Described:
    """What a capsule named "dltensor" holds; it stays its owner's. Raises ValueError for anything else."""
    address = _pointer(capsule)
    tensor = ctypes.cast(address, ctypes.POINTER(_Tensor)).contents
    rank = tensor.ndim
    if not 0 <= rank <= LARGEST_RANK:
        raise ValueError(f"a tensor of {rank} axes")
    kind = _KINDS.get(tensor.code) if tensor.lanes == 1 and tensor.bits in (8, 16, 32, 64) else None
    if kind == "f" and tensor.bits == 8:
        kind = None
    return Described(
        tensor.device_type,
        int(tensor.data or 0) + tensor.byte_offset,
        None if kind is None else np.dtype(f"{kind}{tensor.bits // 8}"),
        tuple(tensor.shape[:rank]),
        tuple(tensor.strides[:rank]) if tensor.strides else None,
    )


def _pointer(capsule: Any) -> int:
    """The address that a capsule holds."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return int(get(capsule, _NAME))
