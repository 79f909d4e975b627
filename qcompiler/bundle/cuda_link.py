"""From sources to a shared library with code for devices, by the machine's nvcc, or by that of NVIDIA's packages."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from qcompiler.bundle import cuda_sources
from qcompiler.bundle.side_by_side import run_all
from qcompiler.bundle.toolchain import printed
from qcompiler.errors import QCompilerError
from qcompiler.ir.program import Program

PACKAGES = ("nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-runtime")
"""PyPI's packages that hold nvcc and what it needs."""

# multiply and add are fused where kernels say so, and nowhere else
KERNEL_FLAGS = ("-std=c++17", "-O3", "-fmad=false")
_FLAGS = (*KERNEL_FLAGS, "-Xcompiler", "-fPIC,-fvisibility=hidden,-O2")
_LINK_FLAGS = ("-shared", "-cudart", "static", "-Xlinker", "--as-needed,-z,defs,-z,noexecstack,--build-id=none,-s")


def library(program: Program, sources: Mapping[str, str], folder: Path) -> bytes:
    """The shared library of a program, whose own sources are given; folder: empty, for the files on the way.

    Raises QCompilerError, naming the packages, where there is no nvcc.
    """
    nvcc = compiler()
    for name, text in {**sources, **cuda_sources.fixed(program.name)}.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "constants.bin").write_bytes(program.constants or b"\0")
    kernels = {cuda_sources.kernel_file(program.name, each.name): each.name for each in program.variants}
    commands = [[nvcc, *_FLAGS, *code_for(arch), "-c", file, "-o", f"{file}.o"] for file, arch in kernels.items()]
    others = [cuda_sources.table_file(program.name), "runtime.cpp", "constants.S"]
    commands += [[nvcc, *_FLAGS, "-c", file, "-o", f"{file}.o"] for file in others]
    _run(commands, folder)
    objects = [f"{file}.o" for file in (*kernels, *others)]
    result = f"lib{program.name}.so"
    # the architecture is that of code that is linked on the device, of which there is none
    target = code_for(next(iter(kernels.values())))
    _run([[nvcc, *_LINK_FLAGS, "-Xlinker", f"-soname,{result}", *target, *objects, "-o", result]], folder)
    return (folder / result).read_bytes()


def code_for(architecture: str) -> tuple[str, str]:
    """The options that make code for one architecture, and no other."""
    return "-gencode", f"arch={architecture.replace('sm_', 'compute_')},code={architecture}"


def compiler() -> str:
    """The path of nvcc. Raises QCompilerError where there is none."""
    return tool("nvcc", PACKAGES)


def tool(name: str, packages: Sequence[str]) -> str:
    """The path of one of CUDA's tools: from CUDA_HOME, the path, or PyPI's packages. Raises QCompilerError."""
    found = next((path for path in _places(name) if os.access(path, os.X_OK)), None)
    if found is None:
        raise QCompilerError(
            f"the tool '{name}', which makes code for CUDA, is not installed",
            remedy=f"pip install {' '.join(packages)}, or name CUDA's folder in CUDA_HOME",
        )
    return str(found)


def _places(name: str) -> Iterator[Path]:
    if home := os.environ.get("CUDA_HOME"):
        yield Path(home) / "bin" / name
    if on_path := shutil.which(name):
        yield Path(on_path)
    packages = importlib.util.find_spec("nvidia")
    for folder in (packages.submodule_search_locations or []) if packages is not None else []:
        yield from sorted(Path(folder).glob(f"cu*/bin/{name}"))


def _run(commands: Sequence[Sequence[str]], folder: Path) -> None:
    for command, done in zip(commands, run_all(commands, folder), strict=True):
        printed(Path(command[0]).name, done)
