"""The C runtime through its public functions: results, threads, dispatch, and every error code."""

from __future__ import annotations

import ctypes
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.bundle.load import Bundle, load
from qcompiler.bundle.native import Library, addresses, aligned_empty
from qcompiler.bundle.write import write
from qcompiler.errors import QCompilerError
from tests.bundle import programs

OK, NULL, ALIGNMENT, WORKSPACE, OVERLAP, CPU, RANGE, THREADS, POOL, KERNEL = range(10)


class Raw:
    """The library without the checks of `Bundle`, on memory whose alignment and size the test decides."""

    def __init__(self, folder: Path, offset: int = 0, name: str = "tiny") -> None:
        self.library = Library(name, (folder / f"lib{name}.so").read_bytes())
        self.given = programs.inputs()
        self.size = int(self.library.call("workspace_size"))
        self.inputs = [shifted(array, offset) for array in self.given.values()]
        self.outputs = [shifted(np.zeros((1, programs.C), np.float32), offset), shifted(np.zeros(1, np.int64), offset)]
        self.workspace = aligned_empty((self.size + 64,), "uint8")

    def run(self, function: str = "run", *more: Any, **changed: Any) -> int:
        values = {
            "inputs": addresses(self.inputs),
            "outputs": addresses(self.outputs),
            "workspace": self.workspace.ctypes.data,
            "size": self.size,
            **changed,
        }
        return int(self.library.call(function, *values.values(), *more))

    def assert_right(self) -> None:
        for found, expected in zip(self.outputs, programs.expected(self.given).values(), strict=True):
            np.testing.assert_array_equal(found, expected)


def shifted(array: np.ndarray[Any, Any], offset: int) -> np.ndarray[Any, Any]:
    """A copy of `array` that starts `offset` bytes behind a 64-byte boundary."""
    memory = aligned_empty((array.nbytes + offset,), "uint8")[offset:]
    memory[...] = array.reshape(-1).view(np.uint8)
    return memory.view(array.dtype).reshape(array.shape)


@pytest.mark.usefixtures("as_many_threads")
@pytest.mark.parametrize("variant", ["avx2", "plain"])
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_results_do_not_depend_on_variant_or_threads(pristine: Path, variant: str, threads: int) -> None:
    bundle = load(pristine, variant=variant)
    assert bundle.variant == variant
    for seed in range(5):
        given = programs.inputs(seed)
        found = bundle.run(given, threads=threads)
        for name, expected in programs.expected(given).items():
            np.testing.assert_array_equal(found[name], expected)


@pytest.mark.usefixtures("as_many_threads")
def test_more_threads_than_items(bundle: Bundle) -> None:
    given = programs.inputs()
    np.testing.assert_array_equal(bundle.run(given, threads=64)["count"], programs.expected(given)["count"])


@pytest.mark.usefixtures("as_many_threads")
def test_a_pool_is_used_again_and_again(bundle: Bundle) -> None:
    """Many short runs, so that workers meet every state: spinning, sleeping, and between runs."""
    given = programs.inputs()
    expected = programs.expected(given)["scores/out:0"]
    for index in range(300):
        result = bundle.run(given, threads=2 + index % 2)
        np.testing.assert_array_equal(result["scores/out:0"], expected)


@pytest.mark.usefixtures("as_many_threads")
@pytest.mark.parametrize("threads", [1, 2])
def test_callers_run_at_the_same_time(bundle: Bundle, threads: int) -> None:
    def work(seed: int) -> bool:
        given = programs.inputs(seed)
        expected = programs.expected(given)["scores/out:0"]
        return all(np.array_equal(bundle.run(given, threads=threads)["scores/out:0"], expected) for _ in range(50))

    with ThreadPoolExecutor(3) as executor:
        assert all(executor.map(work, range(3)))


