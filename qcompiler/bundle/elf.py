"""The little of the ELF format that tells whose code a file holds, and whether the file is whole."""

from __future__ import annotations

import struct

from qcompiler.targets import architecture

SHARED = 3
LOAD = 1


def machine(content: bytes) -> str | None:
    """The architecture of an object, executable or library; None where it is no ELF file of a known one."""
    if content[:4] != b"\x7fELF" or len(content) < 20:
        return None
    found = architecture.of_elf(int.from_bytes(content[18:20], "little"))
    return None if found is None else found.name


def is_whole_library(content: bytes, name: str) -> bool:
    """Whether `content` is a shared library for the architecture `name` whose segments lie within it.

    The dynamic loader maps segments without looking at the file's size: a truncated library ends in SIGBUS.
    """
    try:
        if machine(content) != name or struct.unpack_from("<H", content, 16)[0] != SHARED:
            return False
        segments = list(_segments(content))
    except (struct.error, OverflowError):  # the offset of a damaged file may be too large for an index
        return False
    return bool(segments) and all(offset + size <= len(content) for offset, size in segments)


def _segments(content: bytes) -> list[tuple[int, int]]:
    """Offset and size of everything that is loaded."""
    wide = content[4] == 2
    start = struct.unpack_from("<Q" if wide else "<I", content, 32 if wide else 28)[0]
    entry, count = struct.unpack_from("<HH", content, 54 if wide else 42)
    found = []
    for index in range(count):
        at = start + index * entry
        kind = struct.unpack_from("<I", content, at)[0]
        offset, size = struct.unpack_from("<Q16xQ" if wide else "<I8xI", content, at + (8 if wide else 4))
        if kind == LOAD:
            found.append((offset, size))
    return found
