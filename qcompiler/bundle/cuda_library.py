"""The loaded library of a bundle for CUDA: its functions, memory of the device, and runs that can be looked at."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.bundle.execution import Execution
from qcompiler.bundle.native import COMMON_SIGNATURES, Library
from qcompiler.errors import UnsupportedCpu

Array = npt.NDArray[Any]
_SIGNATURES: dict[str, tuple[tuple[Any, ...], Any]] = {
    **COMMON_SIGNATURES,
    "prepare": ((), ctypes.c_int),
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
