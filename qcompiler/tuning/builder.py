"""Makes trials of candidates: compiles kernels in processes of their own, and keeps the data of tasks."""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from qcompiler.child import Child, ChildLost
from qcompiler.errors import QCompilerError
from qcompiler.ir.program import Items
from qcompiler.targets.problem import outputs_of, tensors_of
from qcompiler.tuning.build import library
from qcompiler.tuning.search import Candidate
from qcompiler.tuning.task import Data, Task, data_of
from qcompiler.tuning.trial import Subject, Trial

# seconds for a kernel to be compiled; chosen
BUILD_SECONDS = 120.0


class Builder:
    """Compiles so many kernels at the same time; to be closed after use."""

    def __init__(self, processes: int = 1) -> None:
        self._lock = threading.Lock()
        self._children = [Child() for _ in range(processes)]
        self._idle: queue.SimpleQueue[tuple[Child, Path]] = queue.SimpleQueue()
        self._folder = tempfile.TemporaryDirectory(prefix="qcompiler-")
        for number, child in enumerate(self._children):
            folder = Path(self._folder.name) / str(number)
            folder.mkdir()
            self._idle.put((child, folder))
        self._data: dict[Task, Data] = {}
        self._subjects: dict[Candidate, Subject] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.close()
        self._folder.cleanup()

    def trial(self, candidates: Sequence[Candidate], rounds: int) -> Trial:
        """A trial of candidates. Raises QCompilerError where a kernel cannot be made."""
        return Trial(tuple(self._subject(candidate) for candidate in candidates), rounds)

    def _subject(self, candidate: Candidate) -> Subject:
        if candidate not in self._subjects:
            task, kernel = candidate.task, candidate.kernel
            with self._lock:
                if task not in self._data:
                    self._data[task] = data_of(task)
            data, constants = self._data[task], tuple(kernel.pack(task.constants))
            count = 1 + len(constants) + len(tensors_of(task.problem)) + len(outputs_of(task.problem))
            assert isinstance(kernel.launch, Items)
            made, items = self._library(candidate, count), kernel.launch.count
            self._subjects[candidate] = Subject(made, constants, items, data.x, data.tensors, data.expected)
        return self._subjects[candidate]

    def _library(self, candidate: Candidate, pointers: int) -> Path:
        child, folder = self._idle.get()
        try:
            name, variant = f"k{id(candidate)}", candidate.task.variant
            return child.ask(library, candidate.kernel, variant, pointers, folder, name, seconds=BUILD_SECONDS)
        except ChildLost as lost:
            raise QCompilerError(f"no code for kernel {candidate.kernel.name} (the compiler {lost})") from None
        except QCompilerError:
            raise
        except Exception as error:
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise QCompilerError(f"no code for kernel {candidate.kernel.name} ({line})") from error
        finally:
            self._idle.put((child, folder))
