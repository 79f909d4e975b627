"""The system's C compiler and binutils: from sources and kernel objects to the two libraries."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.bundle import elf, macho_file, symbols, wasm_file
from qcompiler.bundle.side_by_side import Done, run_all
from qcompiler.bundle.symbols import Symbol
from qcompiler.errors import QCompilerError
from qcompiler.targets.architecture import IOS, WASM32, Architecture, host, named

C_FLAGS = (
    "-std=c11",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-asynchronous-unwind-tables",
    "-pthread",
    "-Wall",
)
LINK_FLAGS = (
    "-nostartfiles",
    "-static-libgcc",
    "-Wl,--gc-sections,--build-id=none,--as-needed,-O1",
    "-Wl,-z,defs,-z,noexecstack,-z,now,-z,noseparate-code",
)
# relro pads a library to a whole page
_SMALL_PAGE = 4096
# C has no exceptions; on 32-bit ARM the tables alone would link all of libgcc's unwinder
_NO_UNWINDING = tuple(f"--remove-section={name}*" for name in (".ARM.exidx", ".ARM.extab", ".eh_frame"))
ALLOWED_NEEDED = re.compile(r"(libc|libm|libpthread|ld-linux[a-z0-9_-]*)\.(so|musl)[a-z0-9_.-]*")
_NEEDED = re.compile(r"\(NEEDED\).*\[(.+)\]")
_RUNTIME = re.compile(r"_*TVM")


Command = tuple[str, ...]
"""A tool of the chain by its name without the prefix, "cc" for the C compiler, and its arguments."""


@dataclass(frozen=True)
class Merged:
    """What one relocatable object is made of, and the symbols that stay global in it."""

    objects: Sequence[str]
    keep: Sequence[str]


@dataclass(frozen=True)
class Toolchain:
    """Commands for one architecture; cross: they run on a machine of another."""

    architecture: Architecture
    cross: bool

    @property
    def prefix(self) -> str:
        """What the names of the tools begin with; empty for the machine's own."""
        return self.architecture.cross_prefix if self.cross else ""

    @property
    def compiler(self) -> str:
        """The C compiler."""
        return f"{self.prefix}gcc" if self.cross else "cc"

    @property
    def cxx_compiler(self) -> str:
        """The C++ compiler, for programs of the user; bundles are made without."""
        return f"{self.prefix}g++" if self.cross else "c++"

    def run(self, tool: str, *arguments: str, folder: Path) -> str:
        """Run a tool of the chain in `folder` and give what it printed. Raises QCompilerError with its message."""
        return self.run_all([(tool, *arguments)], folder)[0]

    def run_all(self, commands: Sequence[Command], folder: Path) -> list[str]:
        """Run tools side by side; see `run`."""
        names = [self.compiler if tool == "cc" else f"{self.prefix}{tool}" for tool, *_ in commands]
        found = [[self.found(name), *command[1:]] for name, command in zip(names, commands, strict=True)]
        return [printed(name, done) for name, done in zip(names, run_all(found, folder), strict=True)]

    def compilation(self, source: str, target: str, *flags: str) -> Command:
        """Compiles one C or assembly file to an object."""
        return ("cc", *C_FLAGS, *self.architecture.compile_flags, *flags, "-c", source, "-o", target)

    def shared_link(self, objects: Sequence[str], target: str) -> Command:
        """Links a stripped shared library that needs nothing but libc and libm."""
        soname = f"-Wl,-soname,{target}"
        page = self.architecture.page_bytes
        pages = f"-Wl,-z,max-page-size={page},-z,{'relro' if page <= _SMALL_PAGE else 'norelro'}"
        flags = (*LINK_FLAGS, pages, soname)
        return ("cc", "-shared", *flags, "-s", "-o", target, *objects, "-lm", "-pthread")

    def archiving(self, objects: Sequence[str], target: str) -> Command:
        """Makes a static library; equal objects give equal bytes."""
        return ("ar", "rcsD", target, *objects)

    def renaming(self, path: str, symbols: Iterable[Symbol], prefix: str, folder: Path) -> Command:
        """Drops debug information and unwind tables, and gives every symbol that the object defines a prefix."""
        listing = folder / f"{path}.names"
        listing.write_text("".join(f"{each.name} {prefix}{each.name}\n" for each in symbols if each.defined))
        return ("objcopy", "--strip-debug", *_NO_UNWINDING, f"--redefine-syms={listing.name}", path)

    def merge(self, merged: Mapping[str, Merged], folder: Path) -> None:
        """Relocatable objects, by name, each of several others, in which only some symbols are global."""
        self.run_all([("cc", "-r", "-nostdlib", "-o", name, *each.objects) for name, each in merged.items()], folder)
        for name, each in merged.items():
            (folder / f"{name}.keep").write_text("".join(f"{symbol}\n" for symbol in each.keep))
        stripping = ("objcopy", "--strip-unneeded")
        self.run_all([(*stripping, f"--keep-global-symbols={name}.keep", name) for name in merged], folder)

    def symbols(self, path: str, folder: Path, *, dynamic: bool = False) -> list[Symbol]:
        """Global symbols of a file; dynamic: those that the dynamic loader sees."""
        which = "--dyn-syms" if dynamic else "--syms"
        return list(symbols.parse(self.run("readelf", which, "--wide", path, folder=folder)))

    def needed(self, path: str, folder: Path) -> list[str]:
        """Names of the shared libraries that a shared library asks for."""
        return _NEEDED.findall(self.run("readelf", "-d", "-W", path, folder=folder))

    def found(self, tool: str) -> str:
        """The path of a tool. Raises QCompilerError with the package that holds it where it is not installed."""
        path = shutil.which(tool)
        if path is None:
            package = self.architecture.cross_package if self.cross else "gcc"
            remedy = to_install(package, "" if self.cross else "gcc")
            raise QCompilerError(f"the C compiler tool '{tool}' is not installed", remedy=remedy)
        return path


