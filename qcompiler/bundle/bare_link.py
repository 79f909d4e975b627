"""From a program to static libraries for microcontrollers, one per variant, whose constants lie in flash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.bundle import glue, toolchain
from qcompiler.bundle.alone import alone
from qcompiler.bundle.contract import ALIGNMENT
from qcompiler.bundle.kernel_objects import kernel_objects
from qcompiler.bundle.manifest import bare_library_name
from qcompiler.bundle.toolchain import Merged, Toolchain
from qcompiler.ir.program import Program
from qcompiler.targets.architecture import CORTEX_M
from qcompiler.targets.boards import BOARDS

C_FLAGS = (
    "-std=c11",
    "-Os",
    "-mthumb",
    "-ffreestanding",
    "-fvisibility=hidden",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-asynchronous-unwind-tables",
    "-Wall",
)
_UNITS = ("runtime.c", "tables.c", "cpu.c", "constants.c")
_ROW = 20


@dataclass(frozen=True)
class BareLibrary:
    """A static library, and the text of the C file that its constants come from."""

    content: bytes
    constants: str


def libraries(program: Program, chain: Toolchain, folder: Path) -> dict[str, BareLibrary]:
    """The library of every variant, by its name; folder: an existing empty directory for the files on the way."""
    made = {}
    for variant in program.variants:
        place = folder / variant.name
        place.mkdir()
        made[variant.name] = _library(alone(program, variant), chain, place)
    return made


def _library(program: Program, chain: Toolchain, folder: Path) -> BareLibrary:
    """The library of a program of one variant."""
    (variant,) = program.variants
    constants = constants_source(program)
    for name, text in {**glue.sources(program, CORTEX_M.name), "constants.c": constants}.items():
        (folder / name).write_text(text, encoding="utf-8")
    flags = (*C_FLAGS, *BOARDS[variant.name].flags)
    chain.run_all([("cc", *flags, "-c", unit, "-o", f"{unit}.o") for unit in _UNITS], folder)
    kernels = kernel_objects(program, chain, folder)
    whole, name = f"{program.name}.o", bare_library_name(program.name, variant.name)
    public = glue.public_symbols(program, CORTEX_M.name)
    chain.merge({whole: Merged([*(f"{unit}.o" for unit in _UNITS), *kernels], public)}, folder)
    # kernels say that there is a stack, of which linkers for boards know nothing
    chain.run("objcopy", "--remove-section=.note.GNU-stack", whole, folder=folder)
    chain.run_all([chain.archiving([whole], name)], folder)
    return BareLibrary((folder / name).read_bytes(), constants)


def constants_source(program: Program) -> str:
    """A C file of the constants, in a section of their own that a linker script can place."""
    name, content = program.name, program.constants or b"\0"
    lines = [f"    {_numbers(content[at : at + _ROW])}," for at in range(0, len(content), _ROW)]
    return "\n".join(
        [
            f"/* The constants of the network {name}: a linker script can place .rodata.{name}_constants. */",
            f'__attribute__((section(".rodata.{name}_constants"), aligned({ALIGNMENT}), visibility("hidden")))',
            f"const unsigned char {name}_internal_constants[{len(content)}] = {{",
            *lines,
            "};\n",
        ]
    )


def _numbers(content: Sequence[int]) -> str:
    return ", ".join(map(str, content))


def toolchain_for_boards() -> Toolchain:
    """GNU's tools for microcontrollers. Raises QCompilerError, naming a package, where a part is missing."""
    return toolchain.toolchain_for(CORTEX_M.name)
