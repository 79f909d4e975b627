"""The little of the Mach-O format that tells whose code an object holds."""

from __future__ import annotations

# the first bytes of a file of 64 bits, and the family of its processor: 64-bit ARM
_MAGIC = bytes.fromhex("cffaedfe 0c000001")


def is_object(content: bytes) -> bool:
    """Whether this is a file of code for Apple's 64-bit ARM."""
    return content.startswith(_MAGIC)
