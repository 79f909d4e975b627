"""Runs a kernel on an emulated board, on memory that is copied from and to a file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from qcompiler.bundle import board_files
from qcompiler.bundle.bare_link import toolchain_for_boards
from qcompiler.bundle.toolchain import emulator_for
from qcompiler.errors import QCompilerError
from qcompiler.targets.architecture import CORTEX_M
from qcompiler.targets.target import Constants, Kernel, Variant
from tests.targets.emulated import EmulatedRunner

_MAIN = """
#include "board-semihosting.h"
extern int kernel(POINTERS int, int);
static _Alignas(64) unsigned char memory[SIZE];
static char line[1024];

static char *word(char **rest) {
    while (**rest == ' ') ++*rest;
    char *found = *rest;
    while (**rest && **rest != ' ') ++*rest;
    if (**rest) *(*rest)++ = 0;
    return found;
}

static int number(const char *text) {
    int value = 0;
    for (; *text; text++) value = 10 * value + (*text - '0');
    return value;
}

int main(void) {
    char *rest = line;
    host_arguments(line, sizeof line);
    word(&rest);
    intptr_t file = host_open(word(&rest), HOST_FOR_UPDATES);
    if (file < 0 || host_transfer(HOST_READ, file, memory, SIZE)) return 100;
    int begin = number(word(&rest)), end = number(word(&rest));
    int status = kernel(ARGUMENTS begin, end);
    host_seek(file, 0);
    return host_transfer(HOST_WRITE, file, memory, SIZE) ? 101 : status;
}
"""


def missing() -> str:
    """What is not installed of what makes and runs code for boards; empty if nothing."""
    try:
        toolchain_for_boards()
    except QCompilerError as error:
        return str(error)
    return "" if emulator_for(CORTEX_M.name) else f"missing Debian package: {CORTEX_M.emulator_package}"


class BoardRunner(EmulatedRunner):
    """Like `EmulatedRunner`."""

    def __init__(self, kernel: Kernel, variant: Variant, constants: Constants) -> None:
        super().__init__(kernel, variant, constants)
        self._variant = variant.name

    def _build(self, offsets: Sequence[int], size: int) -> list[str]:
        facts = {
            "POINTERS": "void *, " * len(offsets),
            "ARGUMENTS": "".join(f"memory + {offset}, " for offset in offsets),
            "SIZE": str(size),
        }
        text = _MAIN
        for key, fact in facts.items():
            text = text.replace(key, fact)
        (self._path / "main.c").write_text(text)
        (self._path / board_files.STARTUP).write_text(board_files.template("board_startup.c"))
        (self._path / board_files.SEMIHOSTING).write_text(board_files.template(board_files.SEMIHOSTING))
        board_files.add_script(self._path, self._variant, board_files.deep_stack(self._variant))
        chain = toolchain_for_boards()
        # as libraries are made, for the tables of an unwinder would link it
        unwinding = [f"--remove-section={name}*" for name in (".ARM.exidx", ".ARM.extab", ".note.GNU-stack")]
        chain.run("objcopy", *unwinding, "kernel.o", folder=self._path)
        sources = ["main.c", board_files.STARTUP]
        program = board_files.program(chain, self._variant, sources, "kernel.o", self._path)
        emulation = board_files.emulation(emulator_for(CORTEX_M.name) or "", self._variant)
        script = f'exec {shlex.join([*emulation, "-kernel", str(program)])} -append "$*"\n'
        (self._path / "run.sh").write_text(script)
        return ["sh", str(self._path / "run.sh")]
