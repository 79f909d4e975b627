"""What a C programmer does with a bundle: compile, link, run, under every checker at hand."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from qcompiler.bundle.write import write
from tests.bundle import programs

STRICT = ["-O2", "-g", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wvla", "-Werror"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def sh(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def save_inputs(folder: Path) -> list[str]:
    for index, array in enumerate(programs.inputs().values()):
        array.tofile(folder / f"{index}.bin")
    return ["0.bin", "1.bin"]


def assert_example_is_right(printed: str) -> None:
    scores = programs.expected(programs.inputs())["scores/out:0"][0]
    lines = printed.splitlines()
    assert lines[0] == "scores/out:0: float32 [1, 40]"
    np.testing.assert_allclose([float(word) for word in lines[1].split()[:16]], scores[:16], rtol=1e-6)
    assert lines[2] == f" largest at {scores.argmax()}"
    assert lines[3:5] == ["count: int64 [1]", f" {programs.expected(programs.inputs())['count'][0]}"]


def test_the_command_in_the_comment(folder: Path) -> None:
    for name in ("example.c", "example.cpp", "bench.c"):
        match = re.search(r"^ \* +(c[c+]+ .* -o \w+)", (folder / name).read_text(), re.MULTILINE)
        assert match
        sh(folder, *match[1].split())
    assert_example_is_right(sh(folder, "./example", *save_inputs(folder)))
    assert "largest at" in sh(folder, "./example") and "largest at" in sh(folder, "./example_cpp")
    assert re.search(r"median .* us", sh(folder, "./bench", "20", "2"))


@pytest.mark.parametrize("library", ["libtiny.a", "libtiny.so"])
def test_strict_c99(folder: Path, library: str) -> None:
    where = ["-Wl,-rpath,$ORIGIN"] if library.endswith("so") else ["-static"]
    for name in ("example", "bench"):
        sh(folder, "cc", *STRICT, f"{name}.c", library, *where, "-lm", "-pthread", "-o", name)
    assert_example_is_right(sh(folder, "./example", *save_inputs(folder)))
    printed = sh(folder, "./bench", "10", "3")
    assert "Binarize /sign and 1 more" in printed and 'ReduceSum /score "quoted" */ ??/' in printed


CXX = ["-std=c++17", "-O2", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]


@pytest.mark.parametrize("library", ["libtiny.a", "libtiny.so"])
@pytest.mark.parametrize("checked", [[], SANITIZE], ids=["plain", "sanitized"])
def test_the_cpp_example(folder: Path, library: str, checked: list[str]) -> None:
    sh(folder, "c++", *CXX, *checked, "example.cpp", library, "-Wl,-rpath,$ORIGIN", "-lm", "-o", "example_cpp")
    scores = programs.expected(programs.inputs())["scores/out:0"][0]
    printed = sh(folder, "./example_cpp", *save_inputs(folder)).splitlines()
    assert printed == [f"scores/out:0: float32, largest at {scores.argmax()}", "count: int64, largest at 0"]
    assert len(sh(folder, "./example_cpp").splitlines()) == 2
    Path(folder, "1.bin").write_bytes(b"abc")
    for arguments, message in (
        (["0.bin", "1.bin"], "exactly 160 bytes"),
        (["0.bin"], "1 input files given"),
        (["a", "b"], "open"),
    ):
        done = subprocess.run(["./example_cpp", *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and message in done.stderr


def test_the_benchmark_tells_the_clock(folder: Path) -> None:
    clock = folder / "clock"
    command = ["cc", "-O2", f'-DCPU_CLOCK="{clock}"', "bench.c", "libtiny.a", "-lm", "-pthread", "-o", "bench"]
    sh(folder, *command)
    assert f"CPU frequency: not told by this system (no {clock})\n" in sh(folder, "./bench", "10")
    clock.mkdir()
    for name, text in (
        ("scaling_cur_freq", "600000"),
        ("cpuinfo_max_freq", "1500000"),
        ("scaling_governor", "ondemand"),
    ):
        (clock / name).write_text(f"{text}\n")
    said = "CPU frequency: 600 MHz of at most 1500 MHz, governor ondemand: for steady times, set it to performance\n"
    assert said in sh(folder, "./bench", "10")
    (clock / "scaling_governor").write_text("performance\n")
    assert "at most 1500 MHz, governor performance\n" in sh(folder, "./bench", "10")


def test_wrong_files_are_refused_by_the_example(folder: Path) -> None:
    sh(folder, "cc", "-O1", "example.c", "libtiny.a", "-lm", "-o", "example")
    paths = save_inputs(folder)
    Path(folder, "1.bin").write_bytes(b"abc")
    for arguments, message in ((paths, "exactly 160 bytes"), (paths[:1], "1 input files given"), (["a", "b"], "open")):
        done = subprocess.run(["./example", *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and message in done.stderr


def test_sanitizers(folder: Path) -> None:
    for name in ("example", "bench"):
        sh(folder, "cc", *STRICT, *SANITIZE, f"{name}.c", "libtiny.a", "-lm", "-pthread", "-o", name)
    assert_example_is_right(sh(folder, "./example", *save_inputs(folder)))
    sh(folder, "./bench", "10", "3")


def sources_of(folder: Path) -> list[str]:
    """The library's own sources, to be compiled together with a program under a checker."""
    from qcompiler.bundle import glue

    program = programs.tiny("tiny", [programs.variant("plain", ())])
    for name, text in glue.sources(program, "x86_64").items():
        (folder / name).write_text(text)
    (folder / "constants.bin").write_bytes(program.constants)
    (folder / "kernels.o").write_bytes(program.variants[0].objects[0])
    renames = [f"--redefine-sym={name}=tiny_kernel_plain_{name}" for name in ("binarize", "scale", "score", "count")]
    sh(folder, "objcopy", *renames, "kernels.o")
    return ["runtime.c", "threads.c", "tables.c", "cpu.c", "constants.S", "kernels.o"]


