"""Running a compiled library in a process of its own, with guard pages around every buffer and garbage in all memory.

Each buffer ends where a page begins that must not be touched, and begins behind such a page. Inputs cannot be written.
What alignment leaves over between a buffer and its guard is filled with a pattern that has to survive.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.bundle import glue
from qcompiler.bundle.contract import ALIGNMENT
from qcompiler.bundle.manifest import tensor_bytes
from qcompiler.bundle.native import POOL_BYTES
from qcompiler.ir.program import Program
from tests.fuzz import isolated
from tests.fuzz.samples import Sample

THREADS = (1, 2)
# by the number of threads: bytes of NaN, and of numbers
_GARBAGE = {1: 0xFF, 2: 0x42}
_PATTERN = 0xA5
_PAGE = mmap.PAGESIZE
_SECONDS = 20
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Crashed(Exception):
    """The library's process ended early, or something was written where nothing may be; `sample` is its number."""

    def __init__(self, message: str, sample: int) -> None:
        super().__init__(message)
        self.sample = sample


class Guarded:
    """Memory of `size` bytes between two guard pages, shared with child processes."""

    def __init__(self, size: int) -> None:
        room = -(-max(size, 1) // _PAGE) * _PAGE
        self._map = mmap.mmap(-1, room + 2 * _PAGE)
        self._whole = np.frombuffer(self._map, np.uint8)
        self._base, self._room = self._whole.ctypes.data, room
        start = _PAGE + (room - size) // ALIGNMENT * ALIGNMENT
        self.bytes = self._whole[start : start + size]
        self._slack = (self._whole[_PAGE:start], self._whole[start + size : _PAGE + room])
        for part in self._slack:
            part[:] = _PATTERN
        for guard in (self._base, self._base + _PAGE + room):
            _protect(guard, _PAGE, 0)

    def freeze(self) -> None:
        """Forbid writing."""
        _protect(self._base + _PAGE, self._room, mmap.PROT_READ)

    @property
    def whole(self) -> bool:
        """Whether nothing was written around the memory."""
        return all(bool(np.all(part == _PATTERN)) for part in self._slack)


@dataclass(frozen=True)
class Run:
    """The outputs of one sample on a number of threads."""

    sample: int
    threads: int
    outputs: Sample


@dataclass(frozen=True)
class Memory:
    """Inputs, outputs and workspace of one run."""

    inputs: tuple[Guarded, ...]
    outputs: tuple[Guarded, ...]
    workspace: Guarded

    @property
    def whole(self) -> bool:
        return all(part.whole for part in (*self.inputs, *self.outputs, self.workspace))


def run(library: Path, program: Program, samples: Sequence[Sample]) -> list[Run]:
    """Run every sample on one thread and on two. Raises Crashed, with the step where that is known."""
    memories = [
        (number, threads, _memory(program, samples[number], threads))
        for number in range(len(samples))
        for threads in THREADS
    ]
    reached = Guarded(1)
    reached.bytes[:] = 0

    def all_of_them() -> int:
        functions = ctypes.CDLL(str(library), mode=os.RTLD_NOW | os.RTLD_LOCAL)
        for index, (_, threads, memory) in enumerate(memories):
            reached.bytes[:] = index
            if status := _call(functions, program.name, memory, threads):
                return status
        return 0

    ended = _ended(all_of_them)
    number, threads, _ = memories[int(reached.bytes[0])]
    if ended:
        where = _where(library, program, samples[number]) if threads == 1 else " on two threads alone"
        raise Crashed(f"{ended}{where}", number)
    for number, _, memory in memories:
        if not memory.whole:
            raise Crashed("wrote beside a buffer", number)
    return [Run(number, threads, _outputs(program, memory)) for number, threads, memory in memories]


def _outputs(program: Program, memory: Memory) -> Sample:
    tensors = zip(program.outputs, memory.outputs, strict=True)
    return {t.name: part.bytes.view(t.dtype).reshape(t.shape) for t, part in tensors}


def _memory(program: Program, sample: Sample, threads: int) -> Memory:
    inputs = tuple(Guarded(tensor_bytes(tensor)) for tensor in program.inputs)
    for tensor, part in zip(program.inputs, inputs, strict=True):
        part.bytes[:] = np.frombuffer(np.ascontiguousarray(sample[tensor.name]).tobytes(), np.uint8)
        part.freeze()
    outputs = tuple(Guarded(tensor_bytes(tensor)) for tensor in program.outputs)
    memory = Memory(inputs, outputs, Guarded(glue.workspace_size(program)))
    for part in (*outputs, memory.workspace):
        part.bytes[:] = _GARBAGE[threads]
    return memory


def _call(functions: ctypes.CDLL, name: str, memory: Memory, threads: int) -> int:
    pointers = _pointers(memory)
    if threads == 1:
        return int(functions[f"{name}_run"](*pointers))
    pool = Guarded(POOL_BYTES)
    pool.bytes[:] = 0
    address = ctypes.c_void_p(pool.bytes.ctypes.data)
    status = functions[f"{name}_pool_start"](address, threads)
    status = status or functions[f"{name}_run_pool"](address, *pointers)
    functions[f"{name}_pool_stop"](address)
    return int(status)


def _where(library: Path, program: Program, sample: Sample) -> str:
    """The step that ends a run, found by running one at a time."""
    memory = _memory(program, sample, 1)
    for index, step in enumerate(program.steps):

        def one(index: int = index) -> int:
            functions = ctypes.CDLL(str(library), mode=os.RTLD_NOW | os.RTLD_LOCAL)
            return int(functions[f"{program.name}_run_steps"](*_pointers(memory), index, index + 1))

        if _ended(one):
            return f" in step {index} ({step.op})"
    return ""


def _pointers(memory: Memory) -> tuple[Any, ...]:
    inputs, outputs = (_addresses(parts) for parts in (memory.inputs, memory.outputs))
    workspace = memory.workspace.bytes
    return inputs, outputs, ctypes.c_void_p(workspace.ctypes.data), ctypes.c_size_t(workspace.size)


def _addresses(parts: Sequence[Guarded]) -> Any:
    return (ctypes.c_void_p * len(parts))(*[part.bytes.ctypes.data for part in parts])


def _ended(body: Callable[[], int]) -> str:
    """How a run ended that did not give 0."""
    try:
        status = isolated.call(body, _SECONDS)
    except isolated.Ended as error:
        return str(error)
    return f"status {status}" if status else ""


def _protect(address: int, size: int, flags: int) -> None:
    if _LIBC.mprotect(address, size, flags):
        raise OSError(ctypes.get_errno(), "mprotect")
