"""Files that are replaced whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from qcompiler.errors import UsageError

RESUME = "make room or choose another output, then go on with --resume: the file before it is intact"


def write_atomically(path: Path, write: Callable[[BinaryIO], object], remedy: str = RESUME) -> None:
    """Replace `path` by what `write` puts into a file opened for it.

    The bytes reach the disk under another name in the same directory before the rename, so that whatever stops the
    process or the disk, `path` is either the old file or the whole new one. Raises UsageError with `remedy` where it
    cannot be written, as where there is no such directory.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        _write_through(partial, write)
        os.replace(partial, path)
        _flush_directory(path.parent)
    except BaseException as error:
        _remove(partial)
        cause = _system_error(error)
        if cause is None:
            raise
        raise UsageError(f"cannot write '{path}': {cause.strerror or cause}", remedy=remedy) from error


def _write_through(path: Path, write: Callable[[BinaryIO], object]) -> None:
    with open(path, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # the error that brought us here says more
        return


def _system_error(error: BaseException) -> OSError | None:
    """The failure of the disk behind an error; torch.save replaces it with a RuntimeError of its own."""
    if isinstance(error, OSError):
        return error
    context = error.__context__
    return context if isinstance(error, RuntimeError) and isinstance(context, OSError) else None
