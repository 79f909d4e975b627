"""A file of tuning records, one on each line: appended by any number of writers, read whatever it holds.

Of records of the same thing that with more rounds counts, then the faster one. So the order of lines does not matter,
and files are merged by joining them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.errors import InvalidData, QCompilerError, UsageError
from qcompiler.targets.tuned import Tuned
from qcompiler.tuning.record import KernelRecord, NetworkRecord, OtherVersion, Record, Unreadable, line_of, parse

MAX_BYTES = 256 * 2**20
"""Of a file; chosen: more than half a million records."""

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True)
class Database:
    """Records of a file, one of each thing, and notes on lines that were skipped, for people."""

    records: tuple[Record, ...] = ()
    notes: tuple[str, ...] = ()

    def machines(self, variant: str) -> Counter[str]:
        """How many kernel records of a variant each machine has."""
        return Counter(each.machine for each in self.kernels() if each.variant == variant)

    def machine_for(self, variant: str, here: str) -> str | None:
        """The machine whose records of a variant count: this one, else that with the most, else None."""
        found = self.machines(variant)
        if here in found:
            return here
        return min(found, key=lambda name: (-found[name], name), default=None)

    def kernels(self) -> Iterator[KernelRecord]:
        """The records of kernels."""
        return (each for each in self.records if isinstance(each, KernelRecord))

    def network(self, digest: str, variant: str, machine: str) -> NetworkRecord | None:
        """What is known of a network on a machine."""
        wanted = (NetworkRecord.kind, machine, variant, digest)
        return next((each for each in self.records if isinstance(each, NetworkRecord) and each.key == wanted), None)

    def tuned(self, variants: Iterable[str], here: str, without: Container[str] = ()) -> Tuned:
        """The times of kernels for the chooser: of each variant those of one machine, see `machine_for`.

        Where kernels were timed again beside each other, those times count alone. without: keys of problems to leave
        out.
        """
        machines = {variant: self.machine_for(variant, here) for variant in variants}
        found: dict[tuple[str, str], list[KernelRecord]] = {}
        for each in self.kernels():
            if machines.get(each.variant) == each.machine and each.problem not in without:
                found.setdefault((each.variant, each.problem), []).append(each)
        return Tuned({key: _most_rounds(records) for key, records in found.items()})


def _most_rounds(records: Sequence[KernelRecord]) -> dict[str, float]:
    most = max(each.rounds for each in records)
    return {each.kernel: each.nanoseconds for each in records if each.rounds == most}


def read(path: Path) -> Database:
    """The records of a file, which nobody trusts.

    Raises UsageError where it cannot be read, InvalidData where it is larger than any database.
    """
    try:
        descriptor = os.open(path, _OPEN)
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}", remedy="name a file that qtune wrote") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UsageError(f"cannot read '{path}': no regular file", remedy="name a file that qtune wrote")
    with open(descriptor, "rb") as file:
        if status.st_size > MAX_BYTES:
            raise InvalidData(f"'{path}' has {status.st_size} bytes, expected at most {MAX_BYTES}", remedy="split it")
        content = file.read(MAX_BYTES)
    return _database(path, content.split(b"\n"))


def _database(path: Path, lines: Sequence[bytes]) -> Database:
    found: dict[tuple[str, ...], Record] = {}
    bad: list[tuple[int, str]] = []
    others: Counter[str] = Counter()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = parse(line)
        except Unreadable as reason:
            bad.append((number, str(reason)))
        except OtherVersion as what:
            others[str(what)] += 1
        else:
            known = found.get(record.key)
            found[record.key] = record if known is None else better(known, record)
    return Database(tuple(found.values()), (*_skipped(path, bad), *_ignored(path, others)))


def better(one: Record, other: Record) -> Record:
    """Of two records of the same thing the one that counts, in whatever order they come."""
    return min(one, other, key=lambda each: (-each.rounds, each.nanoseconds, line_of(each)))


def _skipped(path: Path, bad: Sequence[tuple[int, str]]) -> Iterator[str]:
    if bad:
        number, reason = bad[0]
        lines = "1 line is" if len(bad) == 1 else f"{len(bad)} lines are"
        yield f"'{path}': {lines} skipped (line {number} is {reason})"


def _ignored(path: Path, others: Counter[str]) -> Iterator[str]:
    for what, count in sorted(others.items()):
        records = "1 record" if count == 1 else f"{count} records"
        yield f"'{path}': {records} of another {what} version ignored; tune again to replace them"


def append(path: Path, records: Sequence[Record]) -> None:
    """Add records at the end of a file, which is made where there is none: all of them or none.

    Writers wait for each other. A line that somebody left without its end is ended first. Raises QCompilerError where
    the disk is full, UsageError where the file cannot be written.
    """
    if not records:
        return
    lines = b"".join(map(line_of, records))
    try:
        with open(
            os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0
        ) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _write(file.fileno(), lines)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "make room and tune again: what it holds is kept and not repeated"
            raise QCompilerError(f"no space left for '{path}'", remedy=remedy) from None
        raise UsageError(f"cannot write '{path}': {error.strerror}", remedy="choose a writable place") from None


def _write(descriptor: int, lines: bytes) -> None:
    """Lines behind what is there; nothing of them stays where they do not fit."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        lines = b"\n" + lines
    try:
        rest = lines
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
