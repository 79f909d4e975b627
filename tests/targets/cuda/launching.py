"""Kernels of CUDA on the processor: one launch, in memory that is watched."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcompiler
from qcompiler.bundle import cuda_link, cuda_shim, cuda_sources, native
from qcompiler.bundle.load import Bundle, checked_manifest
from qcompiler.errors import QCompilerError
from qcompiler.ir.program import RUN_BYTES, Argument, Call, LaunchGrid, Program, StepInfo, VariantCode
from qcompiler.lowering.constant_blob import ConstantBlob
from qcompiler.lowering.kernel_table import scratch_of
from qcompiler.targets import reference
from qcompiler.targets.cuda import TARGET, CudaVariant
from qcompiler.targets.problem import Conv2d, Problem, tensors_of
from qcompiler.targets.target import Array, Constants, Kernel
from tests.targets.problems import constants, values

GARBAGE = 0xA5
# four orders of threads, in which copies arrive early or late
LAUNCHES = 8
(AMPERE,) = TARGET.variants(("sm_80",))
(TURING,) = TARGET.variants(("sm_75",))
(HOPPER,) = TARGET.variants(("sm_90a",))
Edit = Callable[[str], str]


def missing(*tools: str) -> str:
    """Why tools of CUDA, by default its compiler, cannot be used here; "" where they can."""
    for name in tools or ("nvcc",):
        try:
            cuda_link.tool(name, (f"nvidia-cuda-{name}",))
        except QCompilerError as error:
            return str(error)
    return ""


def stand_in(bundle: Path, folder: Path) -> Path:
    """A copy of a bundle, in an empty folder, with a library in which the processor stands for the device."""
    copy, build, described = folder / "out", folder / "build", checked_manifest(bundle)
    shutil.copytree(bundle, copy)
    build.mkdir()
    cuda_shim.build(build, bundle, described)
    content = (build / described.library).read_bytes()
    (copy / described.library).write_bytes(content)
    document = json.loads((copy / "manifest.json").read_text())
    document["files"][described.library] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (copy / "manifest.json").write_text(json.dumps(document))
    return copy


@contextlib.contextmanager
def opened(bundle: Path) -> Iterator[tuple[Bundle, ctypes.CDLL]]:
    """A bundle that `stand_in` made, and the library that it has loaded, which is told what to do and what to fail."""
    loaded: list[ctypes.CDLL] = []

    class Seen(ctypes.CDLL):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            loaded.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native.ctypes, "CDLL", Seen)
        found = qcompiler.load(bundle)
    shim = loaded[-1]
    shim.shim_room.argtypes = [ctypes.c_size_t]
    shim.shim_launched.restype = ctypes.c_uint
    try:
        yield found, shim
    finally:
        shim.shim_fail(None, 0)
        shim.shim_room(0)


def program_of(
    kernels: Sequence[Kernel], made: Constants, variant: CudaVariant, places: Sequence[int], end: int
) -> Program:
    """A network of a step for each kernel, all on the same operands at places of the workspace; the last is scratch."""
    blob, calls = ConstantBlob(), []
    first, *others, scratch = [Argument("workspace", place) for place in places]
    for number, kernel in enumerate(kernels):
        packed = [Argument("constant", blob.add(array)) for array in kernel.pack(made)]
        assert isinstance(kernel.launch, LaunchGrid)
        besides = [scratch] if kernel.launch.scratch_bytes else []
        arguments = (first, *packed, *others, *besides)
        calls.append(Call(f"k{number}_{variant.name}", kernel.name, arguments, kernel.launch))
    functions = {call.symbol: _built(kernel, call) for call, kernel in zip(calls, kernels, strict=True)}
    code = variant.platform.compile(functions, variant.tvm_target)
    coded = VariantCode(variant.name, (variant.name,), (code,), tuple(calls), variant.platform.code_format)
    steps = tuple(StepInfo((), kernel.name, 0, 0, 0, 0) for kernel in kernels)
    return Program("one", "cuda", (), (), end, blob.content(), steps, (coded,))


def _scratch(kernels: Sequence[Kernel]) -> int:
    """Bytes that kernels need besides their operands."""
    return max(scratch_of(kernel) for kernel in kernels)


def _built(kernel: Kernel, call: Call) -> Any:
    """The function of a kernel that knows, as lowering tells it, what of its pointers belongs to a run."""
    function = kernel.build(call.symbol)
    assert isinstance(kernel.launch, LaunchGrid)
    if kernel.launch.rows is not None:
        return function
    packed = [0 for argument in call.arguments if argument.kind == "constant"]
    first, *others = (buffer.nbytes for buffer in (*kernel.reads, *kernel.writes))
    return function.with_attr(RUN_BYTES, [first, *packed, *others])


@functools.cache
def _shim() -> bytes:
    """The object that stands for the device."""
    with tempfile.TemporaryDirectory() as name:
        folder, empty = Path(name), Program("none", "cuda", (), (), 64, b"", (), ())
        for file, text in cuda_sources.shipped(empty).items():
            (folder / file).write_text(text)
        (folder / "constants.bin").write_bytes(b"\0")
        cuda_shim.link(folder, "none", [])
        return (folder / cuda_shim.SHIM_OBJECT).read_bytes()


_OBJECTS: dict[str, dict[str, bytes]] = {}
"""Objects of all that is not kernels, by a digest of its sources: faults are planted in kernels alone."""


def _linked(folder: Path, program: Program, edit: Edit) -> ctypes.CDLL:
    """The library of a program of one variant."""
    (variant,) = program.variants
    sources = cuda_sources.shipped(program)
    for file, text in sources.items():
        (folder / file).write_text(edit(text) if file.endswith(".cu") else text)
    (folder / "constants.bin").write_bytes(program.constants or b"\0")
    (folder / cuda_shim.SHIM_OBJECT).write_bytes(_shim())
    fixed = sorted(text for file, text in sources.items() if not file.endswith(".cu"))
    held = _OBJECTS.setdefault(hashlib.sha256("".join(fixed).encode()).hexdigest(), {})
    for file, content in held.items():
        (folder / file).write_bytes(content)
    cuda_shim.link(folder, program.name, [cuda_sources.kernel_file(program.name, variant.name)])
    for file in ("runtime.cpp.o", f"{cuda_sources.table_file(program.name)}.o"):
        held[file] = (folder / file).read_bytes()
    return ctypes.CDLL(str(folder / f"lib{program.name}.so"))


def launched(
    kernels: Sequence[Kernel],
    made: Constants,
    x: Array,
    tensors: Sequence[Array],
    *,
    variant: CudaVariant = AMPERE,
    edit: Edit = str,
    runs: int = 1,
) -> Iterator[tuple[str, list[Array]]]:
    """The outputs of several launches of each kernel, each in an order of threads of its own, with the kernel's name.

    Nothing but outputs may be written. edit: changes the source of the kernels. runs: how many a launch is for, one of
    one kernel where there are several; x, tensors and outputs are those of all, one behind the other.
    """
    assert runs == 1 or len(kernels) == 1
    places, end = [], 0
    for nbytes in [
        *(array.nbytes // runs for array in (x, *tensors)),
        *(b.nbytes for b in kernels[0].writes),
        _scratch(kernels),
    ]:
        places.append(end)
        end += -(-nbytes // 64) * 64 + 64
    program = cuda_sources.with_faults(program_of(kernels, made, variant, places, end))
    with tempfile.TemporaryDirectory() as name:
        library = _linked(Path(name), program, edit)
    pointers = [*[ctypes.c_void_p] * 3, ctypes.c_size_t]
    library.one_run_steps.argtypes = [*pointers, ctypes.c_int, ctypes.c_int]
    library.one_run_batch.argtypes = [*pointers, ctypes.c_size_t]
    for step, kernel in enumerate(kernels):
        run = (library.one_run_steps, step, step + 1) if runs == 1 else (library.one_run_batch, runs)
        for order in range(LAUNCHES):
            library.shim_order(order)
            yield kernel.name, _launch(run, kernel, [x, *tensors], [runs * place for place in places], runs * end, runs)


def _launch(
    run: tuple[Any, ...], kernel: Kernel, inputs: Sequence[Array], places: Sequence[int], end: int, runs: int
) -> list[Array]:
    """One launch, in a process that may die of it. Raises Trapped with what the shim says of the kernel.

    run: a function of the library, and what it is given behind the workspace.
    """
    # shared with the child; it goes when nobody holds it any more
    workspace = np.frombuffer(mmap.mmap(-1, end), np.uint8)
    workspace[...] = GARBAGE
    for place, array in zip(places, inputs, strict=False):
        workspace[place : place + array.nbytes] = array.reshape(-1).view(np.uint8)
    before = workspace.copy()
    function, *given = run
    _in_child(lambda pointer: function(pointer, pointer, pointer, end, *given), workspace)
    after = workspace.copy()
    outputs = []
    for place, buffer in zip(places[len(inputs) : -1], kernel.writes, strict=True):
        written = after[place : place + runs * buffer.nbytes]
        each = buffer.storage_shape if runs == 1 else (runs, *buffer.storage_shape)
        outputs.append(written.copy().view(buffer.dtype).reshape(each))
        written[...] = GARBAGE
    after[places[-1] : places[-1] + runs * _scratch([kernel])] = GARBAGE
    assert np.array_equal(after, before), "wrote past its outputs"
    return outputs


class Trapped(Exception):
    """A kernel did what no device allows."""


def _in_child(run: Callable[[ctypes.c_void_p], int], workspace: Array) -> None:
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 1)
            os._exit(int(run(ctypes.c_void_p(workspace.ctypes.data)) != 0))
        _, status = os.waitpid(child, 0)
        said.seek(0)
        if status:
            raise Trapped(said.read().decode() or f"wait status {status}")


def check(
    problem: Problem,
    seed: int,
    kernels: Sequence[Kernel],
    *,
    variant: CudaVariant = AMPERE,
    edit: Edit = str,
    runs: int = 1,
) -> None:
    """Hold all launches of kernels, each for so many runs, against the reference, on random data."""
    rng = np.random.default_rng(seed)
    made = constants(rng, problem)
    given = [
        [values(rng, problem.x, whole=isinstance(problem, Conv2d)), *(values(rng, b) for b in tensors_of(problem))]
        for _ in range(runs)
    ]
    with np.errstate(all="ignore"):
        each = [reference.run(problem, x, made, tensors) for x, *tensors in given]
    x, *tensors = map(np.stack, zip(*given, strict=True))
    expected = list(map(np.stack, zip(*each, strict=True)))
    for name, outputs in launched(kernels, made, x, tensors, variant=variant, edit=edit, runs=runs):
        for got, right in zip(outputs, expected, strict=True):
            np.testing.assert_array_equal(got.reshape(right.shape), right, err_msg=name)
