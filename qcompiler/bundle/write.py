"""Write a compiled network as a bundle: libraries with their header, or modules with their script, and manifest."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from qcompiler.bundle import (
    board_files,
    contract,
    cuda_link,
    cuda_sources,
    glue,
    ios_link,
    javascript,
    manifest,
    toolchain,
    wasm_link,
)
from qcompiler.bundle.kernel_objects import kernel_objects
from qcompiler.bundle.staging import check_free, new_directory
from qcompiler.bundle.toolchain import Merged, Toolchain
from qcompiler.ir.pixels import Pixels
from qcompiler.ir.program import Program
from qcompiler.targets.architecture import IOS, X86_64_CUDA, Architecture, named

VERSIONED = ("qcompiler", "apache-tvm", "apache-tvm-ffi", "onnx", "onnx-ir", "numpy")


def check_tools(architecture: Architecture) -> None:
    """Raise QCompilerError, naming the packages, where the compiler of a device's code is missing."""
    if architecture.file_format == "cuda":
        cuda_link.compiler()


def write(
    program: Program,
    directory: Path,
    *,
    threads: int = 1,
    force: bool = False,
) -> None:
    """Compile `program` into the new directory `directory`, which appears whole or not at all.

    threads: the default of qrun for this bundle. force: replace a bundle that is there. Raises UsageError where the
    directory is taken or cannot be written, and QCompilerError where there is no C compiler.
    """
    check_free(directory, force=force)
    with new_directory(directory, force=force) as staged:
        write_into(program, staged, threads=threads)


def write_into(program: Program, folder: Path, *, threads: int = 1, pixels: Pixels | None = None) -> Program:
    """Write the files of the bundle into the existing empty directory `folder`, which is left as it is on failure.

    The program that comes back is the one that is in the bundle, whose workspace may lie otherwise.
    """
    manifest.check_threads(threads)
    contract.check(program)
    architecture = _architecture(program)
    if named(architecture).file_format == "wasm":
        _write_package(program, folder)
    elif named(architecture).file_format == "cuda":
        program = cuda_sources.with_faults(program)
        _write_device_library(program, folder)
    elif named(architecture).file_format == "macho":
        _write_static_library(program, folder)
    elif named(architecture).bare:
        board_files.write(program, folder)
    else:
        _write_libraries(program, architecture, folder, pixels)
    infos = {path.name: _file_info(path.read_bytes()) for path in sorted(folder.iterdir())}
    _write_manifest(folder, replace(manifest_of(program, architecture, threads, infos), pixels=pixels))
    return program


def _architecture(program: Program) -> str:
    """What the code of a program is for."""
    first = program.variants[0]
    return X86_64_CUDA.name if first.code_format == contract.CUDA else toolchain.machine_of(first.objects[0])


def _write_device_library(program: Program, folder: Path) -> None:
    """A library with code for devices, its header, and the sources that belong to the network."""
    sources = cuda_sources.shipped(program)
    with tempfile.TemporaryDirectory() as build:
        library = cuda_link.library(program, sources, Path(build))
    (folder / f"lib{program.name}.so").write_bytes(library)
    sources["example.c"] = glue.example(program, "example.c", {"cc": "cc"}, on_device=True)
    for name, text in sources.items():
        (folder / name).write_text(text, encoding="utf-8")


def _write_package(program: Program, folder: Path) -> None:
    """WebAssembly modules, and the JavaScript that loads and runs them."""
    with tempfile.TemporaryDirectory() as build:
        modules = wasm_link.modules(program, Path(build))
    for variant, content in modules.items():
        (folder / manifest.module_name(program.name, variant)).write_bytes(content)
    sizes = {variant: len(content) for variant, content in modules.items()}
    for name, text in javascript.package(program, sizes).items():
        (folder / name).write_text(text, encoding="utf-8")


def _write_static_library(program: Program, folder: Path) -> None:
    """A library that apps for iOS are linked with, and its header."""
    with tempfile.TemporaryDirectory() as build:
        library = ios_link.library(program, Path(build))
    (folder / f"lib{program.name}.a").write_bytes(library)
    (folder / f"{program.name}.h").write_text(glue.public_header(program, IOS.name), encoding="utf-8")


