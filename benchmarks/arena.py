"""Run contestants side by side: all are made ready, then take turns in short rounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import Contestant
from benchmarks.workloads import measures

ROOT = Path(__file__).resolve().parent.parent
# an engine's idle threads spin for a moment before they sleep
SETTLE_SECONDS = 0.02


@dataclass(frozen=True)
class Settings:
    """peers_python: interpreter of the other engines; rounds of `seconds` each per contestant and row."""

    peers_python: str = sys.executable
    rounds: int = 9
    seconds: float = 0.25


@dataclass(frozen=True)
class Result:
    """One cell of the table; times in seconds per layer of the chain, or per network.

    median: of the rounds' medians; low, high: their extremes; minimum: shortest run of all. kernel: inside binary
    kernels, by the engine's own clock. failure: why there are no times, or why they do not count.
    """

    row: str
    threads: int
    contestant: str
    precision: str
    version: str = ""
    macs: int = 0
    error: float = 0.0
    median: float | None = None
    low: float | None = None
    high: float | None = None
    minimum: float | None = None
    kernel: float | None = None
    failure: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is qcompiler's."""
        return self.contestant.startswith("qcompiler")


class _Process:
    """A worker process and the line protocol with it."""

    def __init__(self, contestant: Contestant, threads: int, python: str) -> None:
        self.contestant = contestant
        self.threads = threads
        interpreter = sys.executable if contestant.ours else python
        command = [interpreter, "-m", "benchmarks.worker", contestant.name, str(threads)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, cwd=ROOT, env=environment,
        )  # fmt: skip
        self.version = self._read().get("version", "")

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return {"failed": "the process is gone"}
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            return {"failed": f"the process ended with status {self._process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


@contextmanager
def _processes(contestants: Sequence[Contestant], threads: int, python: str) -> Iterator[list[_Process]]:
    started: list[_Process] = []
    try:
        for contestant in contestants:
            started.append(_Process(contestant, threads, python))
        yield started
    finally:
        for process in started:
            process.close()


def _opened(process: _Process, row: str) -> tuple[Result, int] | None:
    """The verified but not yet timed result, and the number of layers in the chain; None for what an engine lacks."""
    contestant = process.contestant
    result = Result(row, process.threads, contestant.name, contestant.precision, process.version)
    answer = process.ask(open=row)
    if "lacks" in answer:
        return None
    if "failed" in answer:
        return replace(result, failure=answer["failed"]), 1
    failure = ""
    if not answer["error"] <= answer["allowed"]:
        failure = f"wrong output: relative error {answer['error']:.2g}, allowed {answer['allowed']:.2g}"
    return replace(result, macs=answer["macs"], error=answer["error"], failure=failure), answer["repeats"]


@dataclass
class _Cell:
    """One contestant's row while it is being measured."""

    process: _Process
    result: Result
    repeats: int
    rounds: list[dict[str, Any]] = field(default_factory=list)
    kernels: list[float] = field(default_factory=list)

    def take_turn(self, seconds: float) -> None:
        """One round: whole runs, then the engine's own clock."""
        if self.result.failure:
            return
        time.sleep(SETTLE_SECONDS)
        answer = self.process.ask(measure=seconds)
        if "failed" in answer:
            self.result = replace(self.result, failure=answer["failed"])
            return
        self.rounds.append(answer)
        inside = self.process.ask(kernel=True).get("kernel")
        if inside:
            self.kernels.append(inside)

    def summary(self) -> Result:
        """The result with its times, if nothing failed."""
        if self.result.failure:
            return self.result
        medians = np.array([answer["median"] for answer in self.rounds]) / self.repeats
        return replace(
            self.result,
            median=float(np.median(medians)),
            low=float(medians.min()),
            high=float(medians.max()),
            minimum=min(answer["minimum"] for answer in self.rounds) / self.repeats,
            kernel=float(np.median(self.kernels)) / self.repeats if self.kernels else None,
        )


def _row(processes: Sequence[_Process], row: str, settings: Settings) -> list[Result]:
    able = [process for process in processes if measures(row, process.contestant.precision)]
    cells = [_Cell(process, *opened) for process in able if (opened := _opened(process, row)) is not None]
    for turn in range(settings.rounds):
        # each round begins with another contestant
        first = turn % max(len(cells), 1)
        for cell in cells[first:] + cells[:first]:
            cell.take_turn(settings.seconds)
    return [cell.summary() for cell in cells]


def compete(
    contestants: Sequence[Contestant],
    rows: Sequence[str],
    threads: int,
    settings: Settings,
    finished: Callable[[list[Result]], None],
) -> None:
    """Measure every row with all contestants on `threads` threads; `finished` gets the results row by row."""
    with _processes(contestants, threads, settings.peers_python) as processes:
        for row in rows:
            if results := _row(processes, row, settings):
                finished(results)
