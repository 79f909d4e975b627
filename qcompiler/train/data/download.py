"""Downloads from the data sets' own sites into the user's cache, believed only with the right checksum."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch

from qcompiler.errors import InvalidData, QCompilerError


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
    get = pooch.HTTPDownloader(timeout=30, progressbar=sys.stderr.isatty())
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
            f"cannot download '{remote.url}' ({error})",
            remedy=f"give a directory that holds it with --data-dir, or put it into '{directory}'",
        ) from error
    return Path(path)
