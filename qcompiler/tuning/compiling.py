"""Tuning as part of a compile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qcompiler.errors import UsageError
from qcompiler.place import check_file
from qcompiler.targets.target import Variant
from qcompiler.targets.tuned import UNTUNED, Tuned
from qcompiler.tuning.database import read
from qcompiler.tuning.fleet import Fleet
from qcompiler.tuning.here import Here
from qcompiler.tuning.machine import here
from qcompiler.tuning.search import Candidate
from qcompiler.tuning.session import Network, Tuner, applied, here_variant
from qcompiler.tuning.trial import Timed

__all__ = ["MOST_TRIALS", "Network", "check", "check_trials", "for_compile"]
MOST_TRIALS = 10_000


def check_trials(option: str, trials: int) -> None:
    """Raise UsageError where no search can try so many kernels."""
    if not 1 <= trials <= MOST_TRIALS:
        raise UsageError(f"{option} {trials}: expected 1 to {MOST_TRIALS}")


def check(trials: int | None, path: Path | None, variants: Sequence[Variant]) -> None:
    """Find out at once what is wrong with the options of a compile. Raises UsageError or InvalidData."""
    if trials is not None:
        check_trials("--tune", trials)
        here_variant(variants)
    if path is not None and trials is None:
        read(path)
    elif path is not None:
        check_file(path)


def for_compile(
    network: Network, trials: int | None, path: Path | None, threads: int, say: Callable[[str], None]
) -> Tuned:
    """The times of kernels that a compile goes by: measured now, if trials are asked for, and those of a file."""
    if trials is None and path is None:
        return UNTUNED
    with _file(path) as file:
        if trials is not None:
            say("timing kernels")
            watch = _Saying(say)
            tuner = Tuner(network, here_variant(network.variants), file, trials, watch, _silent)
            tuner.kernels(lambda: [Here()], here())
            say(f"{watch.count} kernels timed; timing whole networks")
            for each in tuner.whole(here()):
                say(f"{each.choice} on {each.threads} threads: {each.seconds * 1e6:.1f} µs")
        found = applied(network, file)
    for note in found.notes:
        say(note)
    if found.threads not in (None, threads):
        say(f"the network was fastest on {found.threads} threads: --threads {found.threads} makes that the default")
    return found.tuned


@contextmanager
def _file(path: Path | None) -> Iterator[Path]:
    """The user's file, or one for this compile alone."""
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="qcompiler-") as folder:
        yield Path(folder) / "tuning.jsonl"


def _silent(fleet: Fleet) -> None:
    """Nothing to show meanwhile."""


class _Saying:
    """Counts what was measured, and says what went wrong; see `fleet.Watch`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.count = 0

    def measured(self, candidate: Candidate, timed: Timed, place: str) -> None:
        self.count += 1

    def dropped(self, candidate: Candidate, reason: str) -> None:
        self._say(f"kernel {candidate.kernel.name} is left out: {reason}")

    def lost(self, place: str, reason: str) -> None:
        self._say(f"{place}: {reason}")
