"""The files of a bundle for microcontrollers: libraries, and what makes a program for an emulated board of them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from qcompiler.bundle import bare_link, glue
from qcompiler.bundle.manifest import bare_library_name
from qcompiler.bundle.toolchain import Toolchain
from qcompiler.errors import QCompilerError, UnsupportedModel
from qcompiler.ir.program import Program
from qcompiler.targets.architecture import CORTEX_M
from qcompiler.targets.boards import BOARDS, Board

# of the programs that are made here; kernels keep a few kilobytes there
STACK_BYTES = 16 * 1024
_DEEP_STACK_BYTES = 256 * 1024
STARTUP, SEMIHOSTING = "startup.c", "board-semihosting.h"
_SCRIPT = "board.ld"
# what a firmware may use besides the network
LIBRARIES = ("-lm", "-lc", "-lgcc")


def write(program: Program, folder: Path) -> None:
    """Write the files of a bundle into an existing empty directory."""
    chain = bare_link.toolchain_for_boards()
    with tempfile.TemporaryDirectory() as build:
        libraries = bare_link.libraries(program, chain, Path(build))
    for variant, library in libraries.items():
        (folder / bare_library_name(program.name, variant)).write_bytes(library.content)
        (folder / f"{program.name}_{variant}_constants.c").write_text(library.constants)
        (folder / script_name(program.name, variant)).write_text(linker_script(BOARDS[variant], variant))
    texts = {
        f"{program.name}.h": glue.public_header(program, CORTEX_M.name),
        "example.c": glue.board_example(program),
        "Makefile": _makefile(program),
        STARTUP: template("board_startup.c"),
        SEMIHOSTING: template(SEMIHOSTING),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def script_name(name: str, variant: str) -> str:
    """File name of the linker script of a variant's board."""
    return f"{name}_{variant}.ld"


def linker_script(board: Board, variant: str, stack_bytes: int = STACK_BYTES) -> str:
    """The text of a linker script."""
    facts = {
        "title": f"{core(variant)} on QEMU's board {board.machine}",
        "flash_origin": f"{board.flash.origin:#x}",
        "flash_bytes": f"{board.flash.nbytes // 1024}K",
        "ram_origin": f"{board.ram.origin:#x}",
        "ram_bytes": f"{board.ram.nbytes // 1024}K",
        "stack_bytes": str(stack_bytes),
    }
    return _replaced(template("board.ld"), facts)


def add_script(folder: Path, variant: str, stack_bytes: int) -> None:
    """Put the linker script that `program` takes into a folder."""
    (folder / _SCRIPT).write_text(linker_script(BOARDS[variant], variant, stack_bytes), encoding="utf-8")


def deep_stack(variant: str) -> int:
    """Bytes of a stack for code under suspicion: far more than kernels need, where the board has them."""
    return min(_DEEP_STACK_BYTES, BOARDS[variant].ram.nbytes // 8)


def program(chain: Toolchain, variant: str, sources: list[str], library: str, folder: Path) -> Path:
    """The program of C files and a variant's library in `folder`, for its board; the linker script is there.

    Raises UnsupportedModel where the board has too little memory.
    """
    board, out = BOARDS[variant], folder / "program.elf"
    flags = ("-O1", "-std=c11", "-mthumb", "-ffreestanding", *board.flags)
    linking = ("-nostartfiles", "-Wl,--gc-sections", "-T", _SCRIPT)
    try:
        chain.run("cc", *flags, *sources, library, *linking, *LIBRARIES, "-o", out.name, folder=folder)
    except QCompilerError as error:
        if "will not fit in region" in error.message:
            raise too_large(variant) from error
        raise
    return out


def too_large(variant: str) -> UnsupportedModel:
    """What is said of a network for which the board of a variant has too little memory."""
    board = BOARDS[variant]
    return UnsupportedModel(
        f"the network is too large for {board.machine}, on which {core(variant)} is verified: it has "
        f"{board.flash.nbytes // 1024} KiB of flash and {board.ram.nbytes // 1024} KiB of RAM",
        remedy="compile with --no-verify",
    )


def emulation(emulator: str, variant: str) -> tuple[str, ...]:
    """The command that runs a program on the board of a variant, to be followed by "-kernel" and its path."""
    quiet = ("-display", "none", "-monitor", "none", "-serial", "none")
    return (emulator, *_machine(BOARDS[variant]), *quiet, "-semihosting-config", "enable=on,target=native")


def _machine(board: Board) -> tuple[str, ...]:
    """Options of the emulator."""
    return ("-machine", board.machine, *(("-cpu", board.core) if board.core else ()))


def core(variant: str) -> str:
    """What people call the core of a variant."""
    return variant.replace("_", "-")


def template(name: str) -> str:
    """A file of c/."""
    return (resources.files("qcompiler.bundle") / "c" / name).read_text(encoding="utf-8")


def _makefile(program: Program) -> str:
    rows = []
    for variant in program.variants:
        board = BOARDS[variant.name]
        cpu = core(variant.name)
        rows += [f"FLAGS_{cpu} = {' '.join(board.flags)}", f"MACHINE_{cpu} = {' '.join(_machine(board))}"]
    facts = {
        "name": program.name,
        "cpu": core(program.variants[0].name),
        "cpus": ", ".join(core(variant.name) for variant in program.variants),
        "boards": "\n".join(rows),
        "libraries": " ".join(LIBRARIES),
    }
    return _replaced(template("board.mk"), facts)


def _replaced(text: str, facts: Mapping[str, str]) -> str:
    for key, fact in facts.items():
        text = text.replace(f"@{key}@", fact)
    return text
