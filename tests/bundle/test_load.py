from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.bundle.load import Bundle, describe, load
from qcompiler.bundle.manifest import decode
from qcompiler.bundle.write import write
from qcompiler.errors import InvalidBundle, QCompilerError, UnsupportedCpu, UsageError
from tests.bundle import programs

ROOT = Path(__file__).resolve().parents[2]


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_bytes(replace(decode(path.read_bytes()), **changes).encode())


def rehash(folder: Path, name: str) -> None:
    """Make the manifest agree with a changed file, as somebody who tampers would."""
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    content = (folder / name).read_bytes()
    document["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    path.write_text(json.dumps(document))


def test_describes_itself(bundle: Bundle, pristine: Path) -> None:
    assert bundle.directory == pristine
    assert (bundle.name, bundle.manifest.threads, bundle.manifest.target) == ("tiny", 2, "x86")
    assert bundle.inputs == programs.tiny().inputs and bundle.outputs == programs.tiny().outputs
    assert [step.op for step in bundle.steps] == ["Binarize", "Mul", "ReduceSum", "BitCount"]
    assert [item.name for item in bundle.variants] == ["avx2", "plain"]


@pytest.mark.parametrize("name", ["libtiny.so", "libtiny.a", "tiny.h", "example.c", "report.json"])
def test_a_changed_file_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidBundle, match=f"{name} was changed"):
        load(folder)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_truncated_library_is_refused(folder: Path, size: int) -> None:
    library = folder / "libtiny.so"
    library.write_bytes(library.read_bytes()[:size])
    with pytest.raises(InvalidBundle, match=f"libtiny.so has {size} bytes, expected"):
        load(folder)
    rehash(folder, "libtiny.so")
    with pytest.raises(InvalidBundle, match="libtiny.so is not a whole library for x86_64"):
        load(folder)


def test_a_library_that_cannot_be_loaded(folder: Path) -> None:
    """A whole file, but its dynamic section asks for a library that is nowhere."""
    library = folder / "libtiny.so"
    library.write_bytes(library.read_bytes().replace(b"libc.so.6", b"libc.so.?"))
    rehash(folder, "libtiny.so")
    with pytest.raises(InvalidBundle, match=r"libtiny.so cannot be loaded \(libc.so.\?: cannot open"):
        load(folder)


def test_an_extended_file_is_refused(folder: Path) -> None:
    with (folder / "tiny.h").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(InvalidBundle, match="tiny.h has more than"):
        load(folder)


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "libtiny.a").unlink()
    with pytest.raises(InvalidBundle, match="libtiny.a cannot be read"):
        load(folder)


@pytest.mark.parametrize("name", ["libtiny.so", "manifest.json"])
def test_links_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidBundle, match=f"{name} cannot be read"):
        load(folder)


def test_a_pipe_is_refused_without_waiting(folder: Path) -> None:
    (folder / "tiny.h").unlink()
    os.mkfifo(folder / "tiny.h")
    with pytest.raises(InvalidBundle, match="tiny.h is not a regular file"):
        load(folder)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no directory"):
        load(tmp_path / "nothing")
    with pytest.raises(UsageError, match="it has no manifest.json"):
        load(tmp_path)


@pytest.mark.parametrize("program", ["other", "libm"])
def test_another_library_is_refused(folder: Path, tmp_path: Path, program: str) -> None:
    """Right hash, wrong library: its functions have other names."""
    write(programs.tiny(program), tmp_path / program)
    (folder / "libtiny.so").write_bytes((tmp_path / program / f"lib{program}.so").read_bytes())
    rehash(folder, "libtiny.so")
    with pytest.raises(InvalidBundle, match="the library has no function tiny_run"):
        load(folder)


