"""A compiled program as a shared library in a process of its own, without what a bundle holds beside it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from qcompiler.bundle import contract, glue, toolchain
from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.bundle.load import describe
from qcompiler.bundle.write import manifest_of, write
from qcompiler.ir.program import Program

# one translation unit takes half the time of four
_SOURCES = ("runtime.c", "threads.c", "tables.c", "cpu.c")
_UNIT = "unit.c"
_ARCHITECTURE = "x86_64"
_SECONDS, _EMULATED_SECONDS = 20, 60


def isolated_bundle(program: Program, folder: Path) -> IsolatedBundle:
    """The program between guard pages, ready to run, here or under an emulator; `folder` takes its files."""
    architecture = toolchain.machine_of(program.variants[0].objects[0])
    if architecture != _ARCHITECTURE:
        write(program, folder / "out")
        emulator = toolchain.emulator_for(architecture)
        assert emulator is not None
        return IsolatedBundle(folder / "out", describe(folder / "out").manifest, emulator, seconds=_EMULATED_SECONDS)
    link(program, folder)
    return IsolatedBundle(folder, manifest_of(program, _ARCHITECTURE, 1, {}), seconds=_SECONDS)


def link(program: Program, folder: Path) -> Path:
    """Write lib<name>.so into `folder` from the bundle's own sources, unoptimised: the kernels are what is tested."""
    contract.check(program)
    for name, text in glue.sources(program, _ARCHITECTURE).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / _UNIT).write_text("".join(f'#include "{name}"\n' for name in _SOURCES), encoding="utf-8")
    (folder / "constants.bin").write_bytes(program.constants or b"\0")
    objects, names = [], []
    for variant in program.variants:
        for number, code in enumerate(variant.objects):
            path = folder / f"{variant.name}{number}.o"
            path.write_bytes(code)
            objects.append(path.name)
        names += [
            f"-Wl,--defsym={glue.kernel_symbol(program, variant, symbol)}={symbol}"
            for symbol in {call.symbol for call in variant.calls}
        ]
    target = folder / f"lib{program.name}.so"
    # what the last source asks of the headers, which the first one includes
    flags = ("-D_GNU_SOURCE", "-O0", "-pipe", "-w", "-shared", "-fPIC", "-Wl,-z,noexecstack", "-o", target.name)
    command = ["cc", *flags, _UNIT, "constants.S", *objects, *names, "-lm", "-pthread"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return target
