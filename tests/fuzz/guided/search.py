"""The search itself, in a process of its own: atheris feeds files and watches which lines of qcompiler they reach.

Faults that are exceptions are kept, and the search goes on; a crash, a hang or too much memory ends the process, and
libFuzzer leaves the file behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.guided.mutations import mutated

# address space of the process
_MOST_BYTES = 6 * 2**30
_EVERY = 200
_KEPT = 64


def main(findings: Path, arguments: list[str]) -> None:
    """Never returns; arguments: those of libFuzzer."""
    import atheris

    with atheris.instrument_imports(include=["qcompiler"]):
        from tests.fuzz.guided import trial

    # what asks for more fails, and is found
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    log = _Log(findings)
    path = Path(tempfile.mkdtemp(prefix="qcompiler-guided-", dir=_memory())) / "model.onnx"

    def one(content: bytes) -> None:
        path.write_bytes(content)
        log.add(content, trial.tried(path))

    recent: list[bytes] = []

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.05:
            return bytes(atheris.Mutate(content, most))
        if len(recent) < _KEPT:
            recent.append(content)
        else:
            recent[random.randrange(_KEPT)] = content
        result = mutated(content, random.choices(recent, k=2), random)
        return result if len(result) <= most else content

    atheris.Setup([sys.argv[0], *arguments], one, custom_mutator=mutate)
    atheris.Fuzz()


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class _Log:
    """Counts, and one file of every kind of fault."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"counts-{os.getpid()}.json"
        self._counts: dict[str, Any] = {"inputs": 0, "refused": 0, "seconds": 0.0, "kilobytes": 0, "faults": {}}

    def add(self, content: bytes, trial: Any) -> None:
        """Note how a file came out."""
        counts = self._counts
        counts["inputs"] += 1
        counts["refused"] += trial.refused
        slower = trial.seconds > counts["seconds"] + 0.25
        counts["seconds"] = max(counts["seconds"], trial.seconds)
        counts["kilobytes"] = trial.kilobytes
        if slower:
            (self._folder / f"slowest-{os.getpid()}.onnx").write_bytes(content)
        if trial.fault:
            counts["faults"][trial.fault] = counts["faults"].get(trial.fault, 0) + 1
            self._keep(content, trial)
        if trial.fault or counts["inputs"] % _EVERY == 0:
            self._file.write_text(json.dumps(counts), encoding="utf-8")

    def _keep(self, content: bytes, trial: Any) -> None:
        """The smallest file of the kind."""
        path = self._folder / f"fault-{hashlib.sha256(trial.fault.encode()).hexdigest()[:12]}.onnx"
        if path.exists() and path.stat().st_size <= len(content):
            return
        path.write_bytes(content)
        path.with_suffix(".txt").write_text(f"{trial.fault}\n{trial.detail}\n", encoding="utf-8", errors="replace")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(Path(sys.argv[1]), sys.argv[2:])
