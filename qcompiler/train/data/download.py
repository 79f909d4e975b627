"""Downloads from the data sets' own sites into the user's cache, believed only with the right checksum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from qcompiler.errors import InvalidData, QCompilerError

CHUNK = 2**16


@dataclass(frozen=True)
class Remote:
    """A published file: `checksum` is algorithm:hexadecimal digest, `size` is in bytes."""

    url: str
    checksum: str
    size: int

    @property
    def name(self) -> str:
        """Its file name."""
        return self.url.rpartition("/")[2]

    def matches(self, path: Path) -> bool:
        """Whether a file is this one."""
        algorithm, _, digest = self.checksum.partition(":")
        return path.stat().st_size == self.size and pooch.file_hash(str(path), alg=algorithm) == digest


def fetch(directory: str, remotes: Sequence[Remote]) -> list[Path]:
    """The files in `directory` of the user's cache, downloaded where they are not there yet.

    pooch writes to a temporary file first, so that an interrupt leaves nothing half-written under the name.
    Raises InvalidData for a download with another checksum, and QCompilerError where a site cannot be reached.
    """
    return [_fetch(Path(pooch.os_cache("qcompiler")) / directory, remote) for remote in remotes]


def _fetch(directory: Path, remote: Remote) -> Path:
    bar = _Bar(remote)
    get = pooch.HTTPDownloader(timeout=30, progressbar=bar, chunk_size=CHUNK)
    pooch.get_logger().setLevel("WARNING")
    try:
        path = pooch.retrieve(remote.url, remote.checksum, remote.name, directory, downloader=get)
    except ValueError as error:
        raise InvalidData(
            f"'{remote.url}' came truncated or changed: expected {remote.size} bytes, {remote.checksum}",
            remedy=f"try again, or put the file into '{directory}' by hand",
        ) from error
    except OSError as error:
        raise QCompilerError(
            f"cannot download '{remote.url}': {_reason(error)}",
            remedy=f"give a directory that holds it with --data-dir, or put it into '{directory}'",
        ) from error
    finally:
        bar.close()
    return Path(path)


def _reason(error: OSError) -> str:
    """Why, in a few words: the system's own behind what each layer of a download wraps around it."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    for each in reversed(causes):
        if isinstance(each, OSError) and each.strerror:
            return each.strerror if each.filename is None else f"{each.filename}: {each.strerror}"
    return str(error).partition(" for url: ")[0]


class _Bar:
    """What pooch tells of a download, shown on a terminal; it sets `total`, and starts again at the end."""

    def __init__(self, remote: Remote) -> None:
        self.total = remote.size
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(remote.name, total=remote.size)

    def update(self, size: int) -> None:
        """So many more bytes have arrived."""
        self._progress.start()
        self._progress.update(self._task, advance=size, total=self.total)

    def reset(self) -> None:
        """Begin again."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """Nothing more will arrive."""
        self._progress.stop()