def test_one_pool_serves_callers_in_turn(pristine: Path) -> None:
    raws = [Raw(pristine) for _ in range(2)]
    raws[1].library = raws[0].library
    pool = aligned_empty((4096,), "uint8")
    library = raws[0].library
    assert library.call("pool_start_exactly", pool.ctypes.data, 2) == OK

    def work(raw: Raw) -> bool:
        pointers = (addresses(raw.inputs), addresses(raw.outputs), raw.workspace.ctypes.data, raw.size)
        return all(library.call("run_pool", pool.ctypes.data, *pointers) == OK for _ in range(100))

    with ThreadPoolExecutor(2) as executor:
        assert all(executor.map(work, raws))
    for raw in raws:
        raw.assert_right()
    assert library.call("pool_stop", pool.ctypes.data) == OK


@pytest.mark.parametrize("offset", [0, 8, 56])
def test_inputs_and_outputs_of_any_alignment(pristine: Path, offset: int) -> None:
    raw = Raw(pristine, offset)
    assert raw.run() == OK
    raw.assert_right()


@pytest.mark.parametrize(
    ("kind", "index", "shift"), [("inputs", 0, 2), ("inputs", 1, 2), ("outputs", 0, 1), ("outputs", 1, 4)]
)
def test_arrays_are_aligned_to_their_elements(pristine: Path, kind: str, index: int, shift: int) -> None:
    raw = Raw(pristine)
    arrays = addresses(getattr(raw, kind))
    arrays[index] += shift
    assert raw.run(**{kind: arrays}) == ALIGNMENT


def test_outputs_carry_values_between_steps(pristine: Path) -> None:
    raw = Raw(pristine, 8)
    for step in range(4):
        assert raw.run("run_steps", step, step + 1) == OK
    raw.assert_right()
    assert raw.run("run_steps", 0, 1) == OK
    raw.assert_right()


def test_null_pointers(pristine: Path) -> None:
    raw = Raw(pristine)
    nothing = (ctypes.c_void_p * 2)(raw.inputs[0].ctypes.data, None)
    assert raw.run(inputs=None) == NULL
    assert raw.run(outputs=None) == NULL
    assert raw.run(workspace=None) == NULL
    assert raw.run(inputs=nothing) == NULL
    assert raw.run(outputs=nothing) == NULL
    assert raw.run("run_profile", None) == NULL


def test_workspace_alignment_and_size(pristine: Path) -> None:
    raw = Raw(pristine)
    assert raw.run(workspace=raw.workspace.ctypes.data + 32) == ALIGNMENT
    assert raw.run(size=raw.size - 1) == WORKSPACE
    assert raw.run(size=0) == WORKSPACE


def test_overlap(pristine: Path) -> None:
    raw = Raw(pristine)
    assert raw.run(outputs=addresses([raw.inputs[0], raw.outputs[1]])) == OVERLAP
    assert raw.run(outputs=addresses([raw.outputs[0], raw.outputs[0].reshape(-1)[-2:]])) == OVERLAP
    assert raw.run(outputs=addresses([raw.workspace[raw.size - 4 :], raw.outputs[1]])) == OVERLAP
    assert raw.run(inputs=addresses([raw.workspace, raw.inputs[1]])) == OVERLAP
    same = raw.inputs[1]
    assert raw.run(inputs=addresses([raw.inputs[0], same])) == OK


class Batched:
    """`count` runs one behind the other, through the functions that Python does not use."""

    def __init__(self, folder: Path, count: int, offset: int) -> None:
        self.raw = Raw(folder)
        self.count = count
        self.given = [programs.inputs(seed) for seed in range(count)]
        stacked = [np.concatenate([each[name] for each in self.given]) for name in self.given[0]]
        self.inputs = [shifted(array, offset) for array in stacked]
        shapes = ((count, programs.C), np.float32), ((count,), np.int64)
        self.outputs = [shifted(np.zeros(*each), offset) for each in shapes]
        library = ctypes.CDLL(str(folder / "libtiny.so"))
        self.library = library
        self.pointers = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)

    def run(self, count: int | None = None, pool: int = 0, **changed: Any) -> int:
        function = self.library["tiny_run_batch_pool" if pool else "tiny_run_batch"]
        function.argtypes = (*((ctypes.c_void_p,) if pool else ()), *self.pointers)
        values = {
            "inputs": addresses(self.inputs),
            "outputs": addresses(self.outputs),
            "workspace": self.raw.workspace.ctypes.data,
            "size": self.raw.size,
            "count": self.count if count is None else count,
            **changed,
        }
        return int(function(*((pool,) if pool else ()), *values.values()))

    def assert_right(self, done: int) -> None:
        for index, given in enumerate(self.given):
            for found, expected in zip(self.outputs, programs.expected(given).values(), strict=True):
                rows = len(found) // self.count
                part = found[index * rows : (index + 1) * rows].reshape(expected.shape)
                np.testing.assert_array_equal(part, expected if index < done else np.zeros_like(expected))


