"""Spreads trials over places: each does one at a time, and what one place cannot do another one does."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from qcompiler.errors import QCompilerError
from qcompiler.tuning.here import ROUND_NANOSECONDS
from qcompiler.tuning.record import KernelRecord
from qcompiler.tuning.search import FINAL_ROUNDS, FIRST_ROUNDS, Candidate, Search
from qcompiler.tuning.trial import NotFree, Outcome, Place, PlaceLost, Timed, Trial, Wrong

# no machine is so much faster than the model of it; chosen
IMPOSSIBLE = 20.0
# how often a trial is tried, and how often in a row a place may fail; chosen
MOST_ATTEMPTS = MOST_LOSSES = 3


class Watch(Protocol):
    """Is told what happens, by one thread at a time."""

    def measured(self, candidate: Candidate, timed: Timed, place: str) -> None:
        """A kernel was timed and its results are right."""
        ...

    def dropped(self, candidate: Candidate, reason: str) -> None:
        """A kernel cannot be tried, or is wrong everywhere."""
        ...

    def lost(self, place: str, reason: str) -> None:
        """A place failed, or was set aside."""
        ...


@dataclass
class Status:
    """A place for people: what it does, and how much it did. busy: seconds in trials."""

    name: str
    doing: str = ""
    trials: int = 0
    busy: float = 0.0
    gone: str = ""


class Builds(Protocol):
    """Makes trials of candidates; see `builder.Builder`."""

    def trial(self, candidates: Sequence[Candidate], rounds: int) -> Trial:
        """Called by several threads. Raises QCompilerError where a kernel cannot be made."""
        ...


@dataclass
class _Job:
    """Candidates of a search that are tried together; lost: where that failed; wrong: where results were."""

    search: Search
    candidates: tuple[Candidate, ...]
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """One alone is timed shortly, several are told apart."""
        return FIRST_ROUNDS if len(self.candidates) == 1 else FINAL_ROUNDS


class Fleet:
    """Tries all candidates of searches on all places.

    keep: is given each record at once. A place that fails is asked again, and given up after MOST_LOSSES times in a
    row; one for which no device is free waits for one as long as others work. A kernel whose results are wrong at one
    place is tried at another one; where they are right there, the first place is set aside. Times that cannot be are
    treated as wrong results.
    """

    def __init__(
        self,
        searches: Sequence[Search],
        places: Sequence[Place],
        builder: Builds,
        keep: Callable[[KernelRecord], None],
        watch: Watch,
    ) -> None:
        self.searches = searches
        self.status = {place: Status(place.name) for place in places}
        self._builder = builder
        self._keep = keep
        self._watch = watch
        # reentrant: a place is set aside while its outcome is sorted out
        self._changed = threading.Condition(threading.RLock())
        self._unfinished = list(searches)
        self._again: list[_Job] = []
        self._active = 0
        # places that did not fail when they were opened last
        self._able = set(places)
        self._started = time.monotonic()
        self._stopped = False
        self._error: BaseException | None = None

    def run(self, beat: Callable[[], None] = lambda: None, seconds: float = 0.1) -> None:
        """Return when nothing is left to try, or no place is left; beat: is called every so many seconds.

        Raises what `keep` raises. An interrupt ends all places.
        """
        threads = [threading.Thread(target=self._serve, args=(place,), daemon=True) for place in self.status]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(seconds)
                    beat()
        finally:
            self._stop()
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise self._error

    @property
    def left(self) -> int:
        """Candidates that wait or run."""
        return sum(len(search.waiting) + len(search.running) for search in self.searches)

    @property
    def seconds_left(self) -> float | None:
        """Until nothing is left, at most, if trials go on as they did; None before the first one has ended."""
        trials = sum(status.trials for status in self.status.values())
        return self.left * (time.monotonic() - self._started) / trials if trials else None

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for place in self.status:
            place.close()

    def _serve(self, place: Place) -> None:
        """Do jobs at a place until none is left."""
        losses = 0
        try:
            while losses < MOST_LOSSES and not self._stopped:
                if (lost := self._open(place)) is not None:
                    losses += lost
                elif (job := self._take(place)) is None:
                    break
                else:
                    losses = 0 if self._do(job, place) else losses + 1
            if losses == MOST_LOSSES:
                self._set_aside(place, f"failed {losses} times in a row")
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
                self._stopped = True
        finally:
            place.close()
            with self._changed:
                self._able.discard(place)
                self._changed.notify_all()

    def _open(self, place: Place) -> int | None:
        """None where a place is ready, else as how many losses that counts: none while others do the work.

        No job waits for a place that is not ready.
        """
        try:
            place.open()
        except PlaceLost as lost:
            with self._changed:
                self._able.discard(place)
                free = isinstance(lost, NotFree) and bool(self._able)
                self.status[place].doing = "waits for a device"
                if not self._stopped and not free:
                    self._watch.lost(place.name, str(lost))
            return 0 if free else 1
        with self._changed:
            self._able.add(place)
        return None

    def _take(self, place: Place) -> _Job | None:
        """The next job for a place; waits while others may still give one back."""
        with self._changed:
            while not self._stopped and not self.status[place].gone:
                job = self._next(place)
                if job is not None:
                    self._active += 1
                    self.status[place].doing = job.candidates[0].kernel.name
                    return job
                if not self._active and not self._again:
                    # others may be waiting for a device
                    self._stop()
                    return None
                self.status[place].doing = ""
                self._changed.wait(1.0)
            return None

    def _next(self, place: Place) -> _Job | None:
        for job in self._again:
            if place.name not in (*job.lost, *job.wrong) or self._alone(place):
                self._again.remove(job)
                return job
        for search in list(self._unfinished):
            candidates = search.next_candidates()
            if candidates:
                return _Job(search, candidates)
            if not search.running:
                self._unfinished.remove(search)
        return None

    def _alone(self, place: Place) -> bool:
        return all(other is place or status.gone for other, status in self.status.items())

    def _do(self, job: _Job, place: Place) -> bool:
        """Whether the place did the job."""
        try:
            trial = self._builder.trial(job.candidates, job.rounds)
        except QCompilerError as error:
            with self._finished(job):
                self._drop(job, str(error))
            return True
        started = time.perf_counter()
        try:
            outcomes = place.run(trial)
        except PlaceLost as lost:
            with self._finished(job):
                self._lost(job, place, str(lost))
            return False
        seconds = time.perf_counter() - started
        with self._finished(job):
            status = self.status[place]
            status.name, status.trials, status.busy = place.name, status.trials + 1, status.busy + seconds
            found = [impossible(c, o, seconds) or o for c, o in zip(job.candidates, outcomes, strict=True)]
            self._sort_out(job, place, found)
        return True

    @contextlib.contextmanager
    def _finished(self, job: _Job) -> Iterator[None]:
        with self._changed:
            try:
                yield
            finally:
                self._active -= 1
                self._changed.notify_all()

    def _sort_out(self, job: _Job, place: Place, found: Sequence[Outcome]) -> None:
        """Keep what was measured; what is wrong is tried elsewhere, or given up."""
        bad = next((each for each in found if isinstance(each, Wrong)), None)
        if bad is not None:
            job.wrong.append(place.name)
            if len(set(job.wrong)) > 1 or self._alone(place):
                self._drop(job, bad.reason)
            else:
                self._watch.lost(place.name, f"{job.candidates[0].kernel.name}: {bad.reason}; tried elsewhere")
                self._again.append(job)
            return
        for candidate, timed in zip(job.candidates, found, strict=True):
            assert isinstance(timed, Timed)
            self._keep(record_of(candidate, timed, place.machine))
            job.search.add(candidate, timed.nanoseconds, timed.noise, len(timed.rounds))
            self._watch.measured(candidate, timed, place.name)
        wrong = self.status.items() if job.wrong else ()
        for liar in [each for each, status in wrong if status.name in job.wrong and not status.gone]:
            self._set_aside(liar, "gave wrong results or times where another one gave right ones")

    def _lost(self, job: _Job, place: Place, reason: str) -> None:
        """A place failed at a job, which is tried again."""
        self.status[place].name = place.name
        job.lost.append(place.name)
        self._watch.lost(place.name, reason)
        if len(job.lost) >= min(MOST_ATTEMPTS, 1 + len(self.status)):
            self._drop(job, reason)
        else:
            self._again.append(job)

    def _drop(self, job: _Job, reason: str) -> None:
        for candidate in job.candidates:
            # finalists were timed before, and stay so
            if len(job.candidates) == 1:
                job.search.drop(candidate)
                self._watch.dropped(candidate, reason)
            job.search.running.discard(candidate)
        job.search.decided |= len(job.candidates) > 1

    def _set_aside(self, place: Place, reason: str) -> None:
        with self._changed:
            self.status[place].gone = reason
            self._watch.lost(place.name, f"set aside: {reason}")
            self._changed.notify_all()


def impossible(candidate: Candidate, outcome: Outcome, seconds: float) -> Wrong | None:
    """What is wrong with times that a place claims; seconds: how long the trial took by the clock here."""
    if isinstance(outcome, Wrong):
        return None
    if not all(0 < each < seconds * 1e9 for each in outcome.rounds):
        return Wrong("claims times longer than the trial took")
    if candidate.task.problem.macs and outcome.nanoseconds * IMPOSSIBLE < candidate.kernel.cost:
        return Wrong(f"claims {outcome.nanoseconds:.0f} ns, expected {candidate.kernel.cost:.0f}")
    if seconds * 1e9 < len(outcome.rounds) * ROUND_NANOSECONDS:
        return Wrong("answered before the rounds can have ended")
    return None


def record_of(candidate: Candidate, timed: Timed, machine: str) -> KernelRecord:
    """What is kept of a measurement."""
    task = candidate.task
    return KernelRecord(
        candidate.kernel.name, task.key, task.label, task.widths, machine, task.variant.name,
        round(timed.nanoseconds, 1), round(timed.noise, 4), round(candidate.expected, 1), len(timed.rounds),
    )  # fmt: skip
