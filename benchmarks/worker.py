"""One contestant in a process of its own: `python -m benchmarks.worker NAME THREADS`.

Commands are lines of JSON on standard input, answers lines of JSON on standard output:
{"open": ROW} makes a row of the table ready and answers the error of its output against numpy; {"measure": SECONDS}
times it; {"kernel": true} asks for the time in binary kernels. Of what an engine does not have the answer is what it
"lacks". Threads are bound to the first THREADS processors before the engine is loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from importlib import metadata
from typing import Any, TextIO

import numpy as np

from benchmarks.contestants import CONTESTANTS, Contestant, Lacking, Session
from benchmarks.network import FloatArray, evaluate
from benchmarks.workloads import is_network, workload


def relative_error(found: FloatArray, expected: FloatArray) -> float:
    """Root-mean-square difference relative to the expected values; infinite if the shapes differ or NaN appears."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


class Worker:
    """Holds the session of the current row."""

    def __init__(self, contestant: Contestant, threads: int) -> None:
        self._contestant = contestant
        self._threads = threads
        self._session: Session | None = None

    def open(self, key: str) -> dict[str, Any]:
        """Make a row ready, run it once and hold the output against numpy."""
        self._session = None
        work = workload(key, self._contestant.precision)
        expected = evaluate(work.network, work.x)[work.network.output]
        self._session = self._contestant.open(work, self._threads)
        self._session.run()
        error = relative_error(self._session.output(), expected)
        allowed = self._contestant.network_tolerance if is_network(key) else self._contestant.tolerance
        return {"error": error, "allowed": allowed, "repeats": work.repeats, "macs": work.macs}

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command."""
        if "open" in command:
            return self.open(command["open"])
        assert self._session is not None
        if "measure" in command:
            return dataclasses.asdict(self._session.measure(command["measure"]))
        return {"kernel": self._session.kernel_seconds()}


def _serve(worker: Worker, answers: TextIO) -> None:
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Lacking as missing:
            answer = {"lacks": str(missing)}
        except Exception as failure:  # noqa: BLE001 - whatever an engine raises is its result
            answer = {"failed": f"{type(failure).__name__}: {failure}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Bind, load, greet with the engine's version, serve."""
    name, threads = sys.argv[1], int(sys.argv[2])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    # engines print to standard output as they like: keep the answers apart
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    contestant = next(one for one in CONTESTANTS if one.name == name)
    version = "here"
    with contextlib.suppress(metadata.PackageNotFoundError):
        version = metadata.version(contestant.distribution)
    answers.write(json.dumps({"version": version}) + "\n")
    answers.flush()
    _serve(Worker(contestant, threads), answers)


if __name__ == "__main__":
    main()
