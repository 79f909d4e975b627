"""From a program to a static library for iOS, by clang and LLVM's tools: nothing of Apple's kit is needed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from qcompiler.bundle import glue, toolchain
from qcompiler.bundle.side_by_side import run_all
from qcompiler.bundle.symbols import Symbol
from qcompiler.bundle.toolchain import printed, to_install
from qcompiler.errors import QCompilerError
from qcompiler.ir.program import Program
from qcompiler.targets.architecture import IOS

# tools by the Debian package that holds them
_PACKAGES = {"clang": "clang", "llvm-nm": "llvm", "llvm-objcopy": "llvm", "llvm-ar": "llvm"}
_C_FLAGS = (
    f"--target={IOS.triple}",
    "-std=c11",
    "-O2",
    "-ffreestanding",
    "-fvisibility=hidden",
    "-fno-asynchronous-unwind-tables",
    "-fno-stack-protector",
    "-Wall",
)
_UNITS = ("runtime.c", "tables.c", "cpu.c", "constants.S")
# name and kind of a symbol; C puts a line before every name
_SYMBOL = re.compile(r"^_(\S+) ([A-Z])\b", re.MULTILINE)
_UNDEFINED, _WEAK = "U", "W"


def library(program: Program, folder: Path) -> bytes:
    """The static library; folder: an existing empty directory for the files on the way.

    Raises QCompilerError, naming a package, where a tool is not installed.
    """
    check_tools()
    for name, text in glue.sources(program, IOS.name).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "constants.bin").write_bytes(program.constants or b"\0")
    _run([["clang", *_C_FLAGS, "-c", unit, "-o", f"{unit}.o"] for unit in _UNITS], folder)
    objects = [*(f"{unit}.o" for unit in _UNITS), *_kernel_objects(program, folder)]
    _run([["llvm-ar", "--format=darwin", "rcsD", "library.a", *objects]], folder)
    return (folder / "library.a").read_bytes()


def check_tools() -> str:
    """The path of the compiler. Raises QCompilerError where it or another tool is not installed."""
    for tool, package in _PACKAGES.items():
        if shutil.which(tool) is None:
            what = f"the tool '{tool}', which makes libraries for iOS, is not installed"
            raise QCompilerError(what, remedy=to_install(package))
    return str(shutil.which("clang"))


def symbols(path: str, folder: Path) -> Iterator[Symbol]:
    """The global symbols of an object or archive, as C calls them."""
    (listing,) = _run([["llvm-nm", "--format=posix", "--extern-only", path]], folder)
    for name, kind in _SYMBOL.findall(listing):
        yield Symbol(name, kind != _UNDEFINED, kind == _WEAK)


def _kernel_objects(program: Program, folder: Path) -> Iterator[str]:
    """The objects of the variants, in files, with names that no other network has."""
    count = 0
    for variant in program.variants:
        called = {call.symbol for call in variant.calls}
        for code in variant.objects:
            path, listing = f"kernels{count}.o", folder / f"kernels{count}.names"
            (folder / path).write_bytes(code)
            found = list(symbols(path, folder))
            toolchain.reject_runtime_calls(found, variant.name)
            # what the code generator adds to every object is given the number of the object
            defined = [each.name for each in found if each.defined]
            names = {name: name if name in called else f"{count}_{name}" for name in defined}
            lines = (f"_{name} _{glue.kernel_symbol(program, variant, new)}\n" for name, new in names.items())
            listing.write_text("".join(lines))
            _run([["llvm-objcopy", "--strip-debug", f"--redefine-syms={listing.name}", path]], folder)
            count += 1
            yield path


def _run(commands: Sequence[Sequence[str]], folder: Path) -> list[str]:
    done = run_all(commands, folder)
    return [printed(command[0], each) for command, each in zip(commands, done, strict=True)]