@pytest.mark.parametrize("offset", [0, 8, 64])
@pytest.mark.parametrize("threads", [0, 2])
def test_a_batch(pristine: Path, offset: int, threads: int) -> None:
    batched = Batched(pristine, 5, offset)
    pool = aligned_empty((4096,), "uint8")
    if threads:
        start, stop = (batched.library[f"tiny_pool_{what}"] for what in ("start_exactly", "stop"))
        start.argtypes, stop.argtypes = (ctypes.c_void_p, ctypes.c_int), (ctypes.c_void_p,)
        assert start(pool.ctypes.data, threads) == OK
    for count in (0, 1, 3, 5):
        for array in batched.outputs:
            array[...] = 0
        assert batched.run(count, pool.ctypes.data if threads else 0) == OK
        batched.assert_right(count)
    if threads:
        assert stop(pool.ctypes.data) == OK
        assert batched.run(pool=pool.ctypes.data) == POOL


def test_batches_that_do_not_fit(pristine: Path) -> None:
    batched = Batched(pristine, 3, 0)
    assert batched.run(inputs=None) == NULL
    assert batched.run(size=batched.raw.size - 1) == WORKSPACE
    for count in (2**64 - 1, 2**62, 2**63):
        assert batched.run(count) == RANGE
    # the arrays of the third run overlap, those of the first two do not
    row = programs.C * 4
    behind = batched.outputs[0].reshape(-1).view(np.uint8)[2 * row :].view(np.float32)
    both = [batched.outputs[0], np.ndarray((3,), np.int64, behind.data)]
    assert batched.run(2, outputs=addresses(both)) == OK
    assert batched.run(3, outputs=addresses(both)) == OVERLAP


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (2, 1), (0, 5), (5, 5)])
def test_step_range(pristine: Path, first: int, last: int) -> None:
    assert Raw(pristine).run("run_steps", first, last) == RANGE


def test_variants(pristine: Path) -> None:
    library = Raw(pristine).library
    assert library.variant_names(5) == ("avx2", "plain")
    assert library.call("select_variant", 2) == RANGE
    assert library.call("select_variant", -2) == RANGE
    assert library.call("select_variant", 1) == OK and library.call("variant") == 1
    assert library.call("select_variant", -1) == OK and library.call("variant") == 0
    assert library.call("variant_name", -1) is None


def test_a_cpu_without_the_features(tmp_path: Path) -> None:
    write(programs.impossible(), tmp_path / "out")
    raw = Raw(tmp_path / "out")
    assert raw.library.call("variant") == -1
    assert raw.library.call("select_variant", 0) == CPU
    assert raw.run() == CPU


def test_dispatch_agrees_with_the_kernel(tmp_path: Path) -> None:
    """Every feature by itself, against /proc/cpuinfo."""
    from qcompiler.bundle.glue import known_features
    from qcompiler.targets.architecture import host_features

    names = sorted(known_features("x86_64"))
    kernels = [programs.variant(f"v_{name}", [name]) for name in names]
    write(programs.tiny("tiny", kernels), tmp_path / "features")
    library = Raw(tmp_path / "features").library
    present = host_features()
    for index, name in enumerate(names):
        assert (library.call("select_variant", index) == OK) == (name in present), name


