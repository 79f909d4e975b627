"""python -m qcompiler.doctor: which tools are here, what each of them adds, and which package brings the others.

It changes nothing and runs no code for a device; where something is missing it is said, and the exit status is 0.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import NoReturn

import typer

from qcompiler.bundle import cuda_link, ios_link, wasm_link
from qcompiler.bundle.toolchain import emulator_for, to_install, toolchain_for
from qcompiler.command import Debug, Task, Version, main, terminal
from qcompiler.errors import QCompilerError
from qcompiler.targets.architecture import AARCH64, ARM, CORTEX_M, IOS, RISCV64, WASM32, Architecture, host
from qcompiler.version import NAME, version

# a driver that hangs is none; seconds, chosen
PATIENCE = 20
EXTRAS = {
    "train": "qtrain and qcompiler.nn: networks in PyTorch",
    "images": "qrun --image: pictures in, names out",
    "plots": "qrun --plot and qtune --plot: rooflines",
    "fleet": "the tracker and the servers that qtune --tracker needs",
}
"""What the optional dependencies of users add."""
_REQUIREMENT = re.compile(r"""([\w.-]+).*;.*extra == ["']([\w-]+)["']""")
_HELP = "Say which tools are here, what each of them adds, and which package brings those that are not."

_app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True)
class Part:
    """Something that qcompiler uses where it is there.

    adds: what it is for. find: says where or which it is; raises QCompilerError with a remedy where it is not there.
    """

    name: str
    adds: str
    find: Callable[[], str]


@dataclass(frozen=True)
class Finding:
    """What was found of a part, or what to do about it."""

    part: Part
    here: bool
    text: str


def parts() -> Iterator[Part]:
    """Everything that is looked for, each target with its compiler before what verifies its bundles."""

    def pair(architecture: Architecture, target: str, what: str, find: Callable[[], str]) -> Iterator[Part]:
        yield Part(f"compiler for {architecture.name}", f"{target}: {what}", find)
        verified = f"{target}: verification of what is made"
        yield Part(architecture.emulator, verified, partial(_emulator, architecture))

    yield Part(f"compiler for {host()}", "--target x86 on x86-64, and every program in C", partial(_compiler, host()))
    for architecture, target, what in (
        (AARCH64, "--target arm", "64-bit ARM: phones, Raspberry Pi"),
        (ARM, "--target arm --mcpu armv7", "32-bit ARM"),
        (RISCV64, "--target rv64", "64-bit RISC-V with Linux"),
        (CORTEX_M, "--target cortex-m", "microcontrollers"),
    ):
        if architecture.name != host():
            yield from pair(architecture, target, what, partial(_compiler, architecture.name))
    yield Part("make", "the examples of --target cortex-m are built and run", partial(_tool, "make", "make"))
    yield from pair(WASM32, "--target wasm", "WebAssembly for browsers and Node", _webassembly)
    yield Part(f"compiler for {IOS.name}", "--target arm --mcpu ios: iPhones and iPads", ios_link.check_tools)
    yield Part("nvcc", "--target cuda: NVIDIA's GPUs; verified on the processor, with g++", cuda_link.compiler)
    yield Part("GPU", "bundles of --target cuda run", _gpu)
    for extra, adds in EXTRAS.items():
        yield Part(f"extra {extra}", adds, partial(_extra, extra))


def examine() -> Iterator[Finding]:
    """Look for every part."""
    for part in parts():
        try:
            yield Finding(part, True, part.find())
        except QCompilerError as error:
            yield Finding(part, False, error.remedy)


def _compiler(architecture: str) -> str:
    chain = toolchain_for(architecture)
    return chain.found(chain.compiler)


def _emulator(architecture: Architecture) -> str:
    found = emulator_for(architecture.name)
    if found is None:
        raise _missing(architecture.emulator, architecture.emulator_package)
    return found


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise _missing(name, package)
    return found


def _webassembly() -> str:
    wasm_link.c_library()
    return _tool("clang", "clang")


def _gpu() -> str:
    """The names of the GPUs, as NVIDIA's driver has them."""
    asked = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        remedy = "none, or no driver of NVIDIA's; bundles are verified without"
        raise QCompilerError("no GPU answers", remedy=remedy) from None
    return "; ".join(done.stdout.split("\n")).rstrip("; ")


def _extra(extra: str) -> str:
    """The versions of an extra's packages, the first of them."""
    wanted = [
        match[1] for text in metadata.requires(NAME) or () if (match := _REQUIREMENT.match(text)) and match[2] == extra
    ]
    absent = [name for name in wanted if not _installed(name)]
    if absent:
        remedy = f"pip install 'qcompiler[{extra}]'"
        raise QCompilerError(f"no {absent[0]}", remedy=f"{remedy} (missing: {', '.join(absent)})")
    return ", ".join(f"{name} {metadata.version(name)}" for name in wanted)


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _missing(tool: str, package: str) -> QCompilerError:
    return QCompilerError(f"the tool '{tool}' is not installed", remedy=to_install(package))


def doctor() -> NoReturn:
    """Entry point of python -m qcompiler.doctor."""
    main(_app, "python -m qcompiler.doctor")


@_app.command(help=_HELP)
def _command(debug: Debug = False, show_version: Version = False) -> Task:
    return _show


def _show() -> None:
    # commands to copy are not broken
    say = partial(terminal().print, markup=False, highlight=False, soft_wrap=True)
    say(f"{NAME} {version()}, Python {platform.python_version()}, {platform.machine()}")
    for each in examine():
        say(f"{'yes' if each.here else 'no':4} {each.part.name:23} {each.part.adds}")
        say(f"{'':4} {each.text}")


if __name__ == "__main__":
    doctor()
