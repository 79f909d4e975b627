"""A library in which the processor runs a bundle's kernels for CUDA, made of the bundle's own sources.

The kernels are the text that nvcc compiles; c/cuda/shim/ stands for CUDA's headers and its device.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from qcompiler.bundle import cuda_sources, glue, toolchain
from qcompiler.bundle.manifest import Manifest
from qcompiler.bundle.side_by_side import run_all

SHIM_OBJECT = "shim.cpp.o"
SHIM = ("cuda_runtime.h", "shim.h", "shim.cpp")
# kernels read the memory of their block in several types, and jump between stacks
_FLAGS = (
    "-std=c++17",
    "-O1",
    "-march=native",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fwrapv",
    "-U_FORTIFY_SOURCE",
)
_COMMON = ("-fPIC", "-fvisibility=hidden", "-I.", "-w")


def build(folder: Path, directory: Path, manifest: Manifest) -> None:
    """Make lib<name>.so and <name>.h in `folder`, from a written bundle."""
    name = manifest.name
    kernels = [cuda_sources.kernel_file(name, variant.name) for variant in manifest.variants]
    for file in (f"{name}.h", cuda_sources.table_file(name), *kernels):
        shutil.copyfile(directory / file, folder / file)
    library = directory / manifest.library
    chain = toolchain.toolchain_for(manifest.architecture)
    section = ("-O", "binary", "--only-section=qc_constants")
    chain.run("objcopy", *section, str(library.absolute()), "constants.bin", folder=folder)
    link(folder, name, kernels)


def link(folder: Path, name: str, kernels: Sequence[str]) -> None:
    """Make lib<name>.so of the sources of a network in `folder`, and constants.bin there.

    An object that is there is not made again; SHIM_OBJECT is the same for all networks.
    """
    for file, text in cuda_sources.fixed(name).items():
        (folder / file).write_text(text, encoding="utf-8")
    for file in SHIM:
        (folder / file).write_text(glue.template_text(f"cuda/shim/{file}"), encoding="utf-8")
    units = (*kernels, cuda_sources.table_file(name), "runtime.cpp", "shim.cpp")
    todo = [unit for unit in units if not (folder / f"{unit}.o").exists()]
    compiled = [["c++", *_FLAGS, *_COMMON, "-x", "c++", "-c", unit, "-o", f"{unit}.o"] for unit in todo]
    compiled.append(["c++", "-c", "constants.S", "-o", "constants.S.o"])
    objects = [f"{unit}.o" for unit in (*units, "constants.S")]
    for commands in (compiled, [["c++", "-shared", "-o", f"lib{name}.so", *objects, "-pthread"]]):
        for done in run_all(commands, folder):
            toolchain.printed("c++", done)