def test_pool_errors(pristine: Path) -> None:
    raw = Raw(pristine)
    pool = aligned_empty((4096,), "uint8")
    pool[...] = 0
    address = pool.ctypes.data
    pointers = (addresses(raw.inputs), addresses(raw.outputs), raw.workspace.ctypes.data, raw.size)
    for start in ("pool_start", "pool_start_exactly"):
        assert raw.library.call(start, None, 1) == NULL
        for threads in (0, -1, 129, 2**31 - 1, -(2**31)):
            assert raw.library.call(start, address, threads) == RANGE
    assert raw.library.call("pool_threads", None) == 0
    assert raw.library.call("pool_threads", address) == 0
    assert raw.library.call("run_pool", address, *pointers) == POOL
    assert raw.library.call("pool_stop", address) == POOL
    assert raw.library.call("pool_start", address, 2) == OK
    assert raw.library.call("run_pool", address, None, *pointers[1:]) == NULL
    assert raw.library.call("run_pool", address, *pointers) == OK
    raw.assert_right()
    assert raw.library.call("pool_stop", address) == OK
    assert raw.library.call("pool_threads", address) == 0
    assert raw.library.call("pool_stop", address) == POOL
    assert raw.library.call("run_pool", address, *pointers) == POOL


@pytest.mark.usefixtures("as_many_threads")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_failing_kernel_is_reported(tmp_path: Path, threads: int) -> None:
    write(programs.failing(), tmp_path / "failing")
    bundle = load(tmp_path / "failing")
    given = programs.inputs()
    given["features/x:0"][...] = 0
    bundle.run(given, threads=threads)
    given["features/x:0"][...] = 1
    with pytest.raises(QCompilerError, match="a kernel failed"):
        bundle.run(given, threads=threads)


class TestDataThatMakesAStepFail:
    INDEX, DIVISION, STEP = 10, 11, 256

    def raw(self, folder: Path) -> Raw:
        write(programs.faulty(), folder / "faulty")
        raw = Raw(folder / "faulty", name="faulty")
        raw.inputs[0][...] = 0
        return raw

    def test_the_status_holds_the_error_and_the_step(self, tmp_path: Path) -> None:
        raw = self.raw(tmp_path)
        for item, error in [(0, self.INDEX), (7, self.INDEX), (3, self.DIVISION), (5, 1), (2, -1), (4, 300), (8, 1)]:
            raw.inputs[0].reshape(-1)[:] = 0
            raw.inputs[0].reshape(-1)[item] = error
            status = raw.run()
            known = error in (self.INDEX, self.DIVISION)
            assert divmod(status, self.STEP) == (2, error if known else KERNEL)
        raw.inputs[0].reshape(-1)[:] = 0
        assert raw.run() == OK

    def test_the_text_names_the_node(self, tmp_path: Path) -> None:
        library = self.raw(tmp_path).library
        text = b'Gather /emb"x": an index lies outside of its axis'
        assert library.call("status_text", 2 * self.STEP + self.INDEX) == text
        assert library.call("status_text", 2 * self.STEP + self.DIVISION).endswith(b"an integer is divided by zero")
        assert library.call("status_text", 2 * self.STEP + KERNEL) == b"a kernel failed"
        for status in (-1, -self.STEP, 12, 4 * self.STEP + self.INDEX, 2**31 - 1, -(2**31)):
            assert library.call("status_text", status) is None, status

    def test_steps_behind_the_failed_one_do_not_run(self, tmp_path: Path) -> None:
        raw = self.raw(tmp_path)
        raw.inputs[0].reshape(-1)[6] = self.INDEX
        assert raw.run() != OK
        assert raw.outputs[1][0] == 1

    @pytest.mark.usefixtures("as_many_threads")
    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_a_pool_survives_any_number_of_failures(self, tmp_path: Path, threads: int) -> None:
        """Every thread comes to every barrier, also after a failure, and the next run starts afresh."""
        write(programs.faulty(), tmp_path / "faulty")
        bundle = load(tmp_path / "faulty")
        good = {name: np.zeros_like(array) for name, array in programs.inputs().items()}
        bad = {name: array.copy() for name, array in good.items()}
        bad["features/x:0"].reshape(-1)[:8] = self.INDEX
        for _ in range(50):
            with pytest.raises(QCompilerError, match='Gather /emb"x": an index lies outside of its axis'):
                bundle.run(bad, threads=threads)
            bundle.run(good, threads=threads)

    def test_callers_fail_and_succeed_at_the_same_time(self, tmp_path: Path) -> None:
        write(programs.faulty(), tmp_path / "faulty")
        bundle = load(tmp_path / "faulty")

        def work(error: int) -> bool:
            given = {name: np.zeros_like(array) for name, array in programs.inputs().items()}
            given["features/x:0"].reshape(-1)[0] = error
            failures = 0
            for _ in range(50):
                try:
                    bundle.run(given)
                except QCompilerError:
                    failures += 1
            return failures == (50 if error else 0)

        with ThreadPoolExecutor(3) as executor:
            assert all(executor.map(work, [0, self.INDEX, 0, self.DIVISION]))


