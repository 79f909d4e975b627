from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from qcompiler.bundle import toolchain
from qcompiler.bundle.load import checked_manifest, load
from qcompiler.bundle.staging import new_directory, new_file
from qcompiler.bundle.write import add_reports, write
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.ir.program import Argument, Call, Copy, Items, LaunchGrid, Program
from tests.bundle import programs

ROOT = Path(__file__).resolve().parents[2]
API = {
    "tiny_input", "tiny_output", "tiny_pool_start", "tiny_pool_start_exactly", "tiny_pool_stop", "tiny_pool_threads",
    "tiny_run", "tiny_run_batch", "tiny_run_batch_pool", "tiny_run_pool", "tiny_run_pool_profile", "tiny_run_profile",
    "tiny_run_steps", "tiny_select_variant", "tiny_status_text", "tiny_step_name", "tiny_steps", "tiny_variant",
    "tiny_variant_name", "tiny_workspace_size",
}  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files(pristine: Path) -> None:
    expected = ["bench.c", "example.c", "example.cpp", "libtiny.a", "libtiny.so", "manifest.json"]
    assert names(pristine) == [*expected, "report.json", "report.txt", "tiny.h", "tiny.pc", "tinyConfig.cmake"]
    document = json.loads((pristine / "manifest.json").read_text())
    assert set(document["files"]) == set(names(pristine)) - {"manifest.json"}
    assert document["steps"][0]["kernels"] == ["binarize_c", "binarize_c"]
    assert load(pristine).report == {"rows": [1]} and load(pristine).report_text == "a table\n"
    assert pristine.stat().st_mode & 0o777 == 0o777 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_shared_library_exports_the_header_and_needs_libc_alone(pristine: Path) -> None:
    chain = toolchain.toolchain_for("x86_64")
    symbols = chain.symbols("libtiny.so", pristine, dynamic=True)
    assert {each.name for each in symbols if each.defined} == API
    assert not [each for each in symbols if not each.defined and ("TVM" in each.name or "tiny" in each.name)]
    assert set(chain.needed("libtiny.so", pristine)) <= {"libc.so.6", "libm.so.6", "libpthread.so.0"}
    assert ".symtab" not in chain.run("readelf", "-SW", "libtiny.so", folder=pristine)


def test_the_library_is_small(pristine: Path) -> None:
    """Glue, tables and two variants of four kernels; the pages of the file are 4 KiB."""
    assert (pristine / "libtiny.so").stat().st_size < 16 * 1024
    sizes = subprocess.run(["size", "libtiny.so"], cwd=pristine, capture_output=True, text=True, check=True).stdout
    assert int(sizes.splitlines()[1].split()[0]) < 12 * 1024


