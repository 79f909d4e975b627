"""From a program to WebAssembly modules, one per variant, by clang and lld: no imports, no start, memory of its own.

Engines refuse a whole module for one instruction that they lack, so variants do not share a file, and each module has
the constants of its own kernels alone.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from qcompiler.bundle import glue, wasm_file
from qcompiler.bundle.alone import alone
from qcompiler.bundle.side_by_side import run_all
from qcompiler.bundle.toolchain import printed, to_install
from qcompiler.errors import QCompilerError
from qcompiler.ir.program import Program, VariantCode
from qcompiler.targets.architecture import WASM32

# tools by the Debian package that holds them
_PACKAGES = {"clang": "clang", "wasm-ld": "lld"}
_TARGET = "--target=wasm32-wasi"
_C_FLAGS = (_TARGET, "-std=c11", "-O2", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections", "-Wall")
# kernels keep a few kilobytes there; it lies below the data, so that what is too deep traps
STACK_BYTES = 1024 * 1024
_LINK_FLAGS = ("--no-entry", "--gc-sections", "--strip-all", "-O2", "--stack-first", "-z", f"stack-size={STACK_BYTES}")
_EXPORTS = ("run", "run_steps", "status_text")
_UNITS = ("runtime.c", "tables.c", "cpu.c", "constants.S")
_NAMES = "kernel-names.h"
_RUNTIME = re.compile(rb"_*TVM[A-Z]\w{5,}")


def modules(program: Program, folder: Path) -> dict[str, bytes]:
    """The module of every variant, by its name; folder: an existing empty directory for the files on the way.

    Raises QCompilerError, naming a package, where a tool is not installed.
    """
    libc = c_library()
    linked = {}
    for variant in program.variants:
        place = folder / variant.name
        place.mkdir()
        linked[variant.name] = _module(alone(program, variant), place, libc)
    return linked


def c_library() -> str:
    """The path of the C library for modules.

    Raises QCompilerError where it or a tool is not installed, with the package that holds it.
    """
    for tool, package in _PACKAGES.items():
        if shutil.which(tool) is None:
            raise _missing(f"the tool '{tool}', which makes WebAssembly, is not installed", package)
    command = ["clang", _TARGET, "-print-file-name=libc.a"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    # a file that is not found is printed as it was asked for
    if not Path(found).is_file() or found == "libc.a":
        raise _missing("clang is installed, but no C library for WebAssembly: it finds no libc.a", WASM32.c_library)
    return found


def link(objects: Sequence[str], exports: Sequence[str], libc: str) -> list[str]:
    """The command that makes module.wasm."""
    exported = [f"--export={symbol}" for symbol in (*exports, "__heap_base")]
    return ["wasm-ld", *_LINK_FLAGS, *exported, *objects, libc, "-o", "module.wasm"]


def _module(program: Program, folder: Path, libc: str) -> bytes:
    """The module of a program of one variant."""
    (variant,) = program.variants
    for name, text in glue.sources(program, WASM32.name).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / _NAMES).write_text(_kernel_names(program, variant), encoding="utf-8")
    (folder / "constants.bin").write_bytes(program.constants or b"\0")
    kernels = [f"kernels{index}.o" for index in range(len(variant.objects))]
    for name, code in zip(kernels, variant.objects, strict=True):
        _reject_runtime_calls(code, variant.name)
        (folder / name).write_bytes(code)
    _run([["clang", *_C_FLAGS, "-include", _NAMES, "-c", unit, "-o", f"{unit}.o"] for unit in _UNITS], folder)
    objects, exports = [*(f"{unit}.o" for unit in _UNITS), *kernels], [f"{program.name}_{each}" for each in _EXPORTS]
    _run([link(objects, exports, libc)], folder)
    module = (folder / "module.wasm").read_bytes()
    if wasm_file.imports_anything(module):
        raise QCompilerError(f"internal error: the module of variant {variant.name} needs functions of its host")
    return module


def _kernel_names(program: Program, variant: VariantCode) -> str:
    """Nothing renames what objects define: C calls the kernels of the one network and variant by their own names."""
    symbols = dict.fromkeys(call.symbol for call in variant.calls)
    return "".join(f"#define {glue.kernel_symbol(program, variant, symbol)} {symbol}\n" for symbol in symbols)


def _reject_runtime_calls(code: bytes, variant: str) -> None:
    """Raise QCompilerError where an object names a function of TVM's runtime, which is called by null pointers."""
    calls = sorted({name.decode() for name in _RUNTIME.findall(code)})
    if calls:
        raise QCompilerError(f"internal error: kernels of variant {variant} call TVM's runtime: {', '.join(calls)}")


def _run(commands: Sequence[Sequence[str]], folder: Path) -> None:
    for command, done in zip(commands, run_all(commands, folder), strict=True):
        printed(command[0], done)


def _missing(what: str, package: str) -> QCompilerError:
    return QCompilerError(what, remedy=to_install(package))
