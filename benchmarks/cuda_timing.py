"""Time of work that is started on a device and waited for."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def median(start: Callable[[], object], wait: Callable[[], object], seconds: float, together: int = 10) -> float:
    """Median seconds of what `start` starts, of which `together` are waited for at once."""
    start()
    wait()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        begun = time.perf_counter()
        for _ in range(together):
            start()
        wait()
        found.append((time.perf_counter() - begun) / together)
    return float(np.median(found))
