"""The little of the WebAssembly format that tells whether a file is whole, and what a module asks of its host."""

from __future__ import annotations

from collections.abc import Iterator

HEADER = b"\0asm\1\0\0\0"
_IMPORTS = 2


def is_wasm(content: bytes) -> bool:
    """Whether this is a module or a relocatable object."""
    return content.startswith(HEADER)


def imports_anything(content: bytes) -> bool:
    """Whether a module needs functions or memory of its host. Raises ValueError where the file is not whole."""
    return any(kind == _IMPORTS and _number(payload, 0)[0] > 0 for kind, payload in _sections(content))


def _sections(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of every section."""
    if not is_wasm(content):
        raise ValueError("no WebAssembly")
    at = len(HEADER)
    while at < len(content):
        size, begin = _number(content, at + 1)
        if begin + size > len(content):
            raise ValueError("truncated")
        yield content[at], content[begin : begin + size]
        at = begin + size


def _number(content: bytes, at: int) -> tuple[int, int]:
    """An unsigned number of seven bits per byte, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(content) or shift > 28:
            raise ValueError("truncated")
        value |= (content[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if content[at - 1] < 0x80:
            return value, at
