"""The little of the ELF format that tells whose code a file holds, and whether the file is whole."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from qcompiler.targets import architecture

SHARED = 3
LOAD = 1
_ARM_ATTRIBUTES = 0x70000003
# tags of the public section of build attributes, and those of them whose values are texts
_PROFILE, _TEXTS, _MICROCONTROLLER = 7, (4, 5, 67), ord("M")


def machine(content: bytes) -> str | None:
    """The architecture of an object, executable or library; None where it is no ELF file of a known one."""
    if content[:4] != b"\x7fELF" or len(content) < 20:
        return None
    found = architecture.of_elf(int.from_bytes(content[18:20], "little"), bare=_is_microcontroller(content))
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


def _is_microcontroller(content: bytes) -> bool:
    """Whether the build attributes of an object for ARM name the profile M; false for damaged files."""
    try:
        return any(_profile(attributes) == _MICROCONTROLLER for attributes in _arm_attributes(content))
    except (struct.error, IndexError, ValueError):
        return False


def _arm_attributes(content: bytes) -> Iterator[bytes]:
    """The build attributes of a file of 32 bits: pairs of tag and value, behind the names of their section."""
    if content[4] != 1:
        return
    (start,) = struct.unpack_from("<I", content, 32)
    entry, count = struct.unpack_from("<HH", content, 46)
    for at in range(start, start + entry * count, entry):
        kind, offset, size = struct.unpack_from("<4xI8xII", content, at)
        if kind == _ARM_ATTRIBUTES:
            # a version, a length, the name "aeabi", the tag of a file and a length
            yield content[offset + 1 + 4 + 6 + 1 + 4 : offset + size]


def _profile(attributes: bytes) -> int:
    """The architecture profile among build attributes; 0 where they name none before a tag of unknown form."""
    at = 0
    while at < len(attributes):
        tag, at = attributes[at], at + 1
        if tag in _TEXTS:
            at = attributes.index(0, at) + 1
        elif tag == _PROFILE:
            return attributes[at]
        else:
            while attributes[at] & 0x80:
                at += 1
            at += 1
    return 0
