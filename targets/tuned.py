"""What was measured of kernels for exactly a problem, which overrules what is expected of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

from qcompiler.targets.problem import Problem

TEMPLATES = 1
"""Version of all kernels: raised where the code of kernels changes so that times measured before say nothing."""

_KEY_DIGITS = 32


@lru_cache(maxsize=4096)
def problem_key(problem: Problem) -> str:
    """A name of a problem for files: the start of the SHA-256 of its text, which holds every field."""
    return hashlib.sha256(repr(problem).encode()).hexdigest()[:_KEY_DIGITS]


class Tuned:
    """Measured nanoseconds on one thread, by (variant, `problem_key`) and name of the kernel.

    strangers: kernels that were recorded for problems that came up, but are none that the variant offers.
    """

    def __init__(self, times: Mapping[tuple[str, str], Mapping[str, float]] | None = None) -> None:
        self._times = times or {}
        self.strangers: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._times)

    def nanoseconds(self, variant: str, problem: Problem, offered: Iterable[str]) -> dict[str, float]:
        """The times of those of the kernels on offer that were measured."""
        if not self._times:
            return {}
        recorded = self._times.get((variant, problem_key(problem)), {})
        known = {name: recorded[name] for name in offered if name in recorded}
        self.strangers |= recorded.keys() - known.keys()
        return known


UNTUNED = Tuned()
"""Nothing was measured."""
