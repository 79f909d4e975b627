"""Programs that run at the same time: what they print, how they fail, and that none is left."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcompiler.bundle.side_by_side import run_all


def test_results_are_in_the_order_of_the_commands(tmp_path: Path) -> None:
    commands = [["sh", "-c", "sleep 0.2; echo first"], ["sh", "-c", "yes x | head -c 400000; exit 3"], ["pwd"]]
    first, second, third = run_all(commands, tmp_path)
    assert (first.stdout, first.returncode) == ("first\n", 0)
    assert (len(second.stdout), second.returncode) == (400_000, 3)
    assert third.stdout == f"{tmp_path}\n"


def test_the_commands_run_at_the_same_time(tmp_path: Path) -> None:
    """Either waits for what the other one makes."""
    meeting = "touch {0}; for i in $(seq 500); do [ -e {1} ] && exit 0; sleep 0.02; done; exit 1"
    both = run_all([["sh", "-c", meeting.format(*pair)] for pair in (("a", "b"), ("b", "a"))], tmp_path)
    assert [each.returncode for each in both] == [0, 0]


def test_a_program_that_cannot_start_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_all([["sh", "-c", "echo $$ >pid; exec sleep 60"], [str(tmp_path / "missing")]], tmp_path)
    assert not alive(tmp_path)


@pytest.mark.parametrize("seconds", [0.001, 0.01, 0.1, 0.5])
def test_an_interrupt_ends_all(tmp_path: Path, seconds: float) -> None:
    """While they start, or later; and what they have started."""
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interrupted_after(seconds):
        run_all([["sh", "-c", "echo $$ >>pid; sleep 60 & echo $! >>pid; wait"]] * 9, tmp_path)
    assert time.monotonic() - started < 30
    assert not alive(tmp_path)


@contextlib.contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """An interrupt from outside, unless the body is over by then.

    What is raised in a callback of the garbage collector (hypothesis has one) is lost: none is called.
    """

    def interrupt(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()
        signal.signal(signal.SIGALRM, before)


def alive(folder: Path) -> list[str]:
    """Those of the processes that wrote their numbers into the file "pid" that stay, as a zombie of ours, too.

    What a program has started is nobody's to wait for: it takes a moment to go.
    """
    deadline = time.monotonic() + 10
    left = (folder / "pid").read_text().split() if (folder / "pid").exists() else []
    while left and time.monotonic() < deadline:
        left = [number for number in left if is_there(Path("/proc", number, "stat"))]
        time.sleep(0.01)
    return left


def is_there(path: Path) -> bool:
    try:
        state, parent, *_ = path.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" or int(parent) == os.getpid()
