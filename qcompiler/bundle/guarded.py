"""Memory for a network under suspicion: every buffer between pages that nobody may touch, and full of garbage.

A buffer's pages lie in a file that two processes share; see c/isolated.c. The buffer ends with its pages, so that the
first byte behind it faults, or begins with them, so that the last byte before it does. What of the pages is left over
on the other side, and between the end and the next address that is aligned, holds bytes that must not change.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

PAGE = mmap.PAGESIZE
# before and behind each buffer; chosen
GUARD = 256 * PAGE


@dataclass(frozen=True)
class GuardedBuffer:
    """A buffer as its pages lie: `offset` bytes into the file, and `address` bytes from the first guard on."""

    label: str
    nbytes: int
    alignment: int
    offset: int
    address: int

    @property
    def pages(self) -> int:
        """Bytes of its pages."""
        return max(-(-self.nbytes // PAGE), 1) * PAGE

    @property
    def slack(self) -> int:
        """Where in its pages it begins if it is to end with them."""
        return (self.pages - self.nbytes) // self.alignment * self.alignment

    def describe(self, address: int) -> str:
        """What lies at an address that is not in these pages but in a guard beside them."""
        if address < self.address:
            return f"{self.address - address} bytes before {self.label}"
        return f"{address - self.address - self.pages + 1} bytes past the end of {self.label}"


def plan(sizes: Sequence[tuple[str, int, int]]) -> tuple[GuardedBuffer, ...]:
    """Buffers for what `sizes` lists as (label, bytes, alignment in bytes)."""
    buffers: list[GuardedBuffer] = []
    offset, address = 0, GUARD
    for label, nbytes, alignment in sizes:
        buffers.append(GuardedBuffer(label, nbytes, alignment, offset, address))
        offset += buffers[-1].pages
        address += buffers[-1].pages + GUARD
    return tuple(buffers)


class GuardedMemory:
    """The shared file of planned buffers, in this process; to be closed after use.

    at_start: whether buffers begin with their pages now, instead of ending with them.
    """

    def __init__(self, buffers: Sequence[GuardedBuffer]) -> None:
        self.buffers = tuple(buffers)
        size = sum(buffer.pages for buffer in buffers)
        self.descriptor = os.memfd_create("guarded", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, size)
        self._whole = np.frombuffer(mmap.mmap(self.descriptor, size), np.uint8)
        self.at_start = False
        self._rims = [rim.copy() for rim in self._rims_now()]

    def close(self) -> None:
        """Give the file back; arrays that were taken of it stay readable."""
        os.close(self.descriptor)

    def arguments(self) -> list[str]:
        """What the program of c/isolated.c is to know of the buffers."""
        return [str(number) for number in (GUARD, *(n for each in self.buffers for n in (each.pages, each.slack)))]

    def fill(self, seed: int, *, at_start: bool) -> None:
        """Put garbage everywhere, and decide on which side the buffers lie: at the start of their pages or the end."""
        self._whole[...] = np.frombuffer(np.random.default_rng(seed).bytes(self._whole.size), np.uint8)
        self.at_start = at_start
        self._rims = [rim.copy() for rim in self._rims_now()]

    def bytes_of(self, index: int) -> Bytes:
        """The bytes of a buffer where it lies now, uint8 [nbytes]."""
        buffer = self.buffers[index]
        begin = buffer.offset + self._begin(buffer)
        return self._whole[begin : begin + buffer.nbytes]

    def touched(self) -> str:
        """Where a byte around a buffer has changed since `fill`; empty where none has."""
        for index, (rim, expected) in enumerate(zip(self._rims_now(), self._rims, strict=True)):
            if not np.array_equal(rim, expected):
                buffer, behind = self.buffers[index // 2], index % 2
                changed = np.flatnonzero(rim != expected)
                distance = int(changed[0]) + 1 if behind else rim.size - int(changed[-1])
                return f"{distance} bytes {'past the end of' if behind else 'before'} {buffer.label}"
        return ""

    def describe(self, address: int) -> str:
        """What lies at an address, counted from the first guard on."""
        buffers = self.buffers
        inside = next((each for each in buffers if 0 <= address - each.address < each.pages), None)
        if inside is not None:
            return inside.label
        return min(buffers, key=lambda each: _distance(each, address)).describe(address)

    def _begin(self, buffer: GuardedBuffer) -> int:
        return 0 if self.at_start else buffer.slack

    def _rims_now(self) -> list[Bytes]:
        """For each buffer, its pages' bytes before and behind it."""
        rims = []
        for buffer in self.buffers:
            pages = self._whole[buffer.offset : buffer.offset + buffer.pages]
            begin = self._begin(buffer)
            rims += [pages[:begin], pages[begin + buffer.nbytes :]]
        return rims


def _distance(buffer: GuardedBuffer, address: int) -> int:
    return max(buffer.address - address, address - buffer.address - buffer.pages)
