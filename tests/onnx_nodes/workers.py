"""Cases run in processes of their own: a crash or a hang ends a worker, never the run.

A worker imports the compiler once and then takes case after case. After a crash the case is run once more in a fresh
worker: what crashes there too is its own doing, otherwise an earlier case of the worker damaged it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from threading import local

from tests.onnx_nodes.cases import Case
from tests.onnx_nodes.outcomes import Kind, Outcome, outcome

# importing TVM
_START_SECONDS = 120.0
_SPAWN = multiprocessing.get_context("spawn")


Run = Callable[[Case], Outcome]


def outcomes(cases: Sequence[Case], *, workers: int = 1, run: Run = outcome) -> Iterator[tuple[Case, Outcome]]:
    """Every case and how it ended, in order."""
    pool = Workers(run)
    with pool.open(), ThreadPoolExecutor(workers) as threads:
        yield from zip(cases, threads.map(pool.run, cases), strict=True)


class Workers:
    """One worker process for each thread that calls `run`; run: what it does with a case."""

    def __init__(self, run: Run = outcome) -> None:
        self._run = run
        self._mine = local()
        self._started: list[Worker] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Workers live until the end of the block."""
        try:
            yield
        finally:
            for worker in self._started:
                worker.stop()

    def run(self, case: Case) -> Outcome:
        """How a case ends; a crash is tried again in a fresh process."""
        result = self._once(case)
        if result.kind != Kind.CRASH:
            return result
        again = self._once(case)
        return again if again.kind == Kind.CRASH else Outcome(Kind.CRASH, f"after earlier cases only: {result.reason}")

    def _once(self, case: Case) -> Outcome:
        worker: Worker | None = getattr(self._mine, "worker", None)
        if worker is None or not worker.alive:
            self._mine.worker = worker = Worker(self._run)
            self._started.append(worker)
        return worker.run(case)


class Worker:
    """A process that runs cases until one of them ends it."""

    def __init__(self, run: Run) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process: SpawnProcess = _SPAWN.Process(target=_serve, args=(theirs, run))
        self._process.start()
        theirs.close()
        if not self._pipe.poll(_START_SECONDS) or self._pipe.recv() != "ready":
            raise RuntimeError("a worker process does not start")

    @property
    def alive(self) -> bool:
        """Whether it can take another case."""
        return self._process.is_alive()

    def run(self, case: Case) -> Outcome:
        """How the case ended, be it with the process."""
        self._pipe.send(case)
        try:
            if self._pipe.poll(case.seconds):
                result: Outcome = self._pipe.recv()
                return result
        except EOFError:
            self._process.join()
            return Outcome(Kind.CRASH, f"the process ended with status {self._process.exitcode}")
        self.stop()
        return Outcome(Kind.HANG, f"no result after {case.seconds:g} s")

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, run: Run) -> None:
    pipe.send("ready")
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(run(pipe.recv()))
