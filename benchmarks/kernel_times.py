"""Times kernels of layers, and keeps each in a file at once, so that a run that was stopped goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from benchmarks.layers import Offer, Shape, Widths, label_of, label_of_widths, random_constants
from qcompiler.targets.target import Variant
from qcompiler.targets.tuned import problem_key
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from qcompiler.tuning.database import append, read
from qcompiler.tuning.machine import here
from qcompiler.tuning.record import KernelRecord

ROUNDS = 9
# nanoseconds of a round at least, and runs in it; chosen
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
            lower, middle = np.quantile(rounds, (0.25, 0.5)).tolist()
            lines.append(
                KernelRecord(
                    offer.kernel.name, problem_key(offer.problem), label_of(shape), label_of_widths(widths),
                    self._machine, variant.name, lower, middle / lower - 1, offer.kernel.cost, len(rounds),
                )
            )  # fmt: skip
            self._known[self._key(variant, offer)] = lower
        append(self.path, lines)
        return [self._known[self._key(variant, offer)] for offer in offers]

    def _key(self, variant: Variant, offer: Offer) -> tuple[str, str, str]:
        return variant.name, problem_key(offer.problem), offer.kernel.name


def timed(variant: Variant, offers: Sequence[Offer]) -> list[list[float]]:
    """Nanoseconds of each kernel in every round; they take turns, so that a slow moment hits all alike."""
    rng = np.random.default_rng(0)
    runs = []
    for offer in offers:
        problem = offer.problem
        runner = KernelRunner(offer.kernel, variant, random_constants(problem, rng))
        x, outputs = aligned(np.zeros(problem.x.storage_shape, problem.x.dtype)), empty_outputs(problem)
        runs.append((runner, runner.bind(x, [], outputs), x, outputs))
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for (runner, pointers, _, _), collected in zip(runs, times, strict=True):
            runner.call(pointers, 0, runner.items)
            repeats, begin = 0, perf_counter_ns()
            while repeats < _RUNS or perf_counter_ns() - begin < _ROUND:
                runner.call(pointers, 0, runner.items)
                repeats += 1
            collected.append((perf_counter_ns() - begin) / repeats)
    return times
