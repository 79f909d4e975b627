"""The process in which a bundle's code runs for verification: requests, answers, and how it may die."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Sequence

from qcompiler.bundle.guarded import GuardedMemory
from qcompiler.errors import QCompilerError

_ANSWER = re.compile(r"(status|fault|trap|wrote|late) (-?\d+) (.*)\n")
DOES_NOT_END = "does not end"
# seconds for a worker that has answered to end; chosen
_LAST_WORDS = 10.0


class Misbehaved(Exception):
    """What code did that no code may do, as the end of a sentence about a step."""


class Worker:
    """A program such as that of c/isolated.c on a guarded memory; started when needed, and after its death.

    command: how to run it, with the file and its layout. seconds: how long a request may take.
    """

    def __init__(self, command: Sequence[str], memory: GuardedMemory, seconds: int) -> None:
        self._command = tuple(command)
        self._memory = memory
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None

    def request(self, variant: int, threads: int, first: int, last: int) -> tuple[int, str]:
        """Run the steps first .. last - 1; the library's status and its text.

        Raises Misbehaved where the code dies, hangs, or changes a byte that is not its own.
        """
        line = self._ask(f"{variant} {threads} {first} {last} {int(self._memory.at_start)} {self._seconds}\n")
        answer = _ANSWER.fullmatch(line)
        if answer is None:
            raise Misbehaved(_death(self._end(_LAST_WORDS)))
        if answer[1] != "status":
            self._end(_LAST_WORDS)
            raise Misbehaved(self._deed(answer))
        if touched := self._memory.touched():
            raise Misbehaved(f"writes {touched}")
        return int(answer[2]), answer[3]

    def _deed(self, answer: re.Match[str]) -> str:
        """What the code did, where it did not just end."""
        kind, number, rest = answer.groups()
        if kind == "late":
            return DOES_NOT_END
        if kind == "trap":
            return f"traps ({rest})"
        if kind == "wrote":
            return f"writes {self._memory.describe(int(rest))}"
        where = f", touching {self._memory.describe(int(rest))}" if rest != "-1" else ""
        # a board knows no signals
        return f"{f'dies of {signal.Signals(int(number)).name}' if number != '0' else 'faults'}{where}"

    def close(self) -> None:
        """End the process."""
        self._end(0)

    def _ask(self, request: str) -> str:
        """Send a request; the answer's line, empty where the process ended without one."""
        process = self._process = self._process or self._launch()
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(request)
            process.stdin.flush()
        return process.stdout.readline()

    def _launch(self) -> subprocess.Popen[str]:
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        keep = (self._memory.descriptor,)
        try:
            return subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, stderr=nothing, text=True, errors="replace", pass_fds=keep
            )
        except OSError as error:
            message = f"cannot run {self._command[0]} ({error.strerror})"
            raise QCompilerError(message, remedy="set TMPDIR to a place where programs may run") from error

    def _end(self, patience: float) -> int:
        """End the process, after `patience` seconds in which it may do so itself; its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
        process.kill()
        # closes the pipes, of which the one to a dead process may hold a request that cannot be flushed
        with contextlib.suppress(BrokenPipeError):
            process.communicate()
        return process.wait()


def _death(status: int) -> str:
    if status == -signal.SIGALRM:
        return DOES_NOT_END
    return f"dies of {signal.Signals(-status).name}" if status < 0 else f"ends its process with status {status}"
