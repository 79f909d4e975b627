"""Programs that run at the same time, none of which outlives the call.

Each leads a process group, so that what it started ends with it: a compiler driver starts others.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

Process = subprocess.Popen[str]
Done = subprocess.CompletedProcess[str]


def run_all(commands: Sequence[Sequence[str]], folder: Path) -> list[Done]:
    """Run all commands in `folder` side by side, and wait for all; an exception or an interrupt ends them all.

    Their temporary files lie in `folder` too.
    """
    with contextlib.ExitStack() as started:
        with _undisturbed():
            processes = [started.enter_context(_running(command, folder)) for command in commands]
        return [_finished(process) for process in processes]


@contextlib.contextmanager
def _running(command: Sequence[str], folder: Path) -> Iterator[Process]:
    """The process, which is over when the context is left."""
    pipe, environment = subprocess.PIPE, {**os.environ, "TMPDIR": str(folder.absolute())}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True, errors="replace", process_group=0
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _finished(process: Process) -> Done:
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Interrupts come when this is over: one in the middle of a start would leave a process that nobody knows."""
    waiting: list[int] = []

    def wait(number: int, _: FrameType | None) -> None:
        waiting.append(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Python runs handlers in the main thread alone; what is ignored stays so for the programs, too
    handled = [number for number, handler in before.items() if callable(handler)]
    if threading.current_thread() is not threading.main_thread():
        handled = []
    try:
        for number in handled:
            signal.signal(number, wait)
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
        for late in waiting:
            signal.raise_signal(late)
