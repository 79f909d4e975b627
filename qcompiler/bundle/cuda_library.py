"""The loaded library of a bundle for CUDA: its functions, memory of the device, and runs that can be looked at."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.bundle.device_arrays import DeviceArray, arrays_of
from qcompiler.bundle.execution import Execution, Workspace
from qcompiler.bundle.native import COMMON_SIGNATURES, POINTERS, Library
from qcompiler.errors import QCompilerError, UnsupportedCpu
from qcompiler.ir.program import TensorInfo

Array = npt.NDArray[Any]
_COUNTED = (*POINTERS, ctypes.c_size_t)
# bytes that a size_t counts
_MOST_BYTES = 2**63
# as header.h says
_ERROR_MEMORY = 7
_SIGNATURES: dict[str, tuple[tuple[Any, ...], Any]] = {
    **COMMON_SIGNATURES,
    "prepare": ((), ctypes.c_int),
    "release": ((), ctypes.c_int),
    "run_batch": (_COUNTED, ctypes.c_int),
    "run_batch_profile": ((*_COUNTED, ctypes.c_void_p), ctypes.c_int),
    "enqueue_batch": ((*_COUNTED, ctypes.c_void_p), ctypes.c_int),
    "capture_batch": ((*_COUNTED, ctypes.c_void_p), ctypes.c_int),
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


class OutOfDeviceMemory(QCompilerError):
    """The device has not enough memory."""


class DeviceMemory:
    """Bytes on the device, as long as the object lives."""

    def __init__(self, library: DeviceLibrary, nbytes: int) -> None:
        """Raises OutOfDeviceMemory, and QCompilerError for other errors of the device."""
        pointer = ctypes.c_void_p()
        fits = nbytes <= _MOST_BYTES
        status = library.call("allocate", nbytes, ctypes.byref(pointer)) if fits else _ERROR_MEMORY
        if status == _ERROR_MEMORY:
            raise OutOfDeviceMemory(
                f"the device has not enough memory: {nbytes} bytes are asked for", remedy="run smaller batches"
            )
        library.check(status)
        self.address, self.nbytes = int(pointer.value or 0), nbytes
        self._library = library
        weakref.finalize(self, library.call, "free", self.address)

    def write(self, data: npt.NDArray[np.uint8]) -> None:
        """Copy all bytes from the host."""
        self._library.check(self._library.call("copy", self.address, data.ctypes.data, self.nbytes))

    def read(self, data: npt.NDArray[np.uint8]) -> None:
        """Copy all bytes to the host."""
        self._library.check(self._library.call("copy", data.ctypes.data, self.address, self.nbytes))


def room_for(library: DeviceLibrary, nbytes: int, count: int) -> DeviceMemory:
    """A workspace for `count` runs at once, `nbytes` of each, or for half as many as long as the device has no more.

    Raises OutOfDeviceMemory where there is not enough for one.
    """
    while True:
        try:
            return DeviceMemory(library, nbytes * count)
        except OutOfDeviceMemory:
            if count == 1:
                raise
            count //= 2


class DeviceBatch(Execution):
    """`count` runs on arrays that lie one behind the other, together as far as the workspace has room for them."""

    def __init__(
        self, library: Library, inputs: Sequence[Array], outputs: Sequence[Array], workspace: Workspace, count: int
    ) -> None:
        super().__init__(library, inputs, outputs, workspace)
        self._counted = (*self._pointers, count)

    def run(self) -> None:
        """Run all steps of all runs."""
        self._library.check(self._library.call("run_batch", *self._counted))

    def profile(self, steps: int) -> npt.NDArray[np.uint64]:
        """Run all steps of all runs; nanoseconds of each step."""
        nanoseconds = np.zeros(steps, np.uint64)
        status = self._library.call("run_batch_profile", *self._counted, nanoseconds.ctypes.data)
        self._library.check(status)
        return nanoseconds


class DeviceRun:
    """Runs of a network with a workspace of their own, for arrays on the device; see `load.Bundle.on_device`."""

    def __init__(
        self,
        library: DeviceLibrary,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        nbytes: int,
        count: int = 1,
    ) -> None:
        """inputs, outputs: of all `count` runs. nbytes: of the workspace of one. Raises OutOfDeviceMemory."""
        self._library, self._tensors, self._count = library, (inputs, outputs), count
        self._memory = DeviceMemory(library, nbytes * count)
        self._held: list[DeviceArray] = []

    def enqueue(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], stream: int = 0) -> None:
        """Start a run on a stream, and do not wait for it; runs of one object must be on one stream.

        inputs, outputs: C-contiguous arrays on the device, by ONNX name, with `__cuda_array_interface__` or DLPack
        (torch, CuPy, JAX); nothing is copied through the host. stream: the address of a cudaStream_t, such as torch's
        `stream.cuda_stream`. Raises UsageError for other arrays.
        """
        pointers = self._pointers(inputs, outputs, stream)
        memory = self._memory
        given = (*pointers, memory.address, memory.nbytes, self._count)
        self._library.check(self._library.call("enqueue_batch", *given, stream))

    def capture(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> DeviceGraph:
        """Record a run on arrays, given as for `enqueue`, as a CUDA graph: a whole network is one piece of work then.

        The arrays and this object's workspace belong to the graph as long as it lives. Raises UsageError for other
        arrays, QCompilerError where they are not memory of the current device.
        """
        pointers, memory, graph = self._pointers(inputs, outputs, 0), self._memory, ctypes.c_void_p()
        given = (*pointers, memory.address, memory.nbytes, self._count)
        self._library.check(self._library.call("capture_batch", *given, ctypes.byref(graph)))
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
