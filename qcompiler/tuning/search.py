"""Which kernels of a task are tried, in which order, and when enough of them were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qcompiler.targets.choose import choices
from qcompiler.targets.measured import family_and_tile
from qcompiler.targets.target import Kernel
from qcompiler.tuning.record import KernelRecord
from qcompiler.tuning.task import Task

FIRST_ROUNDS, FINAL_ROUNDS = 5, 25
"""In which a kernel is timed alone, and beside the other best ones. Chosen."""

FINALISTS = 4
_CLOSE = 0.1
# of the best: how much slower a finalist may have been at first


@dataclass(frozen=True, eq=False)
class Candidate:
    """A kernel for a task; expected: nanoseconds by the machine model."""

    task: Task
    kernel: Kernel
    expected: float

    @property
    def key(self) -> tuple[str, str]:
        """The problem and the kernel."""
        return self.task.key, self.kernel.name


Known = Mapping[tuple[str, str], KernelRecord]
"""What was measured before, by `Candidate.key`."""


@dataclass
class Search:
    """The kernels of tasks of which only the fastest is of use.

    trials: how many kernels are tried at most. Not to be changed by several threads at the same time.
    """

    tasks: Sequence[Task]
    trials: int
    known: Known
    waiting: list[Candidate] = field(init=False)
    times: dict[Candidate, tuple[float, float, int]] = field(init=False, default_factory=dict)
    running: set[Candidate] = field(init=False, default_factory=set)
    decided: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.waiting = _ordered(self.tasks)[: self.trials]
        self.offered = len(self.waiting)
        for candidate in list(self.waiting):
            record = self.known.get(candidate.key)
            if record is not None:
                self.waiting.remove(candidate)
                self.add(candidate, record.nanoseconds, record.noise, record.rounds)

    @property
    def label(self) -> str:
        """The first task for people."""
        return self.tasks[0].label

    @property
    def best(self) -> Candidate | None:
        """The fastest of those that were timed in most rounds."""
        if not self.times:
            return None
        most = max(rounds for _, _, rounds in self.times.values())
        return min((each for each in self.times if self.times[each][2] == most), key=lambda each: self.times[each][0])

    @property
    def done(self) -> bool:
        """Whether nothing is left to try."""
        return not self.running and not self.next_candidates(take=False)

    def add(self, candidate: Candidate, nanoseconds: float, noise: float, rounds: int) -> None:
        """What was measured."""
        self.running.discard(candidate)
        self.times[candidate] = (nanoseconds, noise, rounds)
        self.decided |= rounds >= FINAL_ROUNDS

    def drop(self, candidate: Candidate) -> None:
        """A candidate that cannot be tried, or is wrong."""
        self.running.discard(candidate)
        self.times.pop(candidate, None)
        self.waiting = [each for each in self.waiting if each is not candidate]

    def next_candidates(self, *, take: bool = True) -> tuple[Candidate, ...]:
        """Whom to try now: one of those that wait, or the finalists in turns when none does; empty for none."""
        self._prune()
        found = tuple(self.waiting[:1])
        if not found and not self.running and not self.decided:
            found = self._finalists()
        if take:
            self.waiting = self.waiting[1:]
            self.running.update(found)
        return found

    def _prune(self) -> None:
        """Forget who would not win even if the model were as wrong about him as about the luckiest one."""
        if self.times:
            fastest, noise, _ = min(self.times.values())
            lucky = min(1.0, *(self.times[each][0] / each.expected for each in self.times))
            self.waiting = [each for each in self.waiting if each.expected * lucky < fastest * (1 - noise)]

    def _finalists(self) -> tuple[Candidate, ...]:
        """Those that noise does not tell from the best one; none where it stands alone."""
        ordered = sorted(self.times, key=lambda each: self.times[each][0])
        limit = self.times[ordered[0]][0] * (1 + max(_CLOSE, self.times[ordered[0]][1])) if ordered else 0
        close = tuple(each for each in ordered[:FINALISTS] if self.times[each][0] <= limit)
        return close if len(close) > 1 else ()


def _ordered(tasks: Sequence[Task]) -> list[Candidate]:
    """The kernels of tasks by what is expected, the best of every family before the others."""
    found = [
        Candidate(task, each.kernel, each.nanoseconds) for task in tasks for each in choices(task.variant, task.problem)
    ]
    found.sort(key=lambda candidate: candidate.expected)
    seen: set[tuple[str, str]] = set()
    first: list[Candidate] = []
    others: list[Candidate] = []
    for candidate in found:
        family = candidate.task.key, family_and_tile(candidate.kernel.name)[0]
        (others if family in seen else first).append(candidate)
        seen.add(family)
    return first + others
