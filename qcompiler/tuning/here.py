"""Trials on this machine, in a process of their own that may die or hang."""

from __future__ import annotations

import ctypes
import os

import numpy as np

from qcompiler.bundle.native import aligned_empty
from qcompiler.child import Child, ChildLost
from qcompiler.targets.target import Array
from qcompiler.tuning import machine
from qcompiler.tuning.trial import Outcome, PlaceLost, Subject, Trial, differing, in_turns

ROUND_NANOSECONDS = 300_000
"""Of a round at least; chosen: a thousand times the clock's resolution."""

# seconds for a trial: no kernel takes a thousandth of it; chosen
PATIENCE = 20.0
_FILL = 0xA5


class Here:
    """The machine that tunes; see `trial.Place`."""

    name = "this machine"

    def __init__(self, patience: float = PATIENCE) -> None:
        self.machine = machine.here()
        self._patience = patience
        self._child = Child()

    def open(self) -> None:
        """Nothing is to be opened."""

    def run(self, trial: Trial) -> list[Outcome]:
        """Try kernels in the process."""
        try:
            return self._child.ask(tried, trial, seconds=self._patience)
        except ChildLost as lost:
            raise PlaceLost(str(lost)) from None

    def close(self) -> None:
        """End the process."""
        self._child.close()


class _Loaded:
    """A kernel with all that it reads and writes."""

    def __init__(self, subject: Subject) -> None:
        self._library = ctypes.CDLL(os.fspath(subject.library))
        self.outputs = [aligned(np.full(each.nbytes, _FILL, np.uint8)) for each in subject.expected]
        given = [aligned(each) for each in (subject.x, *subject.constants, *subject.tensors)]
        self._expected = subject.expected
        self._kept = [*given, *self.outputs]
        self._pointers = (ctypes.c_void_p * len(self._kept))(*(array.ctypes.data for array in self._kept))
        self._items = subject.items

    def wrong(self) -> str:
        """What is wrong with the results of a run; "" where nothing is."""
        status = self._library.trial_run(self._pointers, self._items)
        if status:
            return f"the kernel returned {status}"
        found = (
            raw.view(each.dtype).reshape(each.shape) for raw, each in zip(self.outputs, self._expected, strict=True)
        )
        return differing(self._expected, tuple(found))

    def round(self) -> float:
        """Mean nanoseconds of the runs of a round."""
        mean = ctypes.c_double()
        self._library.trial_time(self._pointers, self._items, 1, ctypes.c_int64(ROUND_NANOSECONDS), ctypes.byref(mean))
        return mean.value


def tried(trial: Trial) -> list[Outcome]:
    """Run and time kernels in this process: those whose results are right, in turns."""
    return in_turns([_Loaded(subject) for subject in trial.subjects], trial.rounds)


def aligned(array: Array) -> Array:
    """A copy, flat, as bytes, at an address that kernels take."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    copy = aligned_empty(flat.shape, "uint8")
    copy[...] = flat
    return copy
