"""Load and run a bundle. Needs numpy and the standard library alone: no compiler, no ONNX, no TVM."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.bundle import elf, notebook, stored_values
from qcompiler.bundle import manifest as manifests
from qcompiler.bundle.cuda_library import DeviceBatch, DeviceLibrary, DeviceRun, DeviceStepping, room_for
from qcompiler.bundle.execution import Execution, Runs, Workspace
from qcompiler.bundle.manifest import (
    FILE_NAME,
    REPORT_JSON,
    REPORT_PAGE,
    REPORT_TEXT,
    Manifest,
    Step,
    VariantInfo,
    check_threads,
)
from qcompiler.bundle.native import ALIGNMENT, Library, aligned_empty
from qcompiler.bundle.stepping import Stepper
from qcompiler.bundle.tensors import checked_inputs, in_file_dtype, new_outputs, part, runs_of, times
from qcompiler.bundle.timing import Benchmark, Profile, measure, profile_of
from qcompiler.errors import InvalidBundle, UnsupportedCpu, UsageError
from qcompiler.ir.program import TensorInfo
from qcompiler.targets.architecture import host, host_features, named

Array = npt.NDArray[Any]
# kept for later runs; chosen
MAX_IDLE_WORKSPACES = 8
# of a device, for runs on arrays of the host: more would wait for the copies; chosen
MOST_TOGETHER_BYTES = 2**30
REMEDY = "compile the model again"
_SAFE_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Bundle:
    """A compiled network, ready to run. All methods may be called from several threads at the same time.

    Without a library it can be described, but not run: methods that would run it raise UnsupportedCpu.
    """

    def __init__(
        self, directory: Path, manifest: Manifest, library: Library | None, texts: Mapping[str, bytes]
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        self._loaded = library
        self._texts = texts
        self._idle: list[Workspace] = []
        self._lock = threading.Lock()

    @property
    def runs_here(self) -> bool:
        """Whether this machine runs any of its variants."""
        return self._loaded is not None

    @property
    def _library(self) -> Library:
        if self._loaded is None:
            native = _is_native(self.manifest)
            raise _unsupported(self.manifest, self.manifest.variants) if native else _foreign(self.manifest)
        return self._loaded

    def moved(self, directory: Path) -> Bundle:
        """The same where its files lie in another directory since it was opened; what was checked is not read again."""
        return Bundle(directory, self.manifest, self._loaded, self._texts)

    def with_reports(self, manifest: Manifest, reports: Mapping[str, bytes]) -> Bundle:
        """The same where reports, by file name, were added since it was opened."""
        return Bundle(self.directory, manifest, self._loaded, reports)

    @property
    def name(self) -> str:
        """Name of the network, the prefix of its C functions."""
        return self.manifest.name

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Inputs by their names in the ONNX file."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Outputs by their names in the ONNX file."""
        return self.manifest.outputs

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is executed, in order."""
        return self.manifest.steps

    @property
    def variants(self) -> tuple[VariantInfo, ...]:
        """Instruction-set variants in the library, best first."""
        return self.manifest.variants

    @property
    def variant(self) -> str:
        """The variant in use."""
        return self.variants[self._variant_index()].name

    @property
    def report(self) -> Mapping[str, Any]:
        """The compiler's report, as in report.json; empty where the bundle has none."""
        return dict(json.loads(self._texts.get(REPORT_JSON, b"{}")))

    @property
    def report_text(self) -> str:
        """The compiler's report for people, as in report.txt; empty where the bundle has none."""
        return self._texts.get(REPORT_TEXT, b"").decode("utf-8", "replace")

    def __repr__(self) -> str:
        return notebook.in_words(self.manifest, str(self.directory))

    def _repr_html_(self) -> str:
        """What a notebook shows: the bundle's facts, and its report."""
        return notebook.as_html(self.manifest, str(self.directory), self._texts.get(REPORT_PAGE, b""))

    def run(self, inputs: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
        """Run the network.

        inputs: one array per input, by ONNX name, of exactly its shape, or where the manifest says `any_batch` of any
        multiple of it along the first axis, of its dtype or that in the ONNX file, without NaN. The result has one
        new array per output, by ONNX name, of its dtype in the ONNX file; bfloat16, which numpy has not, stays float32.
        There are no more threads than processors that this process may run on; outputs do not depend on their number.
        Raises UsageError for wrong inputs or thread counts.
        """
        with self._runs(inputs, threads) as (runs, outputs):
            runs.run()
        results = zip(self.outputs, outputs, strict=True)
        return {tensor.name: in_file_dtype(array, tensor) for tensor, array in results}

    def on_device(self, batch: int | None = None) -> DeviceRun:
        """Runs on arrays that lie on a device.

        batch: the first axis of all arrays, where the manifest says `any_batch`, a multiple of that of the network;
        None: as the network has it. Raises UsageError where the bundle is for no device, or has no such batch, and
        QCompilerError where the device has not enough memory for it.
        """
        if not isinstance(self._library, DeviceLibrary):
            raise UsageError(f"the bundle is for {self.manifest.target}", remedy="compile the model with --target cuda")
        count = 1 if batch is None else self._runs_in(batch)
        inputs, outputs = ([times(tensor, count) for tensor in tensors] for tensors in (self.inputs, self.outputs))
        return DeviceRun(self._library, inputs, outputs, self.manifest.workspace_bytes, count)

    def _runs_in(self, batch: int) -> int:
        """How many runs a batch is."""
        rows = self.inputs[0].shape[0] if self.inputs[0].shape else 0
        if rows and (batch == rows or self.manifest.any_batch) and batch > 0 and batch % rows == 0:
            return batch // rows
        expected = f"a multiple of {rows}" if self.manifest.any_batch else f"{rows}, which is compiled in"
        raise UsageError(f"a batch of {batch}, expected {expected}", remedy="compile the model for it with --shape")

    def benchmark(self, inputs: Mapping[str, Array], *, threads: int = 1, seconds: float = 1.0) -> Benchmark:
        """Time whole runs of the network for about `seconds`; the result says on how many threads they were."""
        with self._runs(_some(inputs), threads) as (runs, _):
            return measure(runs.run, seconds, runs.threads)

    def profile(self, inputs: Mapping[str, Array], *, repeats: int = 50, threads: int = 1) -> Profile:
        """Median time of every step over `repeats` runs, after one to warm up."""
        if repeats < 1:
            raise UsageError(f"{repeats} repeats, expected at least 1")
        with self._runs(_some(inputs), threads) as (runs, _):
            runs.run()
            times = np.array([runs.profile(len(self.steps)) for _ in range(repeats)])
        return profile_of(times, self.steps, self._variant_index(), runs.threads)

    def stepper(self, inputs: Mapping[str, Array]) -> Stepper:
        """A run on one thread that can be stopped between steps, with memory of its own."""
        given = [array.copy() for array in checked_inputs(inputs, self.inputs)]
        outputs = new_outputs(self.outputs, 1)
        execution: Execution
        if isinstance(self._library, DeviceLibrary):
            execution = DeviceStepping(self._library, given, outputs, self.manifest.workspace_bytes)
        else:
            workspace = aligned_empty((self.manifest.workspace_bytes,), "uint8")
            workspace[...] = 0
            execution = Execution(self._library, given, outputs, workspace)
        return Stepper(execution, self.steps, self.outputs)

    @contextlib.contextmanager
    def _runs(self, inputs: Mapping[str, Array], threads: int) -> Iterator[tuple[Runs, list[Array]]]:
        """The runs that inputs ask for, and the outputs that they write."""
        given = checked_inputs(inputs, self.inputs, any_batch=self.manifest.any_batch)
        check_threads(threads)
        if threads > 1 and not named(self.manifest.architecture).threads:
            raise UsageError(f"{threads} threads: bundles for {self.manifest.target} are run by one", remedy="give 1")
        count = runs_of(given[0], self.inputs[0])
        outputs = new_outputs(self.outputs, count)
        pooled = contextlib.nullcontext(0) if threads == 1 else self._library.pool(int(threads))
        with self._workspace(count) as workspace, pooled as pool:
            if isinstance(self._library, DeviceLibrary):
                yield Runs([DeviceBatch(self._library, given, outputs, workspace, count)]), outputs
            else:
                parts = [self._part(given, outputs, index, workspace, pool) for index in range(count)]
                yield Runs(parts, self._library.call("pool_threads", pool) if pool else 1), outputs

    def _part(
        self, inputs: Sequence[Array], outputs: Sequence[Array], index: int, workspace: Workspace, pool: int
    ) -> Execution:
        """Run `index` on a batch."""
        taken = [part(array, tensor, index) for array, tensor in zip(inputs, self.inputs, strict=True)]
        written = [part(array, tensor, index) for array, tensor in zip(outputs, self.outputs, strict=True)]
        return Execution(self._library, taken, written, workspace, pool)

    @contextlib.contextmanager
    def _workspace(self, count: int) -> Iterator[Workspace]:
        """Memory for one run at a time; of a device, for `count` at once, as far as it has it and that is of use."""
        together = min(count, MOST_TOGETHER_BYTES // self.manifest.workspace_bytes)
        runs = max(together, 1) if isinstance(self._library, DeviceLibrary) else 1
        with self._lock:
            workspace = self._idle.pop() if self._idle else None
        if workspace is None or workspace.nbytes < runs * self.manifest.workspace_bytes:
            # what is too small goes before more is asked for
            workspace = None
            workspace = self._new_workspace(runs)
        try:
            yield workspace
        finally:
            with self._lock:
                if len(self._idle) < MAX_IDLE_WORKSPACES:
                    self._idle.append(workspace)

    def _new_workspace(self, runs: int) -> Workspace:
        nbytes, library = self.manifest.workspace_bytes, self._library
        if isinstance(library, DeviceLibrary):
            return room_for(library, nbytes, runs)
        return aligned_empty((nbytes,), "uint8")

    def _variant_index(self) -> int:
        return int(self._library.call("variant"))


def load(directory: str | os.PathLike[str], *, variant: str | None = None) -> Bundle:
    """Open a bundle after checking it: manifest, sha256 of every file, architecture and CPU.

    variant: use this instruction-set variant instead of the best one. Raises UsageError where there is no bundle or no
    such variant, InvalidBundle where it is damaged, UnsupportedCpu where it cannot run on this machine.
    """
    folder, manifest, contents = _read(directory)
    if not _is_native(manifest):
        raise _foreign(manifest)
    return _opened(folder, manifest, contents, variant)


def describe(directory: str | os.PathLike[str]) -> Bundle:
    """Open a bundle as `load` does, and one for another processor, or for a device, without its library."""
    folder, manifest, contents = _read(directory)
    if _is_native(manifest) and not named(manifest.architecture).host_name:
        with contextlib.suppress(UnsupportedCpu):
            return _opened(folder, manifest, contents)
    return Bundle(folder, manifest, None, _texts(contents))


def _opened(folder: Path, manifest: Manifest, contents: Mapping[str, bytes], variant: str | None = None) -> Bundle:
    """A bundle for this processor family whose files were checked against its manifest."""
    if not elf.is_whole_library(contents[manifest.library], named(manifest.architecture).processor):
        raise InvalidBundle(f"{manifest.library} is not a whole library for {manifest.architecture}", remedy=REMEDY)
    kind = DeviceLibrary if named(manifest.architecture).host_name else Library
    library = kind(manifest.name, contents[manifest.library])
    _check_library(manifest, library)
    if isinstance(library, DeviceLibrary):
        library.prepare()
    _select(manifest, library, variant)
    return Bundle(folder, manifest, library, _texts(contents))


def checked_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """The manifest of a bundle for any machine, after the sha256 of every file was checked."""
    return _read(directory)[1]


def _read(directory: str | os.PathLike[str]) -> tuple[Path, Manifest, dict[str, bytes]]:
    """A bundle's manifest and files, checked against one another."""
    folder = Path(directory)
    if not folder.is_dir():
        raise UsageError(f"there is no directory '{folder}'", remedy="name a directory made by qcompile")
    if not (folder / FILE_NAME).exists():
        raise UsageError(f"'{folder}' is not a bundle: it has no {FILE_NAME}", remedy="name one made by qcompile")
    manifest = manifests.decode(_read_file(folder, FILE_NAME, manifests.MAX_MANIFEST_BYTES))
    contents = {name: _checked_file(folder, name, info) for name, info in manifest.files.items()}
    return folder, manifest, contents


def _texts(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in contents.items() if name.startswith("report.")}


def _read_file(folder: Path, name: str, limit: int) -> bytes:
    """The content of a regular file of the bundle; a link could lead anywhere and is refused."""
    try:
        with open(folder / name, "rb", opener=lambda path, flags: os.open(path, flags | _SAFE_OPEN)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidBundle(f"{name} is not a regular file", remedy=REMEDY)
            return file.read(limit + 1)
    except OSError as error:
        raise InvalidBundle(f"{name} cannot be read ({error.strerror})", remedy=REMEDY) from error


def _checked_file(folder: Path, name: str, info: manifests.FileInfo) -> bytes:
    content = _read_file(folder, name, info.bytes)
    if len(content) != info.bytes:
        found = f"more than {info.bytes}" if len(content) > info.bytes else str(len(content))
        raise InvalidBundle(f"{name} has {found} bytes, expected {info.bytes}", remedy=REMEDY)
    if hashlib.sha256(content).hexdigest() != info.sha256:
        raise InvalidBundle(f"{name} was changed: its sha256 is not the manifest's", remedy=REMEDY)
    return content


def _is_native(manifest: Manifest) -> bool:
    """Whether the library is for this machine's processor family, which may drive a device with it."""
    return named(manifest.architecture).processor == host()


def _foreign(manifest: Manifest) -> UnsupportedCpu:
    architecture = named(manifest.architecture)
    remedy = "compile the model for this machine with --target"
    if architecture.file_format == "wasm":
        remedy = "run its example.mjs in node"
    if architecture.file_format == "macho":
        remedy = "link its library into an app"
    if architecture.bare:
        remedy = "run it on an emulated board: make run, in its directory"
    return UnsupportedCpu(f"the bundle is for {manifest.architecture}, this machine is {host()}", remedy=remedy)


def _check_library(manifest: Manifest, library: Library) -> None:
    """Buffers are sized by the manifest and filled by the library: the two must agree."""
    sizes = (int(library.call("workspace_size")), int(library.call("steps")))
    agree = (
        sizes == (manifest.workspace_bytes, len(manifest.steps))
        and library.tensors("input", len(manifest.inputs) + 1) == manifest.inputs
        and library.tensors("output", len(manifest.outputs) + 1) == manifest.outputs
        and library.variant_names(len(manifest.variants) + 1) == tuple(item.name for item in manifest.variants)
    )
    if not agree:
        raise InvalidBundle(f"{manifest.library} does not fit the manifest", remedy=REMEDY)
    for step in manifest.steps:
        for value in step.values:
            position = value.argument.position
            if value.argument.kind == "workspace" and (
                position % ALIGNMENT or position + stored_values.stored_bytes(value) > manifest.workspace_bytes
            ):
                raise InvalidBundle(f"value '{value.name}' lies outside of the workspace", remedy=REMEDY)


def _select(manifest: Manifest, library: Library, variant: str | None) -> None:
    names = [item.name for item in manifest.variants]
    if variant is not None:
        if variant not in names:
            raise UsageError(f"the bundle has no variant '{variant}'", remedy=f"it has {', '.join(names)}")
        if library.call("select_variant", names.index(variant)):
            raise _unsupported(manifest, [manifest.variants[names.index(variant)]])
    elif library.call("variant") < 0:
        raise _unsupported(manifest, manifest.variants)


def _unsupported(manifest: Manifest, wanted: Any) -> UnsupportedCpu:
    present = host_features()
    lacks = [f"{item.name} (lacks {', '.join(sorted(set(item.features) - present)) or '?'})" for item in wanted]
    return UnsupportedCpu(
        f"this CPU cannot run the variants of '{manifest.name}': {'; '.join(lacks)}",
        remedy="compile the model for this CPU with --mcpu",
    )


def _some(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """Inputs of at least one row: without any there is nothing to time."""
    if isinstance(inputs, Mapping) and any(0 in np.shape(array) for array in inputs.values()):
        raise UsageError("the inputs are empty", remedy="give at least one row to time")
    return inputs
