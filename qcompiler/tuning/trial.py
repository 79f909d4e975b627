"""What a place is asked to try, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Protocol, TypeAlias

import numpy as np

from qcompiler.targets.target import Array

NOISE_FLOOR = 0.01
"""No spread is believed to be smaller; chosen."""


@dataclass(frozen=True)
class Subject:
    """A kernel on trial: its library (`build.library`), packed constants, and number of work items.

    x, tensors: stored arrays, as `targets.reference.run` takes them; expected: what it gives for them.
    """

    library: Path
    constants: tuple[Array, ...]
    items: int
    x: Array
    tensors: tuple[Array, ...]
    expected: tuple[Array, ...]


@dataclass(frozen=True)
class Trial:
    """Kernels that are timed in turns, `rounds` times each."""

    subjects: tuple[Subject, ...]
    rounds: int


@dataclass(frozen=True)
class Timed:
    """Mean nanoseconds of a run, of every round."""

    rounds: tuple[float, ...]

    @property
    def nanoseconds(self) -> float:
        """The lower quartile: slow moments of a machine say nothing of a kernel."""
        return low(self.rounds)

    @property
    def noise(self) -> float:
        """The distance of the quartile to the median as a part of it."""
        return max(NOISE_FLOOR, spread(self.rounds))


def low(times: Sequence[float]) -> float:
    """The lower quartile."""
    return quantiles(times, n=4, method="inclusive")[0] if len(times) > 1 else times[0]


def spread(times: Sequence[float]) -> float:
    """The distance of the lower quartile to the median as a part of the former."""
    return float(np.median(times)) / max(low(times), 1e-9) - 1


@dataclass(frozen=True)
class Wrong:
    """Results that are not the reference's, or a status that is no success."""

    reason: str


Outcome: TypeAlias = Timed | Wrong


class PlaceLost(Exception):
    """A place died, hangs or does not answer; the trial says nothing then."""


class NotFree(PlaceLost):
    """No device was free in time; one may come later."""


class Place(Protocol):
    """Somewhere where kernels are tried, by one trial at a time."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def machine(self) -> str:
        """See `machine.machine_name`."""
        ...

    def open(self) -> None:
        """Be ready for a trial; called before each. Raises PlaceLost and NotFree."""
        ...

    def run(self, trial: Trial) -> list[Outcome]:
        """One outcome per subject. Raises PlaceLost."""
        ...

    def close(self) -> None:
        """Leave it; from any thread, even while it runs."""
        ...


def differing(expected: tuple[Array, ...], found: tuple[Array, ...]) -> str:
    """How outputs differ from those of the reference; "" where they do not."""
    for number, (wanted, given) in enumerate(zip(expected, found, strict=True)):
        if not np.array_equal(wanted, given, equal_nan=wanted.dtype.kind == "f"):
            return f"output {number} differs from the reference"
    return ""


class Loaded(Protocol):
    """A kernel where it can be run."""

    def wrong(self) -> str:
        """What is wrong with the results of a run; "" where nothing is."""
        ...

    def round(self) -> float:
        """Mean nanoseconds of the runs of a round."""
        ...


def in_turns(loaded: Sequence[Loaded], rounds: int) -> list[Outcome]:
    """Time the kernels whose results are right, in turns."""
    reasons = [each.wrong() for each in loaded]
    collected: list[list[float]] = [[] for _ in loaded]
    for _ in range(rounds):
        for each, reason, times in zip(loaded, reasons, collected, strict=True):
            if not reason:
                times.append(each.round())
    return [Wrong(reason) if reason else Timed(tuple(times)) for reason, times in zip(reasons, collected, strict=True)]
