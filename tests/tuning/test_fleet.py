"""Trials spread over places: nothing is measured twice, and what dies, hangs or lies spoils nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from qcompiler.ir.codes import BINARY
from qcompiler.ir.storage import Buffer
from qcompiler.targets import x86
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Constants
from qcompiler.tuning import fleet, search
from qcompiler.tuning.fleet import Fleet
from qcompiler.tuning.record import KernelRecord
from qcompiler.tuning.search import FIRST_ROUNDS, Candidate, Search
from qcompiler.tuning.task import Task
from qcompiler.tuning.trial import NotFree, Outcome, PlaceLost, Timed, Trial, Wrong

(BASELINE,) = x86.TARGET.variants(("baseline",))
NOTHING = Constants()


def task(channels: int) -> Task:
    x = Buffer(1, 6, 6, channels, BINARY)
    problem = Conv2d(x, 16, (1, 1), epilogue=(Operation("store", into=Buffer(1, 6, 6, 16, "float32")),))
    return Task(BASELINE, problem, NOTHING, BINARY, f"layer{channels}", 1)


class Plain:
    """Makes trials of nothing, but of the right rounds."""

    def trial(self, candidates: Sequence[Candidate], rounds: int) -> Trial:
        return Trial((), rounds)


class Sleeping:
    """A place that takes its time, and gives what is expected of a kernel; behaviour: what it does instead."""

    machine = "test/1"

    def __init__(self, name: str, seconds: float = 0.002, behaviour: str = "") -> None:
        self.name, self.seconds, self.behaviour = name, seconds, behaviour
        self.closed = threading.Event()
        self.trials = 0

    def open(self) -> None:
        if self.behaviour == "gone":
            self.closed.wait(self.seconds)
            raise NotFree("no answer within 0 s")
        if self.behaviour == "opens slowly":
            time.sleep(0.02)

    def run(self, trial: Trial) -> list[Outcome]:
        self.trials += 1
        if self.behaviour == "dies" and self.trials > 2:
            raise PlaceLost("died of SIGKILL")
        time.sleep(self.seconds)
        if self.behaviour == "wrong":
            return [Wrong("output 0 differs from the reference")]
        count = 1 if trial.rounds == FIRST_ROUNDS else search.FINALISTS
        mean = {"impossible": 1e-3, "slow": 1e12}.get(self.behaviour, 1e5)
        return [Timed((mean,) * trial.rounds)] * count

    def close(self) -> None:
        self.closed.set()


class Notes:
    def __init__(self) -> None:
        self.measured_by: dict[tuple[str, str], list[str]] = {}
        self.losses: list[tuple[str, str]] = []
        self.drops: list[str] = []

    def measured(self, candidate: Candidate, timed: Timed, place: str) -> None:
        self.measured_by.setdefault(candidate.key, []).append(place)

    def dropped(self, candidate: Candidate, reason: str) -> None:
        self.drops.append(reason)

    def lost(self, place: str, reason: str) -> None:
        self.losses.append((place, reason))


@pytest.fixture(autouse=True)
def _all_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pruning, no finals, rounds as short as the places sleep."""
    monkeypatch.setattr(Search, "_prune", lambda self: None)
    monkeypatch.setattr(Search, "_finalists", lambda self: ())
    monkeypatch.setattr(fleet, "ROUND_NANOSECONDS", 1000)


def run(places: Sequence[Sleeping], tasks: int = 20) -> tuple[Fleet, list[KernelRecord], Notes]:
    records: list[KernelRecord] = []
    notes = Notes()
    made = Fleet([Search([task(32 * n)], 100, {}) for n in range(1, tasks + 1)], places, Plain(), records.append, notes)
    made.run()
    return made, records, notes


def test_every_candidate_is_measured_once() -> None:
    made, records, notes = run([Sleeping(f"d{n}") for n in range(3)])
    assert made.left == 0 and len(records) == len({(r.problem, r.kernel) for r in records}) > 20
    assert all(len(places) == 1 for places in notes.measured_by.values()) and not notes.losses


def test_a_place_that_dies_is_given_up_and_others_do_its_work() -> None:
    alone, _, _ = run([Sleeping("a")])
    made, records, notes = run([Sleeping("a"), Sleeping("b"), Sleeping("c", behaviour="dies")])
    assert made.left == 0 and not notes.drops
    assert len(records) == sum(len(each.times) for each in alone.searches)
    assert notes.losses[-1][0] == "c" and "set aside: failed 3 times in a row" in notes.losses[-1][1]
    assert all(len(places) == 1 for places in notes.measured_by.values())


