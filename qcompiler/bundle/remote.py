"""Run a bundle on a device elsewhere, through a TVM RPC server there, as `load.Bundle` does on this machine.

The static library of the bundle is linked with a small shim (c/remote.c) that gives its functions TVM's calling
convention, by the cross compiler on this side: the device needs nothing but TVM's runtime.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm_ffi import libinfo

from qcompiler.bundle import glue, toolchain
from qcompiler.bundle.device import Device
from qcompiler.bundle.load import checked_manifest
from qcompiler.bundle.manifest import Manifest, check_threads, tensor_bytes
from qcompiler.bundle.tensors import checked_inputs, in_file_dtype, new_outputs, part, runs_of
from qcompiler.bundle.timing import (
    MAX_RUNS,
    MIN_RUNS,
    WARM_UP_RUNS,
    WARM_UP_SECONDS,
    Benchmark,
    Profile,
    benchmark_of,
    profile_of,
)
from qcompiler.errors import QCompilerError, UnsupportedCpu, UsageError
from qcompiler.ir.program import TensorInfo

Array = npt.NDArray[Any]
_SHIM = "remote.c"
_BEST = -1
_TEXT_BYTES = 256


class RemoteBundle:
    """A bundle on a device. Not to be used by several threads at the same time.

    directory: the bundle on this machine. address, key: see `Device`. variant: use this instruction-set variant instead
    of the best one. Raises UnsupportedCpu where the device cannot run the bundle.
    """

    def __init__(
        self, directory: str | os.PathLike[str], address: str, key: str = "", *, variant: str | None = None
    ) -> None:
        self.directory = Path(directory)
        self.manifest = checked_manifest(directory)
        wanted = _index(self.manifest, variant)
        self._device = Device(address, key)
        _check_architecture(self.manifest, self._device)
        with tempfile.TemporaryDirectory() as folder:
            self._device.load(_build(self.directory, self.manifest, Path(folder)))
        self._variant = self._select(wanted)
        memory = self._device.memory
        self._inputs = [memory(tensor_bytes(tensor)) for tensor in self.inputs]
        self._outputs = [memory(tensor_bytes(tensor)) for tensor in self.outputs]
        self._tensors = (*self._inputs, *self._outputs, memory(self.manifest.workspace_bytes))

    @property
    def name(self) -> str:
        """The network and where it runs."""
        return f"{self.manifest.name} on {self._device.address}"

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Inputs by their names in the ONNX file."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Outputs by their names in the ONNX file."""
        return self.manifest.outputs

    @property
    def variant(self) -> str:
        """The variant in use on the device."""
        return self.manifest.variants[self._variant].name

    def run(self, inputs: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
        """Run the network; see `load.Bundle.run`."""
        given = checked_inputs(inputs, self.inputs, any_batch=self.manifest.any_batch)
        self._use(threads)
        count = runs_of(given[0], self.inputs[0])
        results = new_outputs(self.outputs, count)
        for index in range(count):
            self._write([part(array, tensor, index) for array, tensor in zip(given, self.inputs, strict=True)])
            self._check(self._device.call("run", *self._tensors))
            for array, tensor, memory in zip(results, self.outputs, self._outputs, strict=True):
                part(array, tensor, index)[...] = self._device.read(memory, tensor.dtype, tensor.shape)
        return {t.name: in_file_dtype(array, t) for array, t in zip(results, self.outputs, strict=True)}

    def benchmark(self, inputs: Mapping[str, Array], *, threads: int = 1, seconds: float = 1.0) -> Benchmark:
        """Time whole runs of the network for about `seconds`, by the device's clock, without the way there and back."""
        self._prepare(inputs, threads)
        self._check(self._device.call("run", *self._tensors))
        once = float(np.median(self._device.times("run", self._tensors, WARM_UP_RUNS)))
        runs = int(np.clip(seconds / max(once, 1e-9), MIN_RUNS, MAX_RUNS))
        warm = int(min(WARM_UP_SECONDS, seconds) / seconds * runs)
        times = self._device.times("run", self._tensors, warm + runs)[warm:]
        return benchmark_of(times, self._device.call("pool_threads"))

    def profile(self, inputs: Mapping[str, Array], *, repeats: int = 50, threads: int = 1) -> Profile:
        """Median time of every step over `repeats` runs, after one to warm up, by the device's clock.

        As of `benchmark`, its threads are those that ran, no more than the device has processors for.
        """
        if repeats < 1:
            raise UsageError(f"{repeats} repeats, expected at least 1")
        self._prepare(inputs, threads)
        count = len(self.manifest.steps)
        memory = self._device.memory(count * 8)
        times = []
        for _ in range(1 + repeats):
            self._check(self._device.call("profile", *self._tensors, memory))
            times.append(self._device.read(memory, "uint64", (count,)))
        return profile_of(np.array(times[1:]), self.manifest.steps, self._variant, self._device.call("pool_threads"))

    def _prepare(self, inputs: Mapping[str, Array], threads: int) -> None:
        given = checked_inputs(inputs, self.inputs)
        self._use(threads)
        self._write(given)

    def _use(self, threads: int) -> None:
        check_threads(threads)
        self._check(self._device.call("threads", threads))

    def _write(self, given: Sequence[Array]) -> None:
        for memory, array in zip(self._inputs, given, strict=True):
            self._device.write(memory, array)

    def _check(self, status: int) -> None:
        if status:
            memory = self._device.memory(_TEXT_BYTES)
            self._device.call("status_text", status, memory)
            text = self._device.read(memory, "uint8", (_TEXT_BYTES,)).tobytes().partition(b"\0")[0]
            raise QCompilerError(f"the compiled network failed on {self._device.address}: {text.decode()}")

    def _select(self, wanted: int) -> int:
        """Use a variant by its number, or the best one; the number of the one in use."""
        found = self._device.call("variant", wanted)
        if found < 0:
            variants = self.manifest.variants if wanted == _BEST else [self.manifest.variants[wanted]]
            names = ", ".join(f"{item.name} (needs {', '.join(item.features) or 'nothing'})" for item in variants)
            raise UnsupportedCpu(
                f"the CPU of {self._device.address} cannot run the variants of '{self.manifest.name}': {names}",
                remedy="compile the model for that CPU with --mcpu",
            )
        return found


def _index(manifest: Manifest, variant: str | None) -> int:
    names = [item.name for item in manifest.variants]
    if variant is not None and variant not in names:
        raise UsageError(f"the bundle has no variant '{variant}'", remedy=f"it has {', '.join(names)}")
    return _BEST if variant is None else names.index(variant)


def _check_architecture(manifest: Manifest, device: Device) -> None:
    found = device.architecture
    if found not in (None, manifest.architecture):
        raise UnsupportedCpu(
            f"the bundle is for {manifest.architecture}, the device {device.address} is {found}",
            remedy="compile the model for the device with --target",
        )


def _build(directory: Path, manifest: Manifest, folder: Path) -> Path:
    """The library to send: the network and its shim."""
    chain = toolchain.toolchain_for(manifest.architecture)
    archive, target = f"lib{manifest.name}.a", f"lib{manifest.name}_remote.so"
    for file in (archive, f"{manifest.name}.h"):
        shutil.copyfile(directory / file, folder / file)
    (folder / _SHIM).write_text(glue.named(_SHIM, manifest.name), encoding="utf-8")
    headers = [f"-I{path}" for path in (libinfo.find_include_path(), libinfo.find_dlpack_include_path())]
    chain.run_all([chain.compilation(_SHIM, "remote.o", *headers)], folder)
    chain.run_all([chain.shared_link(["remote.o", archive], target)], folder)
    return folder / target