def test_buffers_smaller_than_the_library_writes_are_refused(folder: Path) -> None:
    tiny = programs.tiny()
    manifest = decode((folder / "manifest.json").read_bytes())
    for changes in (
        {"workspace_bytes": manifest.workspace_bytes - 64},
        {"outputs": (replace(tiny.outputs[0], shape=(1, 4)), tiny.outputs[1])},
        {"outputs": (tiny.outputs[0], replace(tiny.outputs[1], dtype="int32"))},
        {"inputs": tiny.inputs[:1]},
        {"steps": manifest.steps[:3]},
        {"variants": manifest.variants[::-1]},
    ):
        edit_manifest(folder, **changes)
        with pytest.raises(InvalidBundle, match="libtiny.so does not fit the manifest"):
            load(folder)
        edit_manifest(folder, **{name: getattr(manifest, name) for name in changes})
    load(folder)


def test_values_outside_of_the_workspace_are_refused(folder: Path) -> None:
    manifest = decode((folder / "manifest.json").read_bytes())
    step = manifest.steps[0]
    far = replace(step.values[0], shape=(1, 40, 300, 5))
    edit_manifest(folder, steps=(replace(step, values=(far,)), *manifest.steps[1:]))
    with pytest.raises(InvalidBundle, match="'bits/x' lies outside of the workspace"):
        load(folder)


def test_another_architecture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(UnsupportedCpu, match="the bundle is for x86_64, this machine is aarch64"):
        load(folder)


def test_a_cpu_without_any_variant(tmp_path: Path) -> None:
    write(programs.impossible(), tmp_path / "out")
    with pytest.raises(UnsupportedCpu, match=r"cannot run the variants of 'tiny': all \(lacks .*compile .* --mcpu"):
        load(tmp_path / "out")
    with pytest.raises(UnsupportedCpu):
        load(tmp_path / "out", variant="all")
    with pytest.raises(UsageError, match="no variant 'neon'; it has all"):
        load(tmp_path / "out", variant="neon")
    described = describe(tmp_path / "out")
    assert not described.runs_here and described.manifest.name == "tiny"
    with pytest.raises(UnsupportedCpu, match=r"cannot run the variants of 'tiny': all \(lacks "):
        described.run(programs.inputs())


def test_bundles_do_not_share_their_variant(pristine: Path) -> None:
    first, second, third = load(pristine), load(pristine, variant="plain"), load(pristine)
    assert [first.variant, second.variant, third.variant] == ["avx2", "plain", "avx2"]


def test_the_loaded_code_is_the_checked_code(folder: Path) -> None:
    """Removing or overwriting the file does not reach a loaded bundle."""
    bundle = load(folder)
    (folder / "libtiny.so").write_bytes(b"\0" * 20_000)
    given = programs.inputs()
    np.testing.assert_array_equal(bundle.run(given)["count"], programs.expected(given)["count"])


def test_outputs_are_new_arrays(bundle: Bundle) -> None:
    first, second = bundle.run(programs.inputs(0)), bundle.run(programs.inputs(1))
    np.testing.assert_array_equal(first["scores/out:0"], programs.expected(programs.inputs(0))["scores/out:0"])
    assert not np.shares_memory(first["scores/out:0"], second["scores/out:0"])