@pytest.mark.parametrize("behaviour", ["wrong", "impossible", "slow"])
def test_a_place_that_lies_is_set_aside_and_nothing_of_it_is_kept(behaviour: str) -> None:
    made, records, notes = run([Sleeping("honest"), Sleeping("liar", behaviour=behaviour)])
    assert made.left == 0 and not notes.drops
    assert {place for places in notes.measured_by.values() for place in places} == {"honest"}
    assert all(record.nanoseconds == 1e5 for record in records)
    assert any(place == "liar" and "set aside: gave wrong results or times" in reason for place, reason in notes.losses)


def test_a_kernel_that_is_wrong_everywhere_is_left_out_and_no_place_is_blamed() -> None:
    made, records, notes = run([Sleeping(name, behaviour="wrong") for name in "ab"], tasks=1)
    assert not records and notes.drops and set(notes.drops) == {"output 0 differs from the reference"}
    assert not any("set aside" in reason for _, reason in notes.losses)


@pytest.mark.parametrize("behaviour", ["", "opens slowly"])
def test_no_kernel_waits_for_places_without_a_device(behaviour: str) -> None:
    waiting = [Sleeping("b", seconds=3600, behaviour="gone"), Sleeping("c", seconds=1e-3, behaviour="gone")]
    made, records, notes = run([Sleeping("a", behaviour=behaviour), *waiting])
    assert made.left == 0 and records and not notes.drops
    assert not any(place == "c" and "set aside" in reason for place, reason in notes.losses)
    made, records, notes = run(waiting[1:])
    assert made.left > 0 and not records and notes.losses[-1][1] == "set aside: failed 3 times in a row"


class Interrupting:
    """Interrupts the run when it is called for the last time."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_an_interrupt_at_any_moment_loses_nothing_and_repeats_nothing() -> None:
    """The first run stops after so many beats, the next ones go on."""
    whole, wanted, _ = run([Sleeping("a")])
    records: list[KernelRecord] = []
    beats = iter([1, 2, 3, 5, 8, 10_000])
    done = False
    while not done:
        beat = Interrupting(next(beats))

        known = {(record.problem, record.kernel): record for record in records}
        searches = [Search([task(32 * n)], 100, known) for n in range(1, 21)]
        places = [Sleeping("a"), Sleeping("b")]
        try:
            Fleet(searches, places, Plain(), records.append, Notes()).run(beat, 0.01)
            done = True
        except KeyboardInterrupt:
            assert all(place.closed.is_set() for place in places)
    keys = [(record.problem, record.kernel) for record in records]
    assert len(keys) == len(set(keys)) and set(keys) == {(r.problem, r.kernel) for r in wanted}


def test_without_a_place_it_ends_and_says_what_is_left() -> None:
    made, records, _ = run([Sleeping("a", behaviour="dies")], tasks=30)
    assert made.left > 0 and len(records) == 2


def test_what_is_known_is_not_measured_again() -> None:
    _, records, _ = run([Sleeping("a")], tasks=1)
    known = {(record.problem, record.kernel): record for record in records}
    place, notes = Sleeping("b"), Notes()
    Fleet([Search([task(32)], 100, known)], [place], Plain(), records.append, notes).run()
    assert place.trials == 0


@pytest.mark.slow
def test_a_hundred_devices_are_busy() -> None:
    """Every kernel takes half a second, and nothing else counts as work: not that a thread waits for a processor."""
    places = [Sleeping(f"d{n}", seconds=0.5) for n in range(100)]
    records: list[KernelRecord] = []
    searches = [Search([task(32 * n)], 100, {}) for n in range(1, 1001)]
    started, used = time.perf_counter(), time.process_time()
    Fleet(searches, places, Plain(), records.append, Notes()).run()
    seconds, used = time.perf_counter() - started, time.process_time() - used
    busy = len(records) * 0.5 / (len(places) * seconds)
    print(f"{len(records)} kernels in {seconds:.2f} s, {used:.2f} s of a processor; busy {busy:.0%}")
    assert len(records) == 2000 and busy > 0.9


def test_an_error_of_the_database_ends_all() -> None:
    def full(record: KernelRecord) -> None:
        raise OSError(28, "No space left on device")

    places = [Sleeping("a"), Sleeping("b")]
    with pytest.raises(OSError, match="No space left"):
        Fleet([Search([task(32)], 100, {})], places, Plain(), full, Notes()).run()
    assert all(place.closed.is_set() for place in places)
