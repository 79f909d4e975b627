"""Run a bundle for another processor family under a user-mode emulator, step by step, as `load.Bundle` does natively.

A small C program around the static library is compiled for the bundle's machine. It shares a file with this process
that holds inputs, outputs and workspace, and runs steps when asked: all memory can be looked at and changed in between.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.bundle import glue, toolchain
from qcompiler.bundle.manifest import Manifest, tensor_bytes
from qcompiler.bundle.native import ALIGNMENT
from qcompiler.bundle.stepping import Stepper
from qcompiler.bundle.tensors import checked_inputs
from qcompiler.errors import QCompilerError
from qcompiler.ir.program import TensorInfo

Array = npt.NDArray[Any]

PACKAGE = "qemu-user"
_PROGRAM = "emulated.c"


def emulator_for(architecture: str) -> str | None:
    """The path of an installed emulator of user programs; None where there is none."""
    name = f"qemu-{architecture}"
    return shutil.which(name) or shutil.which(f"{name}-static")


class EmulatedBundle:
    """A bundle of another architecture, to be closed after use.

    directory: the written bundle. variant: the number of the instruction-set variant to run. executable: the program
    that runs steps in a shared file; see c/emulated.c.
    """

    def __init__(self, directory: Path, manifest: Manifest, emulator: str) -> None:
        self.variant = 0
        self._manifest = manifest
        self._emulator = emulator
        self._open = contextlib.ExitStack()
        self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._open.close)
            self.executable = self._build(directory)
            on_failure.pop_all()

    def __enter__(self) -> EmulatedBundle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the network; see `load.Bundle.run`."""
        with self._execution(inputs) as execution:
            execution.run_steps(0, len(self._manifest.steps))
            return Stepper(execution, self._manifest.steps, self._manifest.outputs).outputs()

    def stepper(self, inputs: Mapping[str, Array]) -> Stepper:
        """A run that can be stopped between steps; it ends with this bundle."""
        execution = self._open.enter_context(self._execution(inputs))
        return Stepper(execution, self._manifest.steps, self._manifest.outputs)

    @property
    def memory_bytes(self) -> int:
        """Size of the shared file."""
        return sum(_file_sizes(self._manifest)) + self._manifest.workspace_bytes

    def _build(self, directory: Path) -> Path:
        chain = toolchain.toolchain_for(self._manifest.architecture)
        name = self._manifest.name
        library = f"lib{name}.a"
        (self._folder / _PROGRAM).write_text(glue.named(_PROGRAM, name), encoding="utf-8")
        for file in (library, f"{name}.h"):
            shutil.copyfile(directory / file, self._folder / file)
        chain.run("cc", "-O1", "-static", _PROGRAM, library, "-lm", "-o", "emulated", folder=self._folder)
        return self._folder / "emulated"

    @contextlib.contextmanager
    def _execution(self, inputs: Mapping[str, Array]) -> Iterator[EmulatedExecution]:
        given = checked_inputs(inputs, self._manifest.inputs)
        with tempfile.NamedTemporaryFile(dir=self._folder) as file:
            memory = _Memory(Path(file.name), self._manifest)
            for array, source in zip(memory.inputs, given, strict=True):
                array[...] = source
            command = [self._emulator, "-cpu", "max", str(self.executable), file.name]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
                try:
                    yield EmulatedExecution(memory, process, self.variant)
                finally:
                    process.kill()


class _Memory:
    """The shared file as arrays: inputs, outputs and workspace."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        tensors = (*manifest.inputs, *manifest.outputs)
        sizes = _file_sizes(manifest)
        whole = np.memmap(path, np.uint8, "w+", shape=(sum(sizes) + manifest.workspace_bytes,))
        starts = np.cumsum([0, *sizes])
        arrays = [_array(whole[start:], tensor) for start, tensor in zip(starts, tensors, strict=False)]
        count = len(manifest.inputs)
        self.inputs, self.outputs, self.workspace = arrays[:count], arrays[count:], whole[starts[-1] :]


def _file_sizes(manifest: Manifest) -> list[int]:
    """Bytes of each input and output in the shared file."""
    tensors = (*manifest.inputs, *manifest.outputs)
    return [-(-tensor_bytes(tensor) // ALIGNMENT) * ALIGNMENT for tensor in tensors]


def _array(memory: Array, tensor: TensorInfo) -> Array:
    return memory[: tensor_bytes(tensor)].view(tensor.dtype).reshape(tensor.shape)


class EmulatedExecution:
    """One prepared execution in an emulator; see `execution.Execution`."""

    def __init__(self, memory: _Memory, process: subprocess.Popen[str], variant: int) -> None:
        self.inputs, self.outputs, self.workspace = memory.inputs, memory.outputs, memory.workspace
        self._process = process
        self._variant = variant

    def run_steps(self, first: int, last: int) -> None:
        """Run the steps first .. last - 1."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{self._variant} {first} {last}\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer:
            status = self._process.wait()
            raise QCompilerError(
                f"the network ended under the emulator with status {status} in steps {first} to {last}"
            )
        if answer != "0":
            raise QCompilerError(f"the network failed under the emulator: {answer}")
