"""Time calls of one session for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MIN_RUNS = 5


@dataclass(frozen=True)
class Round:
    """Seconds per run: the median and the shortest of `runs` calls in one round."""

    median: float
    minimum: float
    runs: int


def measure(run: Callable[[], None], seconds: float) -> Round:
    """Warm up for a fifth of `seconds`, then time single calls for `seconds`."""
    end = time.perf_counter() + seconds / 5
    run()
    while time.perf_counter() < end:
        run()
    marks = [time.perf_counter_ns()]
    last = marks[0] + int(seconds * 1e9)
    while marks[-1] < last or len(marks) <= MIN_RUNS:
        run()
        marks.append(time.perf_counter_ns())
    times = np.diff(marks) * 1e-9
    return Round(float(np.median(times)), float(times.min()), len(times))


def median_sample(sample: Callable[[], float], seconds: float = 0.15) -> float:
    """The median of what `sample` returns, called for `seconds` of which the first third only warms up."""
    started = time.perf_counter()
    samples: list[float] = []
    while not samples or time.perf_counter() < started + seconds:
        value = sample()
        if time.perf_counter() > started + seconds / 3:
            samples.append(value)
    return float(np.median(samples))
