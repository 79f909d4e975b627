"""Run a bundle in a process of its own, whole or step by step, as `load.Bundle` does in this one.

A small C program around the library shares a file with this process that holds inputs, outputs and workspace, and runs
steps when asked: all memory can be looked at and changed in between. Code that touches a byte outside of its buffers,
writes to an input, dies or hangs ends in VerificationFailed with the name of the step, and hurts nobody. A bundle for
another processor family runs the same way under a user-mode emulator, modules of WebAssembly in node, and libraries for
microcontrollers on emulated boards, of which every variant has its own.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.bundle import board_files, cuda_shim, glue, javascript, toolchain, wasm_link
from qcompiler.bundle.guarded import GuardedMemory, plan
from qcompiler.bundle.manifest import (
    DTYPES,
    Manifest,
    bare_library_name,
    check_threads,
    module_name,
    tensor_bytes,
)
from qcompiler.bundle.native import ALIGNMENT
from qcompiler.bundle.stepping import Stepper
from qcompiler.bundle.tensors import checked_inputs, part, times
from qcompiler.bundle.worker import Misbehaved, Worker
from qcompiler.errors import QCompilerError, UsageError, VerificationFailed
from qcompiler.targets.architecture import named
from qcompiler.targets.boards import BOARDS

Array = npt.NDArray[Any]

BEST = -1
# a request that asks how deep the stack was
NO_THREADS = 0
REMEDY = "please report the model"
# far slower than any machine or emulator: only code that hangs takes longer
_LEAST_SECONDS = 120
_NATIVE_MACS_PER_SECOND, _EMULATED_MACS_PER_SECOND = 50_000_000, 2_000_000
_PROGRAM = "isolated.c"
# SPACE of c/board_isolated.c, and what its own data take at most
_BOARD_GUARD_BYTES = 4096
_BOARD_DATA_BYTES = 16 * 1024


class IsolatedBundle:
    """A bundle in a process of its own, to be closed after use.

    directory: the written bundle. emulator: the program that runs its code, "" for this machine itself. seconds: how
    long a run may take; by default longer than any run that ends. variant: the number of the instruction-set variant
    that later runs use, or BEST.

    There is one memory, in which `run` and `stepper` start anew: an earlier stepper is over then.
    """

    def __init__(self, directory: Path, manifest: Manifest, emulator: str = "", seconds: int = 0) -> None:
        self.manifest = manifest
        self.variant = BEST
        self._numbers = itertools.count()
        self._current: IsolatedExecution | None = None
        with contextlib.ExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            self._memory = _memory(manifest)
            opened.callback(self._memory.close)
            self._check_boards(manifest)
            self._launches = _launches(folder, directory, manifest, emulator)
            self._patience = seconds or _patience(manifest, emulator)
            self._workers = [
                Worker(_command(each, self._memory), self._memory, self._patience) for each in self._launches
            ]
            for worker in self._workers:
                opened.callback(worker.close)
            self._open = opened.pop_all()

    def __enter__(self) -> IsolatedBundle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process and remove its files."""
        self._open.close()

    def run(self, inputs: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
        """Run the network; see `load.Bundle.run`. Raises VerificationFailed where its code misbehaves."""
        check_threads(threads)
        number, last = next(self._numbers), len(self.manifest.steps)
        execution = self._start(inputs, number)
        try:
            execution.request(0, last, threads)
        except Misbehaved as error:
            raise _failure(self.manifest, str(error), *self._culprit(inputs, number), threads) from error
        return Stepper(execution, self.manifest.steps, self.manifest.outputs).outputs()

    def together(self, inputs: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """What several runs give that a device launches together. Raises VerificationFailed where code misbehaves."""
        count, last = len(inputs), len(self.manifest.steps)
        kinds = (self.manifest.inputs, self.manifest.outputs)
        all_inputs, all_outputs = (tuple(times(tensor, count) for tensor in tensors) for tensors in kinds)
        inner = replace(self.manifest, inputs=all_inputs, outputs=all_outputs)
        given = [checked_inputs(each, self.manifest.inputs) for each in inputs]
        with contextlib.closing(_memory(inner, count)) as memory:
            memory.fill(next(self._numbers), at_start=False)
            worker = Worker(_command(self._launches[self._place(self.variant)], memory), memory, self._patience * count)
            with contextlib.closing(worker):
                execution = IsolatedExecution(inner, memory, worker, self.variant)
                for array, *sources in zip(execution.inputs, *given, strict=True):
                    array[...] = np.concatenate(sources)
                try:
                    execution.request(0, last, count)
                except Misbehaved as error:
                    raise _failure(self.manifest, f"{error}, together with others", 0, last) from error
                parts = zip(self.manifest.outputs, execution.outputs, strict=True)
                found = [(tensor, array.copy()) for tensor, array in parts]
        return [{tensor.name: part(array, tensor, index) for tensor, array in found} for index in range(count)]

    def stepper(self, inputs: Mapping[str, Array]) -> Stepper:
        """A run on one thread that can be stopped between steps."""
        return Stepper(self._start(inputs, next(self._numbers)), self.manifest.steps, self.manifest.outputs)

    def at(self, variant: int) -> AtVariant:
        """The bundle, to be run with one variant."""
        return AtVariant(self, variant)

    def supports(self, variant: int) -> bool:
        """Whether the processor that runs the code has all that a variant needs."""
        return self._worker(variant).request(variant, 1, 0, 0)[0] == 0

    def stack_bytes(self, variant: int) -> int:
        """How much of the stack the runs so far have used, on an emulated board."""
        return self._worker(variant).request(variant, NO_THREADS, 0, 0)[0]

    def command(self, file: Path, *options: str, variant: int = BEST) -> list[str]:
        """The program of a variant on a file of `memory_bytes`, with more options for the emulator."""
        return self._launches[self._place(variant)].command(str(file), self._memory, options)

    def _check_boards(self, manifest: Manifest) -> None:
        """Raise UnsupportedModel where a board has no room for buffers, guards and a stack."""
        guards = _BOARD_GUARD_BYTES * (len(self._memory.buffers) + 2)
        needed = self.memory_bytes + guards + _BOARD_DATA_BYTES
        for variant in manifest.variants if named(manifest.architecture).bare else ():
            if needed + board_files.deep_stack(variant.name) > BOARDS[variant.name].ram.nbytes:
                raise board_files.too_large(variant.name)

    def _worker(self, variant: int) -> Worker:
        return self._workers[self._place(variant)]

    def _place(self, variant: int) -> int:
        """Which of the programs runs a variant."""
        return max(variant, 0) if len(self._launches) > 1 else 0

    @property
    def memory_bytes(self) -> int:
        """Size of the shared file."""
        return sum(buffer.pages for buffer in self._memory.buffers)

    def _start(self, inputs: Mapping[str, Array], number: int) -> IsolatedExecution:
        """Run `number`, among garbage of its own; in every other one the buffers lie at the start of their pages."""
        given = checked_inputs(inputs, self.manifest.inputs)
        if self._current is not None:
            self._current.over = True
        self._memory.fill(number, at_start=number % 2 == 1)
        self._current = IsolatedExecution(self.manifest, self._memory, self._worker(self.variant), self.variant)
        for array, source in zip(self._current.inputs, given, strict=True):
            array[...] = source
        return self._current

    def _culprit(self, inputs: Mapping[str, Array], number: int) -> tuple[int, int]:
        """The step in which run `number` misbehaves, as a range; all steps where it does not happen again."""
        execution, steps = self._start(inputs, number), len(self.manifest.steps)
        for index in range(steps):
            try:
                execution.request(index, index + 1)
            except (QCompilerError, Misbehaved):
                return index, index + 1
        return 0, steps


@dataclass(frozen=True)
class AtVariant:
    """An isolated bundle that is run with the variant of this number."""

    bundle: IsolatedBundle
    variant: int

    def run(self, inputs: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
        """See `IsolatedBundle.run`."""
        self.bundle.variant = self.variant
        return self.bundle.run(inputs, threads)

    def together(self, inputs: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """See `IsolatedBundle.together`."""
        self.bundle.variant = self.variant
        return self.bundle.together(inputs)

    def stepper(self, inputs: Mapping[str, Array]) -> Stepper:
        """See `IsolatedBundle.stepper`."""
        self.bundle.variant = self.variant
        return self.bundle.stepper(inputs)


class IsolatedExecution:
    """A run in the memory of an isolated bundle, until the next one starts; see `execution.Execution`."""

    def __init__(self, manifest: Manifest, memory: GuardedMemory, worker: Worker, variant: int) -> None:
        tensors = (*manifest.inputs, *manifest.outputs)
        arrays = [memory.bytes_of(i).view(each.dtype).reshape(each.shape) for i, each in enumerate(tensors)]
        count = len(manifest.inputs)
        self.inputs, self.outputs, self.workspace = arrays[:count], arrays[count:], memory.bytes_of(len(tensors))
        self.over = False
        self._manifest = manifest
        self._worker = worker
        self._variant = variant

    def run_steps(self, first: int, last: int) -> None:
        """Run the steps first .. last - 1. Raises VerificationFailed where they misbehave."""
        try:
            self.request(first, last)
        except Misbehaved as error:
            raise _failure(self._manifest, str(error), first, last) from error

    def request(self, first: int, last: int, threads: int = 1) -> None:
        """Run steps, all of them where there are several threads; lets Misbehaved through.

        Raises QCompilerError where the network itself says that it failed.
        """
        if self.over:
            raise UsageError("this run is over: another one was started", remedy="finish one run before the next")
        status, text = self._worker.request(self._variant, threads, first, last)
        if status:
            raise QCompilerError(f"the compiled network failed: {text or f'status {status}'}")


@dataclass(frozen=True)
class _Launch:
    """How a program is run: words before it, and whether its arguments are one word behind "-append"."""

    words: tuple[str, ...]
    program: str
    on_board: bool = False

    def command(self, file: str, memory: GuardedMemory, options: Sequence[str] = ()) -> list[str]:
        """The program on a file that is laid out as a memory is, with more options for the emulator."""
        arguments = [file, *memory.arguments()]
        if self.on_board:
            return [*self.words, *options, "-kernel", self.program, "-append", " ".join(arguments)]
        return [*self.words, *options, self.program, *arguments]


def _launches(folder: Path, directory: Path, manifest: Manifest, emulator: str) -> list[_Launch]:
    """The program that runs a bundle's code, made of copies in `folder`; one for each variant where they need that."""
    if named(manifest.architecture).file_format == "wasm":
        return [_Launch((emulator,), str(_script(folder, directory, manifest)))]
    if named(manifest.architecture).file_format == "cuda":
        return [_Launch((), str(_stand_in(folder, directory, manifest)))]
    if named(manifest.architecture).bare:
        return [_on_board(folder, directory, manifest, each.name, emulator) for each in manifest.variants]
    program = str(_build(folder, directory, manifest, alone=bool(emulator)))
    return [_Launch((emulator, "-cpu", named(manifest.architecture).emulator_cpu) if emulator else (), program)]


def _on_board(folder: Path, directory: Path, manifest: Manifest, variant: str, emulator: str) -> _Launch:
    """The program around the library of a variant, on its board."""
    place, name = folder / variant, manifest.name
    place.mkdir()
    library = bare_library_name(name, variant)
    for file in (library, f"{name}.h", board_files.STARTUP, board_files.SEMIHOSTING):
        shutil.copyfile(directory / file, place / file)
    (place / _PROGRAM).write_text(glue.named("board_isolated.c", name), encoding="utf-8")
    board_files.add_script(place, variant, board_files.deep_stack(variant))
    chain = toolchain.toolchain_for(manifest.architecture)
    program = board_files.program(chain, variant, [_PROGRAM, board_files.STARTUP], library, place)
    return _Launch(board_files.emulation(emulator, variant), str(program), on_board=True)


def _script(folder: Path, directory: Path, manifest: Manifest) -> Path:
    """The program around the modules."""
    files = [module_name(manifest.name, variant.name) for variant in manifest.variants]
    for file in files:
        shutil.copyfile(directory / file, folder / file)
    path = folder / "isolated.mjs"
    path.write_text(javascript.isolated(manifest, files, wasm_link.STACK_BYTES), encoding="utf-8")
    return path


def _stand_in(folder: Path, directory: Path, manifest: Manifest) -> Path:
    """The program around the sources of a device's kernels, which the processor runs."""
    cuda_shim.build(folder, directory, manifest)
    return _compiled(folder, manifest, "-Wl,-rpath,$ORIGIN", f"lib{manifest.name}.so")


def _build(folder: Path, directory: Path, manifest: Manifest, *, alone: bool) -> Path:
    """The program around the shared library, which most users load, or around the static one where it stands alone."""
    name = manifest.name
    library = f"lib{name}.a" if alone else f"lib{name}.so"
    for file in (library, f"{name}.h"):
        shutil.copyfile(directory / file, folder / file)
    return _compiled(folder, manifest, "-static" if alone else "-Wl,-rpath,$ORIGIN", library)


def _compiled(folder: Path, manifest: Manifest, linked: str, library: str) -> Path:
    """The program, linked with a library in `folder`."""
    (folder / _PROGRAM).write_text(glue.named(_PROGRAM, manifest.name), encoding="utf-8")
    chain = toolchain.toolchain_for(manifest.architecture)
    chain.run("cc", "-O1", linked, _PROGRAM, library, "-lm", "-pthread", "-o", "isolated", folder=folder)
    return folder / "isolated"


def _command(launch: _Launch, memory: GuardedMemory) -> list[str]:
    """A program on the file of a memory."""
    return launch.command(f"/proc/self/fd/{memory.descriptor}", memory)


def _memory(manifest: Manifest, runs: int = 1) -> GuardedMemory:
    """Memory for tensors as the manifest has them, and the workspaces of so many runs."""
    tensors = [(f"input '{each.name}'", each) for each in manifest.inputs]
    tensors += [(f"output '{each.name}'", each) for each in manifest.outputs]
    arrays = [(label, tensor_bytes(each), DTYPES[each.dtype]) for label, each in tensors]
    return GuardedMemory(plan([*arrays, ("the workspace", runs * manifest.workspace_bytes, ALIGNMENT)]))


def _patience(manifest: Manifest, emulator: str) -> int:
    speed = _EMULATED_MACS_PER_SECOND if emulator else _NATIVE_MACS_PER_SECOND
    return _LEAST_SECONDS + sum(step.macs for step in manifest.steps) // speed


def _failure(manifest: Manifest, what: str, first: int, last: int, threads: int = 1) -> VerificationFailed:
    if threads > 1:
        what = f"on {threads} threads {what}"
    if last - first != 1:
        return VerificationFailed(f"a run of steps {first} to {last - 1} {what}", remedy=REMEDY)
    step = manifest.steps[first]
    return VerificationFailed(f"step {first} ({step.op}) {what}", node=next(iter(step.nodes), ""), remedy=REMEDY)
