"""The loaded library of a bundle for CUDA: its functions, memory of the device, and runs that can be looked at."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.bundle.device_arrays import addresses_of
from qcompiler.bundle.execution import Execution
from qcompiler.bundle.native import COMMON_SIGNATURES, Library
from qcompiler.errors import UnsupportedCpu
from qcompiler.ir.program import TensorInfo

Array = npt.NDArray[Any]
_SIGNATURES: dict[str, tuple[tuple[Any, ...], Any]] = {
    **COMMON_SIGNATURES,
    "prepare": ((), ctypes.c_int),
    "enqueue": ((ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p), ctypes.c_int),
    "wait": ((ctypes.c_void_p, ctypes.c_void_p), ctypes.c_int),
    "allocate": ((ctypes.c_size_t, ctypes.c_void_p), ctypes.c_int),
    "free": ((ctypes.c_void_p,), ctypes.c_int),
    "copy": ((ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_int),
}


class DeviceLibrary(Library):
    """See `Library`; it has no threads, and runs need memory of the device."""

    signatures = _SIGNATURES

    def prepare(self) -> None:
        """Copy the weights to the device. Raises UnsupportedCpu where there is none that the library has code for."""
        if status := self.call("prepare"):
            text = self.call("status_text", status).decode("utf-8", "replace")
            raise UnsupportedCpu(text, remedy="run the bundle where nvidia-smi lists a device that it was compiled for")


class DeviceMemory:
    """Bytes on the device, as long as the object lives."""

    def __init__(self, library: DeviceLibrary, nbytes: int) -> None:
        pointer = ctypes.c_void_p()
        library.check(library.call("allocate", nbytes, ctypes.byref(pointer)))
        self.address, self.nbytes = int(pointer.value or 0), nbytes
        self._library = library
        weakref.finalize(self, library.call, "free", self.address)

    def write(self, data: npt.NDArray[np.uint8]) -> None:
        """Copy all bytes from the host."""
        self._library.check(self._library.call("copy", self.address, data.ctypes.data, self.nbytes))

    def read(self, data: npt.NDArray[np.uint8]) -> None:
        """Copy all bytes to the host."""
        self._library.check(self._library.call("copy", data.ctypes.data, self.address, self.nbytes))


class DeviceRun:
    """A network with a workspace of its own, for arrays on the device; see `load.Bundle.on_device`."""

    def __init__(
        self, library: DeviceLibrary, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], nbytes: int
    ) -> None:
        self._library, self._tensors = library, (inputs, outputs)
        self._memory = DeviceMemory(library, nbytes)

    def enqueue(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], stream: int = 0) -> None:
        """Start a run on a stream, and do not wait for it; runs of one object must be on one stream.

        inputs, outputs: C-contiguous arrays on the device with `__cuda_array_interface__` (torch, CuPy), by ONNX name;
        nothing is copied through the host. stream: the address of a cudaStream_t, such as torch's `stream.cuda_stream`.
        Raises UsageError for other arrays.
        """
        pairs = zip((inputs, outputs), self._tensors, ("input", "output"), strict=True)
        pointers = [addresses_of(given, tensors, kind) for given, tensors, kind in pairs]
        arrays = [(ctypes.c_void_p * len(each))(*each) for each in pointers]
        memory = self._memory
        self._library.check(self._library.call("enqueue", *arrays, memory.address, memory.nbytes, stream))

    def wait(self, stream: int = 0) -> None:
        """Wait for the last run. Raises QCompilerError where its data made it fail."""
        self._library.check(self._library.call("wait", self._memory.address, stream))


class DeviceStepping(Execution):
    """A run step by step whose workspace, uint8, is a copy of that on the device, which is renewed around each step."""

    def __init__(self, library: DeviceLibrary, inputs: Sequence[Array], outputs: Sequence[Array], nbytes: int) -> None:
        self._memory = DeviceMemory(library, nbytes)
        super().__init__(library, inputs, outputs, self._memory)
        self.workspace = np.zeros(nbytes, np.uint8)

    def run_steps(self, first: int, last: int) -> None:
        """Run the steps first .. last - 1."""
        self._memory.write(self.workspace)
        super().run_steps(first, last)
        self._memory.read(self.workspace)