CHECKED = ["-O1", "-g", "-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"]


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_the_sources_under_sanitizers(folder: Path, sanitizer: str) -> None:
    """The thread sanitizer watches the barrier, the pool and the hand-over of jobs."""
    sources = sources_of(folder)
    bench = folder / "bench.c"
    bench.write_text(bench.read_text().replace("tiny_pool_start(", "tiny_pool_start_exactly("))
    for name in ("example", "bench"):
        flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
        sh(folder, "cc", *CHECKED, *flags, f"{name}.c", *sources, "-lm", "-o", name)
    assert_example_is_right(sh(folder, "./example", *save_inputs(folder)))
    assert "threads: 3\n" in sh(folder, "./bench", "50", "3")


def test_valgrind(folder: Path) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    sh(folder, "cc", *STRICT, "example.c", "libtiny.a", "-lm", "-o", "example")
    sh(folder, "cc", *STRICT, "bench.c", "libtiny.a", "-lm", "-pthread", "-o", "bench")
    check = ["valgrind", "--error-exitcode=9", "--leak-check=full", "--quiet"]
    assert_example_is_right(sh(folder, *check, "./example", *save_inputs(folder)))
    sh(folder, *check, "./bench", "1", "2")


def test_the_header_is_cpp(folder: Path) -> None:
    (folder / "main.cpp").write_text(
        '#include "tiny.h"\n#include "tiny.h"\n'
        "int main() { return tiny_steps() == TINY_STEPS && TINY_INPUT0_ELEMENTS == 600 ? 0 : 1; }\n"
    )
    flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    sh(folder, "c++", "-std=c++11", *flags, "main.cpp", "libtiny.a", "-lm", "-o", "main")
    sh(folder, "./main")


def test_two_networks_in_one_program(tmp_path: Path) -> None:
    """Kernels of the same names in both must not meet."""
    write(programs.tiny("one"), tmp_path / "one")
    write(programs.tiny("two"), tmp_path / "two")
    (tmp_path / "main.c").write_text(
        '#include "one/one.h"\n#include "two/two.h"\n'
        "int main(void) { return one_variant() == two_variant() && one_run != two_run ? 0 : 1; }\n"
    )
    sh(tmp_path, "cc", *STRICT, "-static", "main.c", "one/libone.a", "two/libtwo.a", "-lm", "-o", "main")
    sh(tmp_path, "./main")


def test_one_thread_needs_no_pthreads(folder: Path) -> None:
    """A program without a pool does not pull in the object that needs them."""
    sh(folder, "cc", "-O2", "example.c", "libtiny.a", "-lm", "-o", "example")
    assert "pthread" not in sh(folder, "nm", "-D", "--undefined-only", "example")


def test_the_programs_of_the_documentation(tmp_path: Path) -> None:
    write(programs.digits(), tmp_path / "digits.qc")
    text = (Path(__file__).parents[2] / "docs" / "c_api.md").read_text()
    blocks = re.findall(r"```c\n(.*?)```", text, re.DOTALL)
    commands = re.findall(r"^(cc .*)$", text, re.MULTILINE)
    assert len(blocks) == 3 and len(commands) == 3
    for block, line in zip(blocks, commands, strict=True):
        (tmp_path / "main.c").write_text(block)
        sh(tmp_path, *line.split(), "-Wall", "-Wextra", "-Werror")
        image = np.zeros((28, 28), np.float32)
        image[0, 7] = 1
        image.tofile(tmp_path / "image.bin")
        assert "7" in sh(tmp_path, "./main", "image.bin").split()


@pytest.mark.skipif(shutil.which("cmake") is None, reason="missing Debian package: cmake")
def test_cmake_finds_the_bundle(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(test C)\n"
        f"find_package(tiny CONFIG REQUIRED PATHS {folder} NO_DEFAULT_PATH)\n"
        f"add_executable(app {folder / 'example.c'})\ntarget_link_libraries(app tiny::tiny)\n"
    )
    sh(tmp_path, "cmake", "-S", ".", "-B", "build")
    sh(tmp_path, "cmake", "--build", "build")
    assert "largest at" in sh(tmp_path, "build/app")


@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="missing Debian package: pkg-config")
def test_pkg_config_finds_the_bundle(folder: Path, tmp_path: Path) -> None:
    flags = sh(tmp_path, "env", f"PKG_CONFIG_PATH={folder}", "pkg-config", "--cflags", "--libs", "tiny").split()
    sh(tmp_path, "cc", str(folder / "example.c"), *flags, "-o", "app")
    assert "largest at" in sh(tmp_path, "./app")
