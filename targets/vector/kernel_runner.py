"""Builds one kernel into a shared library and calls it on numpy arrays: for tests, benchmarks and tuning."""

from __future__ import annotations

import copy
import ctypes
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.ir.program import Items
from qcompiler.targets.problem import Problem, outputs_of
from qcompiler.targets.reference import Array
from qcompiler.targets.target import Constants, Kernel, Variant


def object_code(kernel: Kernel, variant: Variant, path: Path, name: str = "kernel") -> Path:
    """Compile a kernel to a relocatable object at `path`, with global symbol `name`."""
    path.write_bytes(variant.platform.compile({name: kernel.build(name)}, variant.tvm_target))
    return path


class KernelRunner:
    """A compiled kernel with its packed constants; beside: C files of functions that it calls."""

    def __init__(self, kernel: Kernel, variant: Variant, constants: Constants, beside: Sequence[Path] = ()) -> None:
        assert isinstance(kernel.launch, Items)
        self.items = kernel.launch.count
        self._kernel = kernel
        self._constants = self._packed(constants)
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self.object = object_code(kernel, variant, folder / "kernel.o")
        command = ["cc", "-O1", "-fPIC", "-shared", "-nostdlib", "-o", str(folder / "kernel.so"), str(self.object)]
        command += [str(path) for path in beside]
        subprocess.run(command, check=True)
        self._function = ctypes.CDLL(str(folder / "kernel.so")).kernel

    def with_constants(self, constants: Constants) -> KernelRunner:
        """The same compiled kernel with other constants."""
        other = copy.copy(self)
        other._constants = self._packed(constants)
        return other

    def _packed(self, constants: Constants) -> list[Array]:
        return [aligned(array) for array in self._kernel.pack(constants)]

    def bind(self, x: Array, tensors: Sequence[Array], outputs: Sequence[Array]) -> list[Any]:
        """Pointer arguments for `call`; the arrays must outlive them."""
        return [ctypes.c_void_p(a.ctypes.data) for a in (x, *self._constants, *tensors, *outputs)]

    def call(self, pointers: Sequence[Any], begin: int, end: int) -> None:
        """Run the work items [begin, end)."""
        status = self._function(*pointers, ctypes.c_int32(begin), ctypes.c_int32(end))
        assert status == 0

    def nanoseconds(self, pointers: Sequence[Any], repeats: int = 200) -> int:
        """The fastest of `repeats` runs of all work items, on this thread."""
        best = 1 << 62
        for _ in range(repeats):
            start = time.perf_counter_ns()
            self.call(pointers, 0, self.items)
            best = min(best, time.perf_counter_ns() - start)
        return best


def aligned(array: npt.NDArray[Any], alignment: int = 64, offset: int = 0) -> npt.NDArray[Any]:
    """A copy whose data starts `offset` bytes after a multiple of `alignment`."""
    raw = np.empty(array.nbytes + alignment + offset, np.uint8)
    start = -raw.ctypes.data % alignment + offset
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def empty_outputs(problem: Problem) -> list[Array]:
    """Uninitialised arrays for the outputs of a problem."""
    return [aligned(np.empty(b.storage_shape, b.dtype)) for b in outputs_of(problem)]
