"""Python processes that call functions for this one, and may die or hang without hurting it."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TypeVar

from qcompiler.errors import QCompilerError

T = TypeVar("T")
# seconds to start and import what functions need; chosen
START_SECONDS = 60.0


class ChildLost(Exception):
    """The process died or did not answer in time; the next question starts another one."""


class Child:
    """Started at the first question, and again after its death. Its questions come from one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._closed = False

    def ask(self, function: Callable[..., T], *arguments: object, seconds: float) -> T:
        """The result of a function of a module, which may raise what can be pickled.

        Raises ChildLost where the process dies or does not answer within `seconds`; it is killed then.
        """
        connection = self._connection or self._start()
        try:
            connection.send((function, arguments))
            if not connection.poll(START_SECONDS) or connection.recv() is not None or not connection.poll(seconds):
                raise ChildLost(f"no answer within {seconds:.0f} s")
            done, value = connection.recv()
        except (EOFError, OSError):
            reason = self._death()
            self.end()
            raise ChildLost(reason) from None
        except BaseException:
            # after a question without an answer nothing more can be asked
            self.end()
            raise
        if done:
            result: T = value
            return result
        raise value

    def close(self) -> None:
        """End the process, even while it is asked."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _start(self) -> Connection:
        with self._lock:
            if self._closed:
                raise ChildLost("it was ended")
            ours, theirs = socket.socketpair()
            command = [sys.executable, "-m", "qcompiler.child_program", str(theirs.fileno())]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            with theirs:
                try:
                    # interrupts are for this process to handle
                    self._process = subprocess.Popen(
                        command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL,
                        start_new_session=True,
                    )  # fmt: skip
                except OSError as error:
                    ours.close()
                    raise QCompilerError(f"cannot start a process ({error.strerror})") from error
            self._connection = Connection(ours.detach())
            return self._connection

    def _death(self) -> str:
        """How the process ended."""
        process = self._process
        if process is None:
            return "it was ended"
        try:
            status = process.wait(1)
        except subprocess.TimeoutExpired:
            return "it closed the connection"
        return f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def end(self) -> None:
        """End the process; the next question starts another one. Called by who asks."""
        with self._lock:
            process, self._process = self._process, None
            connection, self._connection = self._connection, None
        if process is not None:
            process.kill()
            process.wait()
        if connection is not None:
            connection.close()


class Children:
    """As many processes as are asked at the same time, kept for later questions until this process ends.

    Those of a parent process are forgotten after a fork.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[int, list[Child]] = {}

    def ask(self, function: Callable[..., T], *arguments: object, seconds: float) -> T:
        """See `Child.ask`; from any thread."""
        with self._borrowed() as child:
            return child.ask(function, *arguments, seconds=seconds)

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[Child]:
        with self._lock:
            idle = self._idle.setdefault(os.getpid(), [])
            child = idle.pop() if idle else Child()
        try:
            yield child
        finally:
            # one that was lost starts again at its next question
            with self._lock:
                idle.append(child)
            atexit.unregister(self._end)
            atexit.register(self._end)

    def _end(self) -> None:
        for child in self._idle.get(os.getpid(), []):
            child.end()
