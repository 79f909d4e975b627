"""Calling a function in a fork of this process, whose crash or hanging is a result like any other."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Ended(Exception):
    """The process ended before it gave a result; the message says how."""


def call(function: Callable[[], T], seconds: int) -> T:
    """What `function` gives, computed in a fork that ends by SIGALRM after `seconds`. Raises Ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(function, seconds, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        content = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise Ended(signal.Signals(os.WTERMSIG(status)).name)
    if os.WEXITSTATUS(status):
        raise Ended(f"exit status {os.WEXITSTATUS(status)}")
    result: T = pickle.loads(content)
    return result


def _answer(function: Callable[[], T], seconds: int, writing: int) -> None:
    """Never returns: the fork must not go on with what its parent does."""
    status = 1
    try:
        _start_afresh()
        signal.alarm(seconds)
        content = pickle.dumps(function())
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(content)
        status = 0
    finally:
        os._exit(status)


def _start_afresh() -> None:
    """Signals end the process as they would without TVM, and nothing that native code prints reaches the terminal."""
    for number in (signal.SIGALRM, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL):
        signal.signal(number, signal.SIG_DFL)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
