"""Architectures of hosts: everything that is known of a processor family outside of its kernels, one record each.

Code generation, linking, loading, verification by emulation and remote devices read the same record. WebAssembly is one
of them, whose processor is a JavaScript engine.
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal

from qcompiler.errors import QCompilerError


@dataclass(frozen=True)
class Architecture:
    """One processor family.

    name: in manifests, and of its emulator. triple: LLVM's. aliases: what systems and compilers call it, as patterns of
    fnmatch. elf_machine: e_machine of its files. wide: whether pointers have 64 bits. cross_prefix: of GNU's tools for
    it on other machines. c_library: Debian's package of the C library for them. compile_flags: for C of the bundle.
    page_bytes: the largest page of its systems, for which a library must be laid out. cpu_source: the C file, without
    its suffix, that finds out which features a CPU has. file_format: of its objects, which says by which tools they are
    linked; CUDA's are sources. emulator_package: Debian's package of its emulator. threads: whether its bundles run on
    several. bare: whether its code runs without an operating system, as whole machines of the emulator do.
    emulator_cpu: the CPU of user programs that has most. host_name: the processor family that drives it, where it is a
    device.
    """

    name: str
    triple: str
    aliases: tuple[str, ...]
    elf_machine: int
    wide: bool
    cross_prefix: str
    c_library: str
    cpu_source: str
    page_bytes: int = 4096
    compile_flags: tuple[str, ...] = ()
    file_format: Literal["elf", "wasm", "cuda", "macho"] = "elf"
    emulator_package: str = "qemu-user"
    threads: bool = True
    bare: bool = False
    emulator_cpu: str = "max"
    host_name: str = ""

    @property
    def processor(self) -> str:
        """The architecture of its libraries: its own, or that of the host that drives it."""
        return self.host_name or self.name

    @property
    def cross_package(self) -> str:
        """Debian's package of its cross compiler."""
        return f"gcc-{self.cross_prefix.removesuffix('-')}"

    @property
    def emulator(self) -> str:
        """The emulator of its programs or machines, the engine of its modules, or a compiler for what stands in.

        Empty where nothing but its own machines runs its code.
        """
        if self.bare:
            return "qemu-system-arm"
        return {"elf": f"qemu-{self.name}", "wasm": "node", "cuda": "c++", "macho": ""}[self.file_format]

    def is_called(self, name: str) -> bool:
        """Whether `name` is one of its names."""
        return name == self.name or any(fnmatch(name, alias) for alias in self.aliases)


X86_64 = Architecture(
    name="x86_64",
    triple="x86_64-unknown-linux-gnu",
    aliases=("amd64",),
    elf_machine=62,
    wide=True,
    cross_prefix="x86_64-linux-gnu-",
    # without apt's recommends a cross compiler comes without headers and start files
    c_library="libc6-dev-amd64-cross",
    cpu_source="cpu_x86",
)
AARCH64 = Architecture(
    name="aarch64",
    triple="aarch64-unknown-linux-gnu",
    aliases=("arm64",),
    elf_machine=183,
    wide=True,
    cross_prefix="aarch64-linux-gnu-",
    c_library="libc6-dev-arm64-cross",
    cpu_source="cpu_arm",
    # kernels have pages of 4, 16 (Raspberry Pi 5) or 64 KiB
    page_bytes=65536,
    # else atomic operations are calls to helpers of GCC's own library
    compile_flags=("-mno-outline-atomics",),
)
ARM = Architecture(
    name="arm",
    triple="armv7a-unknown-linux-gnueabihf",
    aliases=("armv*", "thumbv7", "thumbv7a*", "thumbv8a*"),
    elf_machine=40,
    wide=False,
    cross_prefix="arm-linux-gnueabihf-",
    c_library="libc6-dev-armhf-cross",
    cpu_source="cpu_arm",
    # else 32-bit divisions are calls to helpers of GCC's own library
    compile_flags=("-mcpu=cortex-a7",),
)
# no ELF, no GNU tools, no pages and no CPU to ask: what an engine cannot run it does not load
WASM32 = Architecture(
    name="wasm32",
    triple="wasm32-unknown-unknown",
    aliases=("wasm",),
    elf_machine=0,
    wide=False,
    cross_prefix="",
    c_library="wasi-libc",
    cpu_source="cpu_wasm",
    file_format="wasm",
    emulator_package="nodejs",
    threads=False,
)
# microcontrollers; every core has a triple and flags of its own
CORTEX_M = Architecture(
    name="cortex-m",
    triple="thumbv7em-unknown-none-eabihf",
    aliases=("thumbv*m", "thumbv*m.base", "thumbv*m.main"),
    elf_machine=40,
    wide=False,
    cross_prefix="arm-none-eabi-",
    c_library="libnewlib-arm-none-eabi",
    cpu_source="cpu_cortex_m",
    emulator_package="qemu-system-arm",
    threads=False,
    bare=True,
)

