"""Whether a file can be written where it is asked for, found out before any work is done."""

from __future__ import annotations

import tempfile
from pathlib import Path

from qcompiler.errors import UsageError

REMEDY = "choose a writable place"


def check_file(path: Path) -> None:
    """Raise UsageError where no file can be written at `path`: its directory must be there; nothing is left behind."""
    if path.is_dir():
        raise UsageError(f"cannot write '{path}': it is a directory", remedy="name a file")
    check_parent(path)


def check_parent(path: Path) -> None:
    """Raise UsageError where nothing can be made beside `path`."""
    _check_writable(path.absolute().parent, path)


def check_directory(path: Path) -> None:
    """Raise UsageError where no directory `path` with files in it can be made; missing parents are no obstacle."""
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    _check_writable(there, path)


def _check_writable(directory: Path, wanted: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UsageError(f"cannot write '{wanted}': {error.strerror or error}", remedy=REMEDY) from error
