"""Records of tuning, and the lines of a file that hold them: written exactly, read with distrust."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, NoReturn, TypeAlias

from qcompiler.targets.tuned import TEMPLATES

FORMAT = 1
MAX_LINE = 2048
"""Bytes of a line; chosen: a record takes 400."""

# characters of a text, and the longest time; chosen
_MAX_TEXT = 200
_MAX_NANOSECONDS = 1e13
_MAX_COUNT = 1_000_000


class Unreadable(ValueError):
    """A line that is no record: why."""


class OtherVersion(ValueError):
    """A record that another version wrote: of what."""


@dataclass(frozen=True)
class KernelRecord:
    """A kernel was timed for a problem, its results equal to the reference's.

    kernel: its name. problem: `problem_key`; label: the problem for people; widths: as "w1a4". machine: `machine_name`;
    variant: the instruction set. nanoseconds: of a run of all work items on one thread; noise: the spread of the rounds
    as a part of it; expected: what the machine model said. rounds: in how many it was timed. template: `TEMPLATES`.
    """

    kind: ClassVar[str] = "kernel"

    kernel: str
    problem: str
    label: str
    widths: str
    machine: str
    variant: str
    nanoseconds: float
    noise: float
    expected: float
    rounds: int
    template: int = TEMPLATES

    @property
    def key(self) -> tuple[str, ...]:
        """What two records of the same thing share."""
        return (self.kind, self.machine, self.variant, self.problem, self.kernel)


@dataclass(frozen=True)
class NetworkRecord:
    """A whole network was timed with its default kernels and with tuned ones, in turns.

    network: a digest of its problems. choice: what was fastest, one of CHOICES. threads: with which it was so.
    nanoseconds: of a run so; default_nanoseconds: on one thread with default kernels.
    """

    kind: ClassVar[str] = "network"

    network: str
    label: str
    choice: str
    threads: int
    machine: str
    variant: str
    nanoseconds: float
    default_nanoseconds: float
    rounds: int
    template: int = TEMPLATES

    @property
    def key(self) -> tuple[str, ...]:
        """What two records of the same thing share."""
        return (self.kind, self.machine, self.variant, self.network)


ALL, KERNELS, DEFAULTS = "all", "kernels", "defaults"
CHOICES = (ALL, KERNELS, DEFAULTS)
"""What of the records of kernels a network takes: kernels and storages, kernels in the default storages, or nothing."""

Record: TypeAlias = KernelRecord | NetworkRecord
_KINDS: dict[str, type[KernelRecord] | type[NetworkRecord]] = {
    each.kind: each for each in (KernelRecord, NetworkRecord)
}


def line_of(record: Record) -> bytes:
    """A record as a line of JSON, its end included."""
    content = {"format": FORMAT, "kind": record.kind, **asdict(record)}
    return json.dumps(content, allow_nan=False, separators=(", ", ": ")).encode() + b"\n"


def parse(line: bytes) -> Record:
    """The record in a line. Raises Unreadable or OtherVersion."""
    if len(line) > MAX_LINE:
        raise Unreadable(f"longer than {MAX_LINE} bytes")
    try:
        content = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Unreadable("not JSON") from None
    if not isinstance(content, dict):
        raise Unreadable("not an object")
    if content.pop("format", None) != FORMAT:
        raise OtherVersion("format")
    kind = content.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise Unreadable("of no known kind")
    return _checked(_KINDS[kind], content)


def _checked(kind: type[KernelRecord] | type[NetworkRecord], content: dict[str, Any]) -> Record:
    """A record whose every field is there, of its type and within its bounds."""
    wanted = {field.name: str(field.type) for field in fields(kind)}
    if content.keys() != wanted.keys():
        raise Unreadable("without the fields of its kind")
    for name, what in wanted.items():
        if not _FITS[what](content[name]):
            raise Unreadable(f"with a bad {name}")
    if content["template"] != TEMPLATES:
        raise OtherVersion("template")
    if content.get("choice", ALL) not in CHOICES:
        raise Unreadable("with a bad choice")
    return kind(**content)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and value.isprintable()


def _is_time(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # no NaN is between them
    return number and 0 <= value <= _MAX_NANOSECONDS


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_COUNT


_FITS = {"str": _is_text, "float": _is_time, "int": _is_count}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
