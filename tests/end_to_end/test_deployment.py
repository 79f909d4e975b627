"""What reaches a device: the size of libraries, what they ask for, and programs in C++ and in an app's library."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler.bundle.elf import machine
from qcompiler.bundle.load import checked_manifest
from qcompiler.bundle.toolchain import toolchain_for
from qcompiler.targets.architecture import ARCHITECTURES
from tests.end_to_end.test_shared_models import MODELS
from tests.networks import binary_cnn, lenet, transpose
from tests.targets.emulated import missing

# all that a network without exponentials and the like may ask the system for; with threads, pthreads too
LIBC = {"clock_gettime", "getauxval", "memcpy", "memset"}
# what a linker provides
LINKER = {"arm": {"_GLOBAL_OFFSET_TABLE_"}}
THREADS = re.compile(r"pthread_(create|join|sigmask|(mutex|cond)_\w+)|sched_(yield|getaffinity)|sigfillset")
LIMIT = 64 * 1024
# WebAssembly has no libraries in C, and microcontrollers none that are shared
LIBRARIES = [each.name for each in ARCHITECTURES if each.file_format == "elf" and not each.bare]
TARGETS = {"x86_64": ("x86", ()), "aarch64": ("arm", ()), "arm": ("arm", ("armv7",)), "riscv64": ("rv64", ())}
CXX = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror")


def needs(architecture: str) -> pytest.MarkDecorator:
    packages = missing(architecture) if architecture != "x86_64" else ""
    return pytest.mark.skipif(bool(packages), reason=f"missing Debian packages: {packages}")


def compiled(model: Path, architecture: str, folder: Path) -> Path:
    target, mcpu = TARGETS[architecture]
    qcompiler.compile(model, target, mcpu=mcpu, output=folder, verify=False)
    return folder


def tfc(folder: Path) -> Path:
    if not MODELS.exists():
        pytest.skip(f"the model collection {MODELS} is not here")
    return MODELS / "qonnx_zoo" / "TFC_1W1A.onnx"


def small_lenet(folder: Path) -> Path:
    return lenet(folder / "lenet.onnx")


def moves(folder: Path) -> Path:
    """No kernel of ours: compilers of other functions may write tables for exceptions."""
    return transpose(folder / "moves.onnx")


@pytest.mark.parametrize("model", [tfc, small_lenet, moves])
@pytest.mark.parametrize("architecture", [pytest.param(name, marks=needs(name)) for name in LIBRARIES])
def test_libraries_are_small_and_ask_for_libc_alone(
    model: Callable[[Path], Path], architecture: str, tmp_path: Path
) -> None:
    folder = compiled(model(tmp_path), architecture, tmp_path / "out")
    chain, name = toolchain_for(architecture), checked_manifest(folder).name
    library, archive = f"lib{name}.so", f"lib{name}.a"
    assert machine((folder / library).read_bytes()) == architecture
    assert ".symtab" not in chain.run("readelf", "-SW", library, folder=folder)
    assert (folder / library).stat().st_size - weights(chain.run("nm", "-S", archive, folder=folder), name) < LIMIT
    assert chain.needed(library, folder) == ["libc.so.6"]
    wanted = {each.name for each in chain.symbols(library, folder, dynamic=True) if not each.defined}
    assert not [symbol for symbol in wanted - LIBC if not THREADS.fullmatch(symbol)]
    objects = chain.run("nm", "--undefined-only", archive, folder=folder).split(f"{name}_threads.o:")
    core, threads = (set(re.findall(r"^\s+U (\S+)$", text, re.MULTILINE)) for text in objects)
    # the first object is all that a program without threads links
    assert core <= LIBC | LINKER.get(architecture, set())
    internal = re.compile(rf"{name}_internal_\w+")
    assert not [symbol for symbol in threads - LIBC if not THREADS.fullmatch(symbol) and not internal.fullmatch(symbol)]
    assert not re.search(r"^[0-9a-f ]*\s[wvWV] ", chain.run("nm", archive, folder=folder), re.MULTILINE)


def weights(listing: str, name: str) -> int:
    """Bytes of the constants, from nm's listing with sizes."""
    (size,) = re.findall(rf"^[0-9a-f]+ ([0-9a-f]+) \w {name}_internal_constants$", listing, re.MULTILINE)
    return int(size, 16)


def test_weights_are_counted() -> None:
    assert weights("0000 0000 T other\n0000000000000040 0000000000001080 r net_internal_constants\n", "net") == 0x1080


@needs("aarch64")
@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-g++") is None, reason="missing package: g++-aarch64-linux-gnu")
def test_the_cpp_example_on_the_emulator(tmp_path: Path) -> None:
    model = binary_cnn(tmp_path / "cnn.onnx")
    folder, native = compiled(model, "aarch64", tmp_path / "out"), compiled(model, "x86_64", tmp_path / "x86")
    image = np.random.default_rng(5).standard_normal((1, 3, 8, 8)).astype(np.float32)
    image.tofile(folder / "image.bin")
    (scores,) = qcompiler.load(native).run({"image": image}).values()
    command = ["aarch64-linux-gnu-g++", *CXX, "-static", "example.cpp", "libcnn.a", "-lm", "-o", "example"]
    subprocess.run(command, cwd=folder, check=True)
    run = ["qemu-aarch64", "./example", "image.bin"]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == f"scores: float32, largest at {scores.argmax()}\n"


@needs("aarch64")
def test_the_benchmark_program_on_the_emulator(tmp_path: Path) -> None:
    folder = compiled(binary_cnn(tmp_path / "cnn.onnx"), "aarch64", tmp_path / "out")
    command = ["aarch64-linux-gnu-gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "bench.c", "libcnn.a"]
    subprocess.run([*command, "-lm", "-o", "bench"], cwd=folder, check=True)
    done = subprocess.run(["qemu-aarch64", "./bench", "5", "2"], cwd=folder, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    threads = min(2, len(os.sched_getaffinity(0)))
    assert lines[0] == f"threads: {threads}" and re.match(r"median \d.* runs per second", lines[1])
    assert lines[2].startswith("CPU frequency: ")
    assert len(lines) == 3 + len(checked_manifest(folder).steps)
