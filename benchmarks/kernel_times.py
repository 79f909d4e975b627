"""Times kernels of layers, and keeps each in a file at once, so that a run that was stopped goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from time import perf_counter_ns

import numpy as np

from benchmarks.layers import Offer, Shape, Widths, label_of, label_of_widths, random_constants
from qcompiler.targets.target import Variant
from qcompiler.targets.tuned import problem_key
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from qcompiler.tuning.database import append, read
from qcompiler.tuning.machine import here
from qcompiler.tuning.record import KernelRecord

# rounds at least and at most at each place of the stack, and the spread at which they are enough; nanoseconds of a
# round at least, and runs in it; chosen
_FEWEST, _MOST, _SPREAD = 3, 9, 0.03
_ROUND, _RUNS = 200_000, 2
# where in a line of a cache, of 64 bytes, the stack may begin, which the calling convention aligns to 16: a system
# chooses one for each process, and registers that are kept on the stack lie across two lines or not
_PLACES = 4
# arguments of 8 bytes that are passed in registers, and of which so many move the stack by 16
_IN_REGISTERS, _STEP = 6, 2


class KernelTimes:
    """Nanoseconds of kernels on this machine, those of a file (see `qcompiler.tuning.database`) and new ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._machine = here()
        records = read(path).kernels() if path.exists() else ()
        self._known = {
            (each.variant, each.problem, each.kernel): each.nanoseconds
            for each in records
            if each.machine == self._machine
        }

    def __len__(self) -> int:
        return len(self._known)

    def of(self, variant: Variant, shape: Shape, widths: Widths, offers: Sequence[Offer]) -> list[float]:
        """Of each kernel for a layer; those that the file does not have are timed beside each other."""
        new = [offer for offer in offers if self._key(variant, offer) not in self._known]
        lines = []
        for offer, run in zip(new, timed(variant, new), strict=True):
            lines.append(
                KernelRecord(
                    offer.kernel.name, problem_key(offer.problem), label_of(shape), label_of_widths(widths),
                    self._machine, variant.name, run.nanoseconds, run.spread, offer.kernel.cost, run.rounds,
                )
            )  # fmt: skip
            self._known[self._key(variant, offer)] = run.nanoseconds
        append(self.path, lines)
        return [self._known[self._key(variant, offer)] for offer in offers]

    def _key(self, variant: Variant, offer: Offer) -> tuple[str, str, str]:
        return variant.name, problem_key(offer.problem), offer.kernel.name


def timed(variant: Variant, offers: Sequence[Offer]) -> list[Run]:
    """Kernels, timed; they take turns, so that a slow moment hits all alike. Those whose rounds differ have more."""
    runs = [Run(variant, offer) for offer in offers]
    for number in range(_MOST):
        for run in runs:
            if number < _FEWEST or run.spread > _SPREAD:
                run.round()
    return runs


def beyond(arguments: int) -> list[list[int]]:
    """More arguments for a function that has so many, by which its stack begins at each place; it does not see them."""
    return [[0] * (max(0, _IN_REGISTERS - arguments) + place * _STEP) for place in range(_PLACES)]


class Run:
    """A kernel with its data, and what its rounds took at every place of the stack."""

    def __init__(self, variant: Variant, offer: Offer) -> None:
        problem = offer.problem
        self._times: list[list[float]] = [[] for _ in range(_PLACES)]
        self._runner = KernelRunner(offer.kernel, variant, random_constants(problem))
        self._data = aligned(np.zeros(problem.x.storage_shape, problem.x.dtype)), empty_outputs(problem)
        self._pointers = self._runner.bind(self._data[0], [], self._data[1])

    @property
    def nanoseconds(self) -> float:
        """The mean of all places of the stack, of the fastest round at each."""
        return mean(min(times) for times in self._times)

    @property
    def spread(self) -> float:
        """How much longer than the fastest rounds those take that are next to them."""
        return mean(sorted(times)[1] for times in self._times) / self.nanoseconds - 1

    @property
    def rounds(self) -> int:
        """At all places of the stack."""
        return sum(map(len, self._times))

    def round(self) -> None:
        """At every place of the stack, a first run that reads its data again, then those that count."""
        for moved, times in zip(beyond(len(self._pointers) + 2), self._times, strict=True):
            self._runner.call(self._pointers, 0, self._runner.items, moved)
            repeats, begin = 0, perf_counter_ns()
            while repeats < _RUNS or perf_counter_ns() - begin < _ROUND:
                self._runner.call(self._pointers, 0, self._runner.items, moved)
                repeats += 1
            times.append((perf_counter_ns() - begin) / repeats)
