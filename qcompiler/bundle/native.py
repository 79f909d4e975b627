"""The loaded C library: ctypes bindings, its threads, and nothing that outlives its owner."""

from __future__ import annotations

import _ctypes
import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InvalidBundle, QCompilerError, UsageError
from qcompiler.ir.program import TensorInfo

ALIGNMENT = 64
# as header.h says
POOL_BYTES = 4096
# as manifest.MAX_RANK
MAX_RANK = 16

Array = npt.NDArray[Any]
Addresses = Any


class _Tensor(ctypes.Structure):
    """NAME_tensor of the public header."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("rank", ctypes.c_int),
        ("bytes", ctypes.c_size_t),
    )


POINTERS = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
"""Parameters of every run: arrays of pointers to inputs and outputs, the workspace and its bytes."""

COMMON_SIGNATURES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "run": (POINTERS, ctypes.c_int),
    "run_steps": ((*POINTERS, ctypes.c_int, ctypes.c_int), ctypes.c_int),
    "run_profile": ((*POINTERS, ctypes.c_void_p), ctypes.c_int),
    "variant": ((), ctypes.c_int),
    "select_variant": ((ctypes.c_int,), ctypes.c_int),
    "variant_name": ((ctypes.c_int,), ctypes.c_char_p),
    "input": ((ctypes.c_int,), ctypes.POINTER(_Tensor)),
    "output": ((ctypes.c_int,), ctypes.POINTER(_Tensor)),
    "status_text": ((ctypes.c_int,), ctypes.c_char_p),
    "workspace_size": ((), ctypes.c_size_t),
    "steps": ((), ctypes.c_int),
}
"""Functions of every library: parameters and result."""

_SIGNATURES: dict[str, tuple[tuple[Any, ...], Any]] = {
    **COMMON_SIGNATURES,
    "run_pool": ((ctypes.c_void_p, *POINTERS), ctypes.c_int),
    "run_pool_profile": ((ctypes.c_void_p, *POINTERS, ctypes.c_void_p), ctypes.c_int),
    "pool_start": ((ctypes.c_void_p, ctypes.c_int), ctypes.c_int),
    "pool_start_exactly": ((ctypes.c_void_p, ctypes.c_int), ctypes.c_int),
    "pool_threads": ((ctypes.c_void_p,), ctypes.c_int),
    "pool_stop": ((ctypes.c_void_p,), ctypes.c_int),
}


def aligned_empty(shape: Sequence[int], dtype: str) -> Array:
    """An uninitialised C-contiguous array whose data is 64-byte aligned."""
    bytes_ = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = np.empty(bytes_ + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + bytes_].view(dtype).reshape(tuple(shape))


def addresses(arrays: Sequence[Array]) -> Addresses:
    """The C array of the arrays' data pointers; the arrays must outlive it."""
    return (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])


class Library:
    """The functions of one bundle's shared library.

    The library is opened from a private copy in memory: the code that runs is the code that was checked, whatever
    happens to the file, and every `Library` has its own selected variant.
    """

    signatures: ClassVar = _SIGNATURES

    def __init__(self, name: str, content: bytes) -> None:
        descriptor, path = _private_copy(name, content)
        try:
            loaded = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
        except OSError as error:
            os.close(descriptor)
            raise InvalidBundle(f"lib{name}.so cannot be loaded ({error})", remedy="compile the model again") from error
        self._functions: dict[str, Any] = {}
        self._pools = _Pools(self)
        self.close = weakref.finalize(self, _unload, self._pools.started, self._functions, loaded._handle, descriptor)
        for function, (parameters, result) in self.signatures.items():
            self._functions[function] = _bind(loaded, f"{name}_{function}", parameters, result)

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function by its name without the network's prefix."""
        return self._functions[function](*arguments)

    def check(self, status: int) -> None:
        """Raise QCompilerError for a status other than 0."""
        if status:
            text = self.call("status_text", status)
            raise QCompilerError(
                f"the compiled network failed: {text.decode('utf-8', 'replace') if text else f'status {status}'}"
            )

    def tensors(self, kind: str, count: int) -> tuple[TensorInfo, ...]:
        """The first `count` "input" or "output" tensors as the library describes them, fewer where it has fewer."""
        found = []
        for index in range(count):
            pointer = self.call(kind, index)
            if not pointer or not 0 <= pointer.contents.rank <= MAX_RANK:
                break
            tensor = pointer.contents
            shape = tuple(tensor.shape[axis] for axis in range(tensor.rank))
            found.append(TensorInfo(tensor.name.decode("utf-8", "replace"), shape, tensor.dtype.decode()))
        return tuple(found)

    def variant_names(self, count: int) -> tuple[str, ...]:
        """Names of the first `count` variants, fewer where the library has fewer."""
        names = (self.call("variant_name", index) for index in range(count))
        return tuple(name.decode() for name in names if name)

    @contextlib.contextmanager
    def pool(self, threads: int) -> Iterator[int]:
        """The address of a pool that nobody else uses meanwhile, of `threads` threads, or a thread per processor."""
        with self._pools.borrow(threads) as address:
            yield address


@dataclass
class _Pools:
    """Thread pools of a library, kept for the next run; those of a parent process are forgotten after a fork."""

    library: Any
    started: list[tuple[int, Array]] = field(default_factory=list)
    idle: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.library = weakref.ref(self.library)

    @contextlib.contextmanager
    def borrow(self, threads: int) -> Iterator[int]:
        key = (os.getpid(), threads)
        with self.lock:
            waiting = self.idle.setdefault(key, [])
            address = waiting.pop() if waiting else 0
        address = address or self._start(threads)
        try:
            yield address
        finally:
            with self.lock:
                waiting.append(address)

    def _start(self, threads: int) -> int:
        library: Library = self.library()
        storage = aligned_empty((POOL_BYTES,), "uint8")
        address = int(storage.ctypes.data)
        status = library.call("pool_start", address, threads)
        if status:
            raise UsageError(
                f"{threads} threads cannot be started ({library.call('status_text', status).decode()})",
                remedy="use fewer threads",
            )
        with self.lock:
            self.started.append((os.getpid(), storage))
        return address


def _private_copy(name: str, content: bytes) -> tuple[int, str]:
    descriptor = os.memfd_create(f"lib{name}.so", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    # The number is part of the path: it stays open as long as the library, so that no other library gets this path.
    return descriptor, str(Path("/proc/self/fd") / str(descriptor))


def _bind(library: ctypes.CDLL, name: str, parameters: tuple[Any, ...], result: Any) -> Any:
    try:
        function = library[name]
    except AttributeError as error:
        raise InvalidBundle(f"the library has no function {name}", remedy="compile the model again") from error
    function.argtypes = parameters
    function.restype = result
    return function


def _unload(pools: list[tuple[int, Array]], functions: dict[str, Any], handle: int, descriptor: int) -> None:
    for process, storage in pools:
        if process == os.getpid():
            functions["pool_stop"](storage.ctypes.data)
    functions.clear()
    _ctypes.dlclose(handle)
    os.close(descriptor)
