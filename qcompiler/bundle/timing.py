"""Measured times of a bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.bundle.manifest import Step

# chosen
WARM_UP_SECONDS = 0.1
WARM_UP_RUNS = 3
MIN_RUNS = 10
MAX_RUNS = 1_000_000
COPIES = 5
# bytes that stay in a core's own caches, and that pass all of them on most machines; chosen
_CACHED, _IN_MEMORY = 256 * 2**10, 64 * 2**20


@dataclass(frozen=True)
class Benchmark:
    """Times of whole runs in seconds; throughput in runs per second of the wall clock."""

    runs: int
    threads: int
    minimum: float
    median: float
    p90: float
    throughput: float


@dataclass(frozen=True)
class StepTime:
    """The median time of one step, its nodes and the kernel that took it."""

    index: int
    op: str
    nodes: tuple[str, ...]
    kernel: str
    seconds: float
    macs: int


@dataclass(frozen=True)
class Profile:
    """Median times of all steps."""

    repeats: int
    threads: int
    steps: tuple[StepTime, ...]

    @property
    def seconds(self) -> float:
        """Sum over the steps."""
        return sum(step.seconds for step in self.steps)


def measure(run: Callable[[], None], seconds: float, threads: int) -> Benchmark:
    """Call `run` for a while to warm up, then for about `seconds`, and at least ten times."""
    started = time.perf_counter()
    warm = 0
    while warm < WARM_UP_RUNS or time.perf_counter() - started < min(WARM_UP_SECONDS, seconds):
        run()
        warm += 1
    marks = [time.perf_counter_ns()]
    end = marks[0] + int(seconds * 1e9)
    while (marks[-1] < end or len(marks) <= MIN_RUNS) and len(marks) <= MAX_RUNS:
        run()
        marks.append(time.perf_counter_ns())
    return benchmark_of(np.diff(np.array(marks, np.int64)).astype(np.float64) * 1e-9, threads)


def benchmark_of(times: npt.NDArray[np.float64], threads: int) -> Benchmark:
    """Sum up the times of runs one after the other, in seconds."""
    return Benchmark(
        runs=len(times),
        threads=threads,
        minimum=float(times.min()),
        median=float(np.median(times)),
        p90=float(np.quantile(times, 0.9)),
        throughput=float(len(times) / times.sum()),
    )


def copy_rate(nbytes: int) -> float:
    """Bytes per second, read and written, of copying `nbytes` on one thread: the best of a few times."""
    source, target = np.ones(nbytes, np.uint8), np.zeros(nbytes, np.uint8)
    times = []
    for _ in range(COPIES):
        started = time.perf_counter_ns()
        np.copyto(target, source)
        times.append(time.perf_counter_ns() - started)
    return 2e9 * nbytes / max(min(times), 1)


def memory_rates() -> tuple[tuple[str, float], ...]:
    """What was copied, and `copy_rate` of it on this machine."""
    return tuple((name, copy_rate(nbytes)) for name, nbytes in (("cached", _CACHED), ("in memory", _IN_MEMORY)))


def profile_of(nanoseconds: npt.NDArray[np.uint64], steps: Sequence[Step], variant: int, threads: int) -> Profile:
    """Sum up the times [repeats, steps] of a variant's steps."""
    medians = np.median(nanoseconds, axis=0) * 1e-9
    found = (
        StepTime(index, step.op, step.nodes, step.kernels[variant], float(medians[index]), step.macs)
        for index, step in enumerate(steps)
    )
    return Profile(len(nanoseconds), threads, tuple(found))
