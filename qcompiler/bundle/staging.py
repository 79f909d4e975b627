"""Directories and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from qcompiler.bundle import manifest
from qcompiler.errors import InvalidBundle, QCompilerError, UsageError
from qcompiler.place import REMEDY, check_parent


@contextlib.contextmanager
def new_directory(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary directory beside `path` that takes its name when the body ends, and vanishes when it fails.

    An existing `path` must be an empty directory, or with `force` a bundle with nothing else in it, which is replaced.
    Raises UsageError where `path` cannot be written, QCompilerError where the disk is full.
    """
    check_free(path, force=force)
    with _explained(path):
        staged = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.absolute().parent))
        try:
            yield staged
            staged.chmod(0o777 & ~_umask())
            _take_place(staged, path)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary file name beside `path` that replaces it when the body ends, and vanishes when it fails."""
    with _explained(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.absolute().parent)
        os.close(handle)
        staged = Path(name)
        try:
            yield staged
            staged.chmod(0o666 & ~_umask())
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)


def check_free(path: Path, *, force: bool = False) -> None:
    """Raise UsageError, before any work is done, where `new_directory` would refuse `path`."""
    if not path.name:
        raise UsageError(f"output '{path}' has no name of its own", remedy="name a new directory")
    check_parent(path)
    if not path.is_symlink() and not path.exists():
        return
    if path.is_symlink() or not path.is_dir():
        raise UsageError(f"output '{path}' exists and is not a directory", remedy="choose another name")
    present = {entry.name for entry in path.iterdir()}
    if not present:
        return
    if not present <= _bundle_files(path):
        raise UsageError(f"output '{path}' exists and holds other files", remedy="choose another directory")
    if not force:
        raise UsageError(
            f"output '{path}' is a bundle already",
            remedy="replace it with --force (force=True), or choose another name",
        )


def _bundle_files(path: Path) -> set[str]:
    """Names that a bundle at `path` is made of; none where there is no bundle."""
    try:
        listed = manifest.decode((path / manifest.FILE_NAME).read_bytes()).files
    except (OSError, InvalidBundle):
        return set()
    return {*listed, manifest.FILE_NAME}


def _take_place(staged: Path, path: Path) -> None:
    if not path.exists():
        staged.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.absolute().parent))
    try:
        path.rename(old / path.name)
        try:
            staged.rename(path)
        except BaseException:
            (old / path.name).rename(path)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise QCompilerError(f"no space left to write '{path}'", remedy="free some disk space") from error
        reason = error.strerror or str(error)
        raise UsageError(f"cannot write '{path}': {reason}", remedy=REMEDY) from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