def test_the_libraries_carry_no_path_and_no_time(pristine: Path, tmp_path: Path) -> None:
    write(programs.tiny(), tmp_path / "other", threads=2)
    add_reports(tmp_path / "other", checked_manifest(tmp_path / "other"), programs.REPORTS)
    for name in names(pristine):
        assert (pristine / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_a_previous_bundle_is_replaced_only_when_asked(folder: Path) -> None:
    program = programs.tiny("other")
    with pytest.raises(UsageError, match="is a bundle already; replace it with --force"):
        write(program, folder)
    assert load(folder).name == "tiny"
    write(program, folder, force=True)
    assert load(folder).name == "other"
    assert names(folder.parent) == ["tiny"]


def test_other_peoples_files_are_never_replaced(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and holds other files; choose another directory"):
        write(programs.tiny(), folder, force=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and holds other files"):
        write(programs.tiny(), tmp_path / "work", force=True)
    with pytest.raises(UsageError, match="is not a directory"):
        write(programs.tiny(), tmp_path / "work" / "notes.txt", force=True)
    assert names(tmp_path / "work") == ["notes.txt"]


def test_an_empty_directory_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(programs.tiny(), tmp_path / "out")
    assert load(tmp_path / "out").name == "tiny"


@pytest.mark.parametrize("path", ["missing/out", "file/out", "/proc/out"])
def test_unwritable_places(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write .*choose a writable place"):
        write(programs.tiny(), tmp_path / path)
    assert names(tmp_path) == ["file"]


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = programs.tiny()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QCompilerError, match=r"'cc' is not installed; install the package gcc \(.*apt install gcc"):
        write(program, tmp_path / "out")
    assert names(tmp_path) == []


def test_the_cross_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.shutil, "which", lambda tool: None)
    with pytest.raises(QCompilerError, match="'aarch64-linux-gnu-gcc' .* install the package gcc-aarch64-linux-gnu"):
        toolchain.toolchain_for("aarch64")


def test_errors_of_the_body_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_directory(tmp_path / "out") as staged:
        (staged / "file").write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "out.npz") as staged:
        staged.write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == []


def script(tmp_path: Path, body: str, **environment: str) -> subprocess.Popen[str]:
    """A Python process that runs `body`, whose last expression is a task for the command line's main function."""
    text = f"""\
import os, sys, resource, signal, typer
from pathlib import Path
# a background job of a shell starts with interrupts ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
from qcompiler.command import main
from qcompiler.bundle.write import write
from tests.bundle import programs
program = programs.tiny()
app = typer.Typer(add_completion=False, rich_markup_mode=None)
@app.command()
def command(): return task
{textwrap.dedent(body)}
sys.argv = ["test"]
main(app, "test")
"""
    return subprocess.Popen(
        [sys.executable, "-c", text],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# of the sources of a bundle, all at the same time
COMPILATIONS = 5


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    """The compiler is replaced by one that never ends."""
    tools, started = tmp_path / "tools", tmp_path / "started"
    tools.mkdir()
    (tools / "cc").write_text(
        f"#!/bin/sh\n[ $1 = -print-file-name=crt1.o ] && exit\necho $$ >>{started}\nexec sleep 60\n"
    )
    (tools / "cc").chmod(0o755)
    (tmp_path / "out").mkdir()
    process = script(
        tmp_path,
        f"""
        os.environ["PATH"] = {str(tools)!r} + ":" + os.environ["PATH"]
        def task(): write(program, Path("out/net"))
        """,
    )
    deadline = time.monotonic() + 120
    while not started.exists() or len(started.read_text().splitlines()) < COMPILATIONS:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert re.fullmatch(r"(interrupted|terminated); nothing was written\n", errors)
    assert names(tmp_path / "out") == []
    assert not [pid for pid in started.read_text().split() if Path("/proc", pid).exists()]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a disk without room."""
    (tmp_path / "out").mkdir()
    process = script(
        tmp_path,
        """
        from dataclasses import replace
        program = replace(program, constants=program.constants + bytes(2**20))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))
        def task(): write(program, Path("out/net"))
        """,
    )
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.startswith("error: cannot write 'out/net': File too large") and errors.count("\n") == 1
    assert names(tmp_path / "out") == []


def test_no_space_is_not_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(QCompilerError, match="no space left to write") as caught, new_directory(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert caught.value.exit_code == 1 and names(tmp_path) == []


WEAK = "void *__TVMBackendAllocWorkspace __attribute__((weak));"
CALLS_RUNTIME = f"""
#include <stdint.h>
{WEAK}
int32_t fail(const float *x, int32_t begin, int32_t end) {{
    return ((int32_t (*)(float, int, int))__TVMBackendAllocWorkspace)(*x, begin, end);
}}
"""
CALLS_OTHERS = """
#include <stdint.h>
int32_t somebody(float, int, int);
int32_t fail(const float *x, int32_t begin, int32_t end) { return somebody(*x, begin, end); }
"""


def with_kernel(source: str) -> Program:
    program = programs.failing()
    return replace(program, variants=(replace(program.variants[0], objects=(programs.compiled(source),)),))


def test_runtime_calls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QCompilerError, match="variant plain call TVM's runtime: __TVMBackendAllocWorkspace"):
        write(with_kernel(CALLS_RUNTIME), tmp_path / "out")
    with pytest.raises(QCompilerError, match="undefined reference to `somebody'"):
        write(with_kernel(CALLS_OTHERS), tmp_path / "out")
    with pytest.raises(QCompilerError, match="weak undefined symbols somebody"):
        write(
            with_kernel(CALLS_OTHERS.replace("somebody(float", "__attribute__((weak)) somebody(float")), tmp_path / "o"
        )
    assert names(tmp_path) == []


CALL = Call("fail", "fail_c", (Argument("input", 0),), Items(8))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "my-net"}, "not a C identifier"),
        ({"steps": ()}, "no steps"),
        ({"workspace_bytes": -1}, "workspace of -1 bytes"),
        ({"inputs": ()}, "0 inputs, expected 1 to 64"),
        ({"outputs": programs.tiny().outputs[:1] * 2}, "two outputs of the same name"),
        ({"outputs": (replace(programs.tiny().outputs[0], dtype="complex64"),)}, "has dtype complex64"),
        ({"outputs": (replace(programs.tiny().outputs[0], shape=(1, 0)),)}, r"has the empty shape \(1, 0\)"),
        ({"variants": ()}, "at least one"),
        ({"variants": programs.failing().variants * 2}, "all different"),
        ({"calls": ()}, "variant plain has 0 calls for 1 steps"),
        ({"calls": (replace(CALL, launch=Items(-1)),)}, "fail has -1 items"),
        (
            {"calls": (replace(CALL, launch=LaunchGrid((2, 1, 1), (64, 1, 1))),)},
            "fail_c is no range of items but LaunchGrid",
        ),
        ({"calls": (replace(CALL, launch=Copy(64)),)}, "fail_c is no range of items but Copy"),
        ({"calls": (CALL,), "code_format": "cubin"}, "variant plain is cubin code for a device, which no library"),
        ({"calls": (replace(CALL, symbol="f;"),)}, "symbol 'f;' is not a C identifier"),
        ({"calls": (replace(CALL, arguments=(Argument("workspace", 32),)),)}, "workspace 32 is out of bounds or not"),
        ({"calls": (replace(CALL, arguments=(Argument("workspace", 2**20),)),)}, "workspace 1048576 is out of bounds"),
        ({"calls": (replace(CALL, arguments=(Argument("constant", 2**20),)),)}, "constant 1048576 is out of bounds"),
        ({"calls": (replace(CALL, arguments=(Argument("input", 2),)),)}, "input 2 is out of bounds"),
    ],
)
def test_broken_programs_are_internal_errors(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    program = programs.failing()
    if "calls" in change:
        change = {"variants": (replace(program.variants[0], **change),)}
    with pytest.raises(QCompilerError, match=f"internal error: program '.*': .*{complaint}"):
        write(replace(program, **change), tmp_path / "out")
    assert names(tmp_path) == []


def test_unknown_features_and_machines_are_internal_errors(tmp_path: Path) -> None:
    program = programs.failing()
    variant = program.variants[0]
    with pytest.raises(QCompilerError, match="variant plain needs unknown CPU features mmx3"):
        write(replace(program, variants=(replace(variant, features=("mmx3",)),)), tmp_path / "out")
    with pytest.raises(QCompilerError, match="the object code is for no known machine"):
        write(replace(program, variants=(replace(variant, objects=(b"MZ",)),)), tmp_path / "out")
    with pytest.raises(UsageError, match="0 threads, expected 1 to 128"):
        write(program, tmp_path / "out", threads=0)


def test_every_feature_of_the_x86_target_can_be_tested() -> None:
    from qcompiler.bundle.glue import known_features
    from qcompiler.targets.x86.machine import ISAS

    assert {name for isa in ISAS for name in isa.cpuinfo} <= known_features("x86_64")
