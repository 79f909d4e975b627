"""Boards on which code for microcontrollers is verified and tried: what the emulator and GNU's tools must know of them.

The memory is that of the boards as QEMU has them, as far as code of the secure state reaches it; most are ARM's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """Memory: its first address, and its bytes."""

    origin: int
    nbytes: int


@dataclass(frozen=True)
class Board:
    """An emulated board with one core.

    machine: the emulator's name of it. flags: of GNU's compiler for its core. flash: where code and constants lie, the
    table of vectors first; ram: all that is written. core: the emulator's name of a core that is not the board's own.
    """

    machine: str
    flags: tuple[str, ...]
    flash: Region
    ram: Region
    core: str = ""


_MIB = 2**20
_HARD = "-mfloat-abi=hard"

BOARDS: Mapping[str, Board] = {
    "cortex_m55": Board(
        "mps3-an547", ("-mcpu=cortex-m55", _HARD), Region(0x10000000, _MIB // 2), Region(0x70000000, 64 * _MIB)
    ),
    "cortex_m7": Board(
        "mps2-an500", ("-mcpu=cortex-m7+nofp.dp", _HARD), Region(0, 4 * _MIB), Region(0x60000000, 16 * _MIB)
    ),
    "cortex_m33": Board(
        "mps2-an505", ("-mcpu=cortex-m33", _HARD), Region(0x10000000, 4 * _MIB), Region(0x80000000, 16 * _MIB)
    ),
    "cortex_m4": Board("mps2-an386", ("-mcpu=cortex-m4", _HARD), Region(0, 4 * _MIB), Region(0x21000000, 16 * _MIB)),
    # the board's own core is a Cortex-M4; those with this one have 16 KiB of RAM
    "cortex_m0": Board(
        "netduinoplus2",
        ("-mcpu=cortex-m0", "-mfloat-abi=soft"),
        Region(0x08000000, _MIB),
        Region(0x20000000, _MIB // 8),
        "cortex-m0",
    ),
}
"""By the name of the instruction-set variant that runs there."""
