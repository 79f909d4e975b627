"""Inputs to a device and outputs from it: works that reach only its own memory, with copies before and after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qcompiler.lowering.work import CopyWork, External, KernelWork, Location, Slot, Stored, Work


def with_transfers(works: Sequence[Work]) -> list[Work]:
    """The works with a slot for every input and output of the network, copied first and last."""
    copies = _Copies()
    inner = [copies.moved(work) for work in works]
    return [*copies.before, *inner, *copies.after]


class _Copies:
    def __init__(self) -> None:
        self.before: list[CopyWork] = []
        self.after: list[CopyWork] = []
        self._slots: dict[Location, Slot] = {}

    def moved(self, work: Work) -> Work:
        """The work on slots."""
        assert not isinstance(work, CopyWork)
        if isinstance(work, KernelWork):
            reads, writes = (tuple(map(self._stored, items)) for items in (work.reads, work.writes))
            return replace(work, reads=reads, writes=writes)
        return replace(work, reads=tuple(map(self._any, work.reads)), writes=tuple(map(self._placed, work.writes)))

    def _any(self, item: Stored | Slot | npt.NDArray[np.generic]) -> Stored | Slot | npt.NDArray[np.generic]:
        return item if isinstance(item, np.ndarray) else self._placed(item)

    def _placed(self, item: Stored | Slot) -> Stored | Slot:
        return self._stored(item) if isinstance(item, Stored) else item

    def _stored(self, item: Stored) -> Stored:
        place = item.location
        if not isinstance(place, External):
            return item
        if place not in self._slots:
            self._slots[place] = Slot(item.form.nbytes)
            there = replace(item, location=self._slots[place])
            if place.kind == "input":
                self.before.append(CopyWork((item,), (there,)))
            else:
                self.after.append(CopyWork((there,), (item,)))
        return replace(item, location=self._slots[place])
