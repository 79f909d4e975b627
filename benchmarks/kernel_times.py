"""Times kernels of layers, and keeps each in a file at once, so that a run that was stopped goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter_ns

import numpy as np

from benchmarks.layers import Offer, Shape, Widths, label_of, label_of_widths, random_constants
from qcompiler.targets.target import Variant
from qcompiler.targets.tuned import problem_key
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from qcompiler.tuning.database import append, read
from qcompiler.tuning.machine import here
from qcompiler.tuning.record import KernelRecord

# rounds at least and at most, and the spread at which they are enough; nanoseconds of a round at least, and runs in it;
# chosen
_FEWEST, _MOST, _SPREAD = 9, 36, 0.03
_ROUND, _RUNS = 300_000, 2


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
        for offer, rounds in zip(new, timed(variant, new), strict=True):
            nanoseconds = quartile(rounds)
            lines.append(
                KernelRecord(
                    offer.kernel.name, problem_key(offer.problem), label_of(shape), label_of_widths(widths),
                    self._machine, variant.name, nanoseconds, spread(rounds), offer.kernel.cost, len(rounds),
                )
            )  # fmt: skip
            self._known[self._key(variant, offer)] = nanoseconds
        append(self.path, lines)
        return [self._known[self._key(variant, offer)] for offer in offers]

    def _key(self, variant: Variant, offer: Offer) -> tuple[str, str, str]:
        return variant.name, problem_key(offer.problem), offer.kernel.name


def timed(variant: Variant, offers: Sequence[Offer]) -> list[list[float]]:
    """Nanoseconds of each kernel in every round; they take turns, so that a slow moment hits all alike.

    Those whose rounds differ have more of them.
    """
    runs = [_Run(variant, offer) for offer in offers]
    for number in range(_MOST):
        for run in runs:
            if number < _FEWEST or spread(run.times) > _SPREAD:
                run.round()
    return [run.times for run in runs]


def spread(times: Sequence[float]) -> float:
    """Between the lower quartile, which counts, and the median, as a part of it."""
    return median(times) / quartile(times) - 1


def quartile(times: Sequence[float]) -> float:
    """The lower one, which slow moments do not reach."""
    return sorted(times)[len(times) // 4]


class _Run:
    """A kernel with its data, and what its rounds took."""

    def __init__(self, variant: Variant, offer: Offer) -> None:
        problem = offer.problem
        self.times: list[float] = []
        self._runner = KernelRunner(offer.kernel, variant, random_constants(problem))
        self._data = aligned(np.zeros(problem.x.storage_shape, problem.x.dtype)), empty_outputs(problem)
        self._pointers = self._runner.bind(self._data[0], [], self._data[1])

    def round(self) -> None:
        """A first run that reads its data again, then those that count."""
        self._runner.call(self._pointers, 0, self._runner.items)
        repeats, begin = 0, perf_counter_ns()
        while repeats < _RUNS or perf_counter_ns() - begin < _ROUND:
            self._runner.call(self._pointers, 0, self._runner.items)
            repeats += 1
        self.times.append((perf_counter_ns() - begin) / repeats)