def test_non_contiguous_inputs(bundle: Bundle) -> None:
    given = programs.inputs()
    expected = programs.expected(given)
    given["features/x:0"] = np.ascontiguousarray(given["features/x:0"].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    given["bias"] = np.repeat(given["bias"], 2)[::2]
    np.testing.assert_array_equal(bundle.run(given)["scores/out:0"], expected["scores/out:0"])


def test_inputs_that_are_not_aligned_to_their_elements(bundle: Bundle) -> None:
    given = programs.inputs()
    expected = programs.expected(given)
    bias = np.frombuffer(b" " + given["bias"].tobytes(), np.uint8)[1:].view(np.float32)
    assert not bias.flags.aligned
    np.testing.assert_array_equal(bundle.run({**given, "bias": bias})["scores/out:0"], expected["scores/out:0"])


@pytest.mark.parametrize("threads", [0, -1, 129, 1.5, "2"])
def test_thread_counts(bundle: Bundle, threads: Any) -> None:
    with pytest.raises(UsageError, match="threads, expected 1 to 128"):
        bundle.run(programs.inputs(), threads=threads)


def test_benchmark(bundle: Bundle) -> None:
    result = bundle.benchmark(programs.inputs(), seconds=0.05)
    assert result.runs >= 10 and 0 < result.minimum <= result.median <= result.p90 < 0.1
    assert result.throughput == pytest.approx(1 / result.median, rel=0.9)


@pytest.mark.parametrize("threads", [1, 2])
def test_profile(bundle: Bundle, threads: int) -> None:
    profile = bundle.profile(programs.inputs(), repeats=5, threads=threads)
    assert [step.kernel for step in profile.steps] == ["binarize_c", "scale_c", "score_c", "count_c"]
    assert 0 < profile.seconds < 1 and all(step.seconds >= 0 for step in profile.steps)
    with pytest.raises(UsageError, match="0 repeats"):
        bundle.profile(programs.inputs(), repeats=0)


@pytest.mark.usefixtures("as_many_threads")
def test_nothing_outlives_a_bundle(pristine: Path) -> None:
    def state() -> tuple[int, int, int]:
        mapped = Path("/proc/self/maps").read_text().count("memfd:libtiny.so")
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), mapped

    gc.collect()
    before = state()
    for _ in range(3):
        bundle = load(pristine)
        bundle.run(programs.inputs(), threads=3)
        del bundle
        gc.collect()
    assert state() == before


def _run_in_child(bundle: Bundle, queue: Any) -> None:
    queue.put(int(bundle.run(programs.inputs(), threads=2)["count"][0]))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.usefixtures("as_many_threads")
def test_a_forked_process_starts_its_own_threads(bundle: Bundle) -> None:
    expected = int(bundle.run(programs.inputs(), threads=2)["count"][0])
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_run_in_child, args=(bundle, queue))
    child.start()
    assert queue.get(timeout=20) == expected
    child.join(20)
    assert child.exitcode == 0


def test_too_many_threads_for_the_system(pristine: Path) -> None:
    """The pool reports what the system refuses, and leaves no thread behind."""
    code = f"""
import resource, sys
from qcompiler.bundle.load import describe, load
from qcompiler.bundle.tensors import random_inputs
from qcompiler.errors import UsageError
bundle = load({str(pristine)!r})
inputs = random_inputs(bundle.inputs)
resource.setrlimit(resource.RLIMIT_AS, (700 * 2**20, 700 * 2**20))
try:
    bundle._library._functions["pool_start"] = bundle._library._functions["pool_start_exactly"]
    bundle.run(inputs, threads=128)
except UsageError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ("128 threads cannot be started (the system refused to start a thread); use fewer threads\n")


def test_errors_of_the_library_are_ours(bundle: Bundle) -> None:
    library = bundle._library
    with pytest.raises(QCompilerError, match="the workspace is too small"):
        library.check(3)


FORBIDDEN = ("onnx", "onnx_ir", "onnxscript", "onnxruntime", "tvm", "torch", "networkx", "rich", "typer", "scipy")


def test_loading_needs_numpy_alone(pristine: Path) -> None:
    code = f"""
import sys
import qcompiler
assert "numpy" not in sys.modules
bundle = qcompiler.load({str(pristine)!r})
from qcompiler.bundle.tensors import random_inputs
bundle.run(random_inputs(bundle.inputs), threads=2)
print([name for name in {FORBIDDEN!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


def test_importing_the_package_is_quick() -> None:
    """The best of three, because the machine may be busy."""
    code = "import time; t = time.perf_counter(); import qcompiler; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    times = [float(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout) for _ in range(3)]
    assert min(times) < 0.3


def test_the_package_offers_its_api() -> None:
    import qcompiler

    assert qcompiler.load is load and qcompiler.Bundle is Bundle
    assert qcompiler.errors.UsageError is UsageError
    assert {"load", "compile", "Bundle", "errors"} <= set(dir(qcompiler))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        qcompiler.nonsense  # noqa: B018


def test_workspaces_are_reused(bundle: Bundle) -> None:
    barrier = threading.Barrier(3)

    def work() -> None:
        barrier.wait()
        for _ in range(20):
            bundle.run(programs.inputs())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(bundle._idle) <= 3