def _write_libraries(program: Program, architecture: str, folder: Path, pixels: Pixels | None) -> None:
    """Libraries, header, C programs and files for other build systems."""
    chain = toolchain.toolchain_for(architecture)
    build = folder / "build"
    build.mkdir()
    _build_libraries(program, architecture, chain, build)
    for name in (f"lib{program.name}.so", f"lib{program.name}.a"):
        (build / name).rename(folder / name)
    for path in build.iterdir():
        path.unlink()
    build.rmdir()
    (folder / f"{program.name}.h").write_text(glue.public_header(program, architecture), encoding="utf-8")
    compilers = {"cc": chain.compiler, "c++": chain.cxx_compiler}
    for name in ("example.c", "example.cpp", "bench.c"):
        (folder / name).write_text(glue.example(program, name, compilers), encoding="utf-8")
    if pixels is not None and glue.classifies(program):
        (folder / "picture.c").write_text(glue.picture_program(program, pixels, compilers), encoding="utf-8")
    for template, name in (("package.cmake", f"{program.name}Config.cmake"), ("package.pc", f"{program.name}.pc")):
        (folder / name).write_text(glue.named(template, program.name), encoding="utf-8")


def add_reports(folder: Path, described: manifest.Manifest, reports: Mapping[str, bytes]) -> manifest.Manifest:
    """Write reports, by file name, into a bundle, and their sizes and hashes into its manifest, which is returned."""
    for name, content in reports.items():
        (folder / name).write_bytes(content)
    infos = {**described.files, **{name: _file_info(content) for name, content in reports.items()}}
    complete = replace(described, files=dict(sorted(infos.items())))
    _write_manifest(folder, complete)
    return complete


def _write_manifest(folder: Path, described: manifest.Manifest) -> None:
    (folder / manifest.FILE_NAME).write_bytes(described.encode())


def _build_libraries(program: Program, architecture: str, chain: Toolchain, build: Path) -> None:
    for name, text in glue.sources(program, architecture).items():
        (build / name).write_text(text, encoding="utf-8")
    (build / "constants.bin").write_bytes(program.constants or b"\0")
    units = ("runtime.c", "tables.c", "cpu.c", "constants.S")
    chain.run_all([chain.compilation(source, f"{source}.o") for source in (*units, "threads.c")], build)
    kernels = kernel_objects(program, chain, build)
    core, threads = objects = (f"{program.name}.o", f"{program.name}_threads.o")
    public = glue.public_symbols(program, architecture)
    parts = Merged([*(f"{source}.o" for source in units), *kernels], [*public, *glue.internal_symbols(program)])
    chain.merge({core: parts, threads: Merged(["threads.c.o"], public)}, build)
    shared, static = f"lib{program.name}.so", f"lib{program.name}.a"
    chain.run_all([chain.shared_link(objects, shared), chain.archiving(objects, static)], build)
    toolchain.reject_dependencies(chain, shared, build)


def _file_info(content: bytes) -> manifest.FileInfo:
    return manifest.FileInfo(hashlib.sha256(content).hexdigest(), len(content))


def manifest_of(
    program: Program, architecture: str, threads: int, files: Mapping[str, manifest.FileInfo]
) -> manifest.Manifest:
    """What a bundle says of its program; files: size and hash of what lies beside the manifest, by name."""
    return manifest.Manifest(
        name=program.name,
        target=program.target,
        architecture=architecture,
        threads=threads,
        workspace_bytes=glue.workspace_size(program),
        versions=_versions(),
        inputs=program.inputs,
        outputs=program.outputs,
        variants=tuple(manifest.VariantInfo(variant.name, variant.features) for variant in program.variants),
        steps=tuple(_step(program, index) for index in range(len(program.steps))),
        files=files,
        any_batch=program.any_batch,
    )


def _step(program: Program, index: int) -> manifest.Step:
    info = program.steps[index]
    return manifest.Step(
        nodes=info.nodes,
        op=info.op,
        w_bits=info.w_bits,
        a_bits=info.a_bits,
        macs=info.macs,
        bytes=info.bytes,
        note=info.note,
        kernels=tuple(variant.calls[index].kernel for variant in program.variants),
        values=info.values,
        integers=info.integers,
    )


def _versions() -> dict[str, str]:
    versions = {}
    for package in VERSIONED:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