RISCV64 = Architecture(
    name="riscv64",
    triple="riscv64-unknown-linux-gnu",
    aliases=("rv64",),
    elf_machine=243,
    wide=True,
    cross_prefix="riscv64-linux-gnu-",
    c_library="libc6-dev-riscv64-cross",
    cpu_source="cpu_riscv",
    emulator_cpu="rv64,v=true,vext_spec=v1.0",
)

# NVIDIA's devices behind a host; bundles are libraries of the host that hold code of the device
X86_64_CUDA = Architecture(
    name="x86_64-cuda",
    triple=X86_64.triple,
    aliases=(),
    elf_machine=X86_64.elf_machine,
    wide=True,
    cross_prefix="",
    c_library="libc6-dev",
    cpu_source="",
    file_format="cuda",
    emulator_package="g++",
    threads=False,
    host_name=X86_64.name,
)

# iPhones and iPads; nothing but Apple's own machines runs programs for them
IOS = Architecture(
    name="arm64-ios",
    triple="arm64-apple-ios15.0",
    aliases=(),
    elf_machine=0,
    wide=True,
    cross_prefix="",
    c_library="",
    cpu_source="cpu_ios",
    file_format="macho",
    emulator_package="",
    threads=False,
)

ARCHITECTURES = (X86_64, AARCH64, ARM, WASM32, CORTEX_M, RISCV64, X86_64_CUDA, IOS)
NAMES = tuple(architecture.name for architecture in ARCHITECTURES)


def named(name: str) -> Architecture:
    """The architecture of this name. Raises QCompilerError where there is none."""
    for each in ARCHITECTURES:
        if each.name == name:
            return each
    raise QCompilerError(f"unknown architecture '{name}'", remedy=f"known: {', '.join(NAMES)}")


def of_elf(machine: int, *, bare: bool = False) -> Architecture | None:
    """The architecture of ELF files with this e_machine; bare: whether they are for microcontrollers."""
    known = (each for each in ARCHITECTURES if each.file_format == "elf" and each.bare == bare)
    return next((each for each in known if each.elf_machine == machine), None)


def family(name: str) -> str:
    """The name of the architecture that `name` stands for; an unknown one as it is."""
    return next((each.name for each in ARCHITECTURES if each.is_called(name)), name)


def host() -> str:
    """The architecture that this process runs code of; a 32-bit process on a 64-bit ARM kernel is "arm"."""
    name = family(platform.machine())
    return ARM.name if name == AARCH64.name and struct.calcsize("P") == 4 else name


def host_features() -> frozenset[str]:
    """CPU feature names of this machine as /proc/cpuinfo lists them; empty if it cannot be read.

    For messages, and for choosing what to compile; which code a library runs is for itself to find out.
    """
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            named_so = (line.partition(":") for line in lines)
            listed = next((rest for key, _, rest in named_so if key.strip() in ("flags", "Features")), "")
    except OSError:
        return frozenset()
    return frozenset(listed.split())
