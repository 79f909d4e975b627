"""How every command of qcompiler ends: an exit status, and one line for an error."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from qcompiler.errors import QCompilerError, UsageError, one_line
from qcompiler.version import NAME, version

INTERRUPTED, TERMINATED, BROKEN_PIPE = 128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGPIPE
Task = Callable[[], None]
# columns of a table in a pipe or a file, enough for the names of nodes
PLAIN_WIDTH = 160
# of mallopt(3)
_TRIM_THRESHOLD, _MMAP_MAX, _LARGEST_INT = -1, -4, 2**31 - 1


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{NAME} {version()}")
        raise typer.Exit


Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")]
Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]
"""Options of every command."""


class _Terminated(KeyboardInterrupt):
    """SIGTERM, treated as an interrupt so that nothing half-written is left."""


def _terminate(*_: object) -> NoReturn:
    raise _Terminated


def terminal() -> Console:
    """Standard output, as wide as the terminal; tables in a pipe or a file break no names."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


@contextmanager
def importing() -> Iterator[None]:
    """Imports of thousands of objects that all stay: looking for garbage among them takes a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def keep_freed_memory() -> None:
    """Reuse the memory of large arrays instead of giving each back: the system clears every page that it gives anew.

    Compiling AlexNet touches 4 GB of new pages otherwise, and 1.2 GB so. It is a setting of glibc's (mallopt(3)).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _LARGEST_INT)


def main(app: typer.Typer, name: str, kept: str = "nothing was written") -> NoReturn:
    """Run a command and leave with its exit status; without --debug no traceback reaches the user.

    A command returns the task to run, or None where it was only asked for help. `kept` is what an interrupt leaves.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        result = app(prog_name=name, standalone_mode=False)
        # Typer gives an interrupt while it reads the arguments as a status
        if result == INTERRUPTED:
            raise KeyboardInterrupt
        if callable(result):
            result()
        sys.stdout.flush()
        status = result if isinstance(result, int) else 0
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = BROKEN_PIPE
    except BaseException as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        status, message = _explain(error, name, kept)
        if message:
            print(one_line(message), file=sys.stderr)
    sys.exit(status)


def _explain(error: BaseException, name: str, kept: str) -> tuple[int, str]:
    """Exit status and one line for an error."""
    if isinstance(error, _Terminated):
        return TERMINATED, f"terminated; {kept}"
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, f"interrupted; {kept}"
    if isinstance(error, QCompilerError):
        return error.exit_code, f"error: {error}"
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1, ""
    if isinstance(error, MemoryError):
        return 1, "error: out of memory"
    if (interrupt := _interrupt_behind(error)) is not None:
        return _explain(interrupt, name, kept)
    # Typer's own errors; its classes moved between versions, their interface did not.
    text = getattr(error, "format_message", None)
    if text is not None:
        return UsageError.exit_code, f"error: {text()} (see {name} --help)"
    return 1, f"error: internal error: {type(error).__name__}: {error} (--debug shows where)"


def _interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The interrupt that another error comes from, as of a module in C that was interrupted in its import."""
    behind = error.__cause__ or error.__context__
    while behind is not None and not isinstance(behind, KeyboardInterrupt):
        behind = behind.__cause__ or behind.__context__
    return behind
