"""DLPack capsules, as numpy makes them."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from qcompiler.bundle import dlpack
from qcompiler.bundle.device_arrays import arrays_of
from qcompiler.errors import UsageError
from qcompiler.ir.program import TensorInfo

TENSOR = TensorInfo("x", (2, 3), "float32")


class Capsules:
    """An array whose capsules say that it lies on a device of some kind."""

    def __init__(self, array: np.ndarray, device: int = dlpack.CUDA) -> None:
        self.array, self.device, self.streams = array, device, list[int]()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, stream: int | None = None) -> Any:
        self.streams.append(stream or 0)
        capsule = self.array.__dlpack__()
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
        kind = ctypes.cast(get(capsule, b"dltensor") + ctypes.sizeof(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int32))
        kind[0] = self.device
        return capsule


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", "uint8", "int32", "int64", "uint16"])
def test_a_capsule_tells_where_and_what_its_tensor_is(dtype: str) -> None:
    array = np.zeros((4, 5, 6), dtype)[1:, ::2]
    found = dlpack.described(array.__dlpack__())
    assert (found.device, found.address, found.dtype) == (dlpack.CPU, array.ctypes.data, np.dtype(dtype))
    assert found.shape == (3, 3, 6)
    assert found.strides == tuple(stride // array.itemsize for stride in array.strides)


@pytest.mark.parametrize("dtype", ["complex64", "bool"])
def test_a_dtype_that_networks_do_not_have(dtype: str) -> None:
    assert dlpack.described(np.zeros(3, dtype).__dlpack__()).dtype is None


def test_anything_else_is_no_capsule() -> None:
    with pytest.raises(ValueError, match="PyCapsule_GetPointer"):
        dlpack.described(object())


def test_the_stream_is_told_and_the_tensor_is_held() -> None:
    given = Capsules(np.zeros((2, 3), np.float32))
    (found,) = arrays_of({"x": given}, (TENSOR,), "input")
    assert found.address == given.array.ctypes.data and type(found.owner).__name__ == "PyCapsule"
    arrays_of({"x": given}, (TENSOR,), "input", 77)
    assert given.streams == [1, 77]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((2, 3), np.float32), "input 'x' is ndarray, which is not on a device; give a CUDA tensor"),
        (Capsules(np.zeros((2, 3), np.float32), dlpack.CUDA_HOST), "input 'x' is Capsules, which is not on a device"),
        (Capsules(np.zeros((2, 3), np.float16)), r"input 'x' is float16 \[2, 3\]; give 'x' float32 \[2, 3\]"),
        (Capsules(np.zeros((3, 2), np.float32)), r"input 'x' is float32 \[3, 2\]; give"),
        (Capsules(np.zeros((2, 3), np.complex64)), r"input 'x' is of a dtype that numpy lacks, \[2, 3\]; give"),
        (Capsules(np.zeros((3, 2), np.float32).T), r"input 'x' is not contiguous: its strides are \[4, 8\]"),
    ],
)
def test_other_tensors_are_refused(given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        arrays_of({"x": given}, (TENSOR,), "input")


def test_axes_of_one_element_have_any_stride() -> None:
    array = np.lib.stride_tricks.as_strided(np.zeros(3, np.float32), (1, 3), (400, 4))
    (found,) = arrays_of({"x": Capsules(array)}, (TensorInfo("x", (1, 3), "float32"),), "input")
    assert found.address == array.ctypes.data