def test_metadata(pristine: Path) -> None:
    library = Raw(pristine).library
    assert library.tensors("input", 9) == programs.tiny().inputs
    assert library.tensors("output", 9) == programs.tiny().outputs
    assert library.call("status_text", 99) is None
    assert library.call("status_text", WORKSPACE) == b"the workspace is too small"
    assert library.call("steps") == 4


FAKE_CPUID = """
#include <stdint.h>
static int all(uint32_t leaf, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d) {
    *a = *b = *c = *d = ~0u;
    if (leaf == 1 && !SAVED) *c &= ~(1u << 27);
    return 1;
}
#define __get_cpuid(leaf, a, b, c, d) all(leaf, a, b, c, d)
#define __get_cpuid_count(leaf, sub, a, b, c, d) all(leaf, a, b, c, d)
"""
FAKE_NETWORK = """
#include <stddef.h>
#define API(x) net_##x
#define LIMIT(x) 1
typedef struct { size_t bytes; } TENSOR;
"""
PRINT_FEATURES = """
#include <stdio.h>
#include "all-internals.h"
const struct variant API(internal_variants)[1] = {{"all", (1ull << CPU_COUNT) - 1, 0}};
#define PRINT(name, leaf, subleaf, reg, bit, state) if (API(internal_cpu_features)() & CPU_FEATURE(name)) puts(#name);
int main(void) { CPU_FEATURES(PRINT) return 0; }
"""


def features_found(folder: Path, system_saves: bool) -> set[str]:
    """On a CPU that claims every feature, under a system that saves what this one does, or nothing (no OSXSAVE)."""
    from qcompiler.bundle import glue

    sources = glue.sources(programs.tiny(), "x86_64")
    files = {name: sources[name] for name in ("all-internals.h", "this-cpu.h", "cpu.c")}
    files |= {"cpuid.h": FAKE_CPUID, "this-network.h": FAKE_NETWORK, "main.c": PRINT_FEATURES}
    for name, text in files.items():
        (folder / name).write_text(text)
    saves = f"-DSAVED={int(system_saves)}"
    subprocess.run(["cc", "-I.", saves, "main.c", "cpu.c", "-o", "main"], cwd=folder, check=True)
    return set(subprocess.run(["./main"], cwd=folder, check=True, capture_output=True, text=True).stdout.split())


def test_vectors_that_the_system_does_not_save_are_not_used(tmp_path: Path) -> None:
    found = features_found(tmp_path, system_saves=False)
    assert {"popcnt", "bmi2", "abm"} <= found
    assert not [name for name in found if name.startswith(("avx", "fma", "f16c"))]


def test_tiles_are_used_where_the_system_grants_them(tmp_path: Path) -> None:
    """On a CPU that claims them: what counts is what the system saves, and permits."""
    from qcompiler.targets.architecture import host_features

    found = features_found(tmp_path, system_saves=True)
    assert ("amx_int8" in found) == ("amx_int8" in host_features())
    assert ("avx2" in found) == ("avx2" in host_features())