def to_install(package: str, fedora: str = "") -> str:
    """What to do where Debian's package is missing; fedora: Fedora's, where it is known."""
    there = f"; Fedora: sudo dnf install {fedora}" if fedora else ""
    return f"install the package {package} (Debian, Ubuntu: sudo apt install {package}{there})"


def emulator_for(architecture: str) -> str | None:
    """The path of an installed emulator, engine, or compiler of what stands for a device; None where there is none."""
    name = named(architecture).emulator
    return (shutil.which(name) or shutil.which(f"{name}-static")) if name else None


def machine_of(object_code: bytes) -> str:
    """The architecture of a relocatable object."""
    if wasm_file.is_wasm(object_code):
        return WASM32.name
    if macho_file.is_object(object_code):
        return IOS.name
    architecture = elf.machine(object_code)
    if architecture is None:
        raise QCompilerError("internal error: the object code is for no known machine")
    return architecture


def toolchain_for(architecture: str) -> Toolchain:
    """The chain that makes code for `architecture` on this machine. Raises QCompilerError where a part is missing."""
    machine = named(architecture)
    chain = Toolchain(machine, host() != machine.processor)
    for tool in (chain.compiler, *(f"{chain.prefix}{name}" for name in ("ar", "objcopy", "readelf"))):
        chain.found(tool)
    if package := missing_c_library(chain):
        raise QCompilerError(
            f"{chain.compiler} is installed, but not its C library: it finds no {_part_of_libc(chain)}",
            remedy=to_install(package),
        )
    return chain


def missing_c_library(chain: Toolchain) -> str:
    """The Debian package of the C library that an installed compiler has not; empty if it has."""
    part = _part_of_libc(chain)
    command = [chain.found(chain.compiler), f"-print-file-name={part}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # a file that is not found is printed as it was asked for
    if done.stdout.strip() != part:
        return ""
    return chain.architecture.c_library if chain.cross else "libc6-dev"


def _part_of_libc(chain: Toolchain) -> str:
    return "libc.a" if chain.architecture.bare else "crt1.o"


def reject_runtime_calls(symbols: Iterable[Symbol], variant: str) -> None:
    """Raise QCompilerError where an object, whose symbols are given, calls TVM's runtime, which the bundle lacks.

    Such calls go through weak pointers that are null until the runtime sets them: the linker does not complain.
    """
    calls = sorted({each.name for each in symbols if _RUNTIME.match(each.name)})
    if calls:
        raise QCompilerError(f"internal error: kernels of variant {variant} call TVM's runtime: {', '.join(calls)}")


def reject_dependencies(chain: Toolchain, path: str, folder: Path) -> None:
    """Raise QCompilerError where a shared library depends on more than the C library and libm."""
    libraries = [name for name in chain.needed(path, folder) if not ALLOWED_NEEDED.fullmatch(name)]
    if libraries:
        raise QCompilerError(f"internal error: {path} needs {', '.join(libraries)}")
    optional = [each.name for each in chain.symbols(path, folder, dynamic=True) if each.weak and not each.defined]
    if optional:
        raise QCompilerError(f"internal error: {path} has weak undefined symbols {', '.join(optional)}")


def printed(name: str, done: Done) -> str:
    """What a tool printed. Raises QCompilerError with its message where it failed."""
    if done.returncode == 0:
        return done.stdout
    message = done.stderr.strip() or f"exit status {done.returncode}"
    if "No space left on device" in message:
        raise QCompilerError(f"no space left for {name}", remedy="free some disk space")
    raise QCompilerError(f"{name} failed: {message[:1000]}")
