"""The read-only data of a network."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.lowering import memory


class ConstantBlob:
    """Read-only data, each piece 64-byte aligned and stored once."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._offsets: dict[bytes, int] = {}
        self._size = 0

    def add(self, array: npt.NDArray[Any]) -> int:
        """Byte offset of the array's content."""
        data = np.ascontiguousarray(array).tobytes()
        key = hashlib.sha256(data).digest()
        if key not in self._offsets:
            self._offsets[key] = self._size
            padding = -len(data) % memory.ALIGNMENT
            self._pieces.append(data + bytes(padding))
            self._size += len(data) + padding
        return self._offsets[key]

    def content(self) -> bytes:
        """All pieces."""
        return b"".join(self._pieces)
