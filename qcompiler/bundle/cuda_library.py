"""The loaded library of a bundle for CUDA: its functions, memory of the device, and runs that can be looked at."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.bundle.device_arrays import DeviceArray, arrays_of
from qcompiler.bundle.execution import Execution
from qcompiler.bundle.native import COMMON_SIGNATURES, Library
from qcompiler.errors import UnsupportedCpu
from qcompiler.ir.program import TensorInfo

Array = npt.NDArray[Any]
_SIGNATURES: dict[str, tuple[tuple[Any, ...], Any]] = {
    **COMMON_SIGNATURES,
    "prepare": ((), ctypes.c_int),
    "release": ((), ctypes.c_int),
    "enqueue": ((ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p), ctypes.c_int),
    "capture": (
        (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p),
        ctypes.c_int,
    ),
    "replay": ((ctypes.c_void_p, ctypes.c_void_p), ctypes.c_int),
    "discard": ((ctypes.c_void_p,), ctypes.c_int),
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
        self._held: list[DeviceArray] = []

    def enqueue(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], stream: int = 0) -> None:
        """Start a run on a stream, and do not wait for it; runs of one object must be on one stream.

        inputs, outputs: C-contiguous arrays on the device, by ONNX name, with `__cuda_array_interface__` or DLPack
        (torch, CuPy, JAX); nothing is copied through the host. stream: the address of a cudaStream_t, such as torch's
        `stream.cuda_stream`. Raises UsageError for other arrays.
        """
        pointers = self._pointers(inputs, outputs, stream)
        memory = self._memory
        self._library.check(self._library.call("enqueue", *pointers, memory.address, memory.nbytes, stream))

    def capture(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> DeviceGraph:
        """Record a run on arrays, given as for `enqueue`, as a CUDA graph: a whole network is one piece of work then.

        The arrays and this object's workspace belong to the graph as long as it lives. Raises UsageError for other
        arrays, QCompilerError where they are not memory of the current device.
        """
        pointers, memory, graph = self._pointers(inputs, outputs, 0), self._memory, ctypes.c_void_p()
        status = self._library.call("capture", *pointers, memory.address, memory.nbytes, ctypes.byref(graph))
        self._library.check(status)
        return DeviceGraph(self._library, int(graph.value or 0), (memory, self._held))

    def wait(self, stream: int = 0) -> None:
        """Wait for the last run. Raises QCompilerError where its data made it fail."""
        self._library.check(self._library.call("wait", self._memory.address, stream))
        self._held = []

    def _pointers(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], stream: int) -> list[Any]:
        """The C arrays of addresses, of arrays that live until they are waited for."""
        pairs = zip((inputs, outputs), self._tensors, ("input", "output"), strict=True)
        found = [arrays_of(given, tensors, kind, stream) for given, tensors, kind in pairs]
        self._held = [*self._held, *found[0], *found[1]]
        return [(ctypes.c_void_p * len(each))(*[array.address for array in each]) for each in found]


class DeviceGraph:
    """A recorded run; see `DeviceRun.capture`."""

    def __init__(self, library: DeviceLibrary, address: int, held: tuple[DeviceMemory, Sequence[DeviceArray]]) -> None:
        self._library, self._address, self._held = library, address, held
        weakref.finalize(self, library.call, "discard", address)

    def replay(self, stream: int = 0) -> None:
        """Start the run on a stream, as `DeviceRun.enqueue` does; `wait` waits for it."""
        self._library.check(self._library.call("replay", self._address, stream))

    def wait(self, stream: int = 0) -> None:
        """Wait for the last run. Raises QCompilerError where its data made it fail."""
        self._library.check(self._library.call("wait", self._held[0].address, stream))


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
