"""The file of records: what is written is read, nothing else is believed, and writers do not hurt each other."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from qcompiler.errors import InvalidData, QCompilerError, UsageError
from qcompiler.tuning import database
from qcompiler.tuning.database import append, read
from qcompiler.tuning.record import KernelRecord, NetworkRecord, line_of

RECORD = KernelRecord("xnor_p4b2", "0" * 32, "3x3 64-64", "w1a1", "x86_64/A.1", "avx2", 1234.5, 0.01, 1100.0, 9)
NETWORK = NetworkRecord("f" * 32, "net", "kernels", 2, "x86_64/A.1", "avx2", 1e6, 2e6, 15)


def line(**changed: Any) -> bytes:
    return json.dumps(json.loads(line_of(RECORD)) | changed).encode() + b"\n"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "db"
    append(path, [RECORD])
    append(path, [NETWORK, replace(RECORD, kernel="other")])
    found = read(path)
    assert set(found.records) == {RECORD, NETWORK, replace(RECORD, kernel="other")} and not found.notes
    assert found.network(NETWORK.network, "avx2", "x86_64/A.1") == NETWORK
    assert found.network(NETWORK.network, "avx2", "x86_64/B.1") is None


HOSTILE = {
    "not JSON": [b"{", b"\xff\xfe", b"[" * 1500, b'{"format": NaN}', b"nul\0", b'{"format": 1, "kind": Infinity}'],
    "not an object": [b"3", b"[]", b'"x"', b"null"],
    "of no known kind": [line(kind="x"), line(kind=[1]), line(kind=None)],
    "without the fields of its kind": [line(more=1), b'{"format": 1, "kind": "kernel"}'],
    "longer than 2048 bytes": [b" " * 3000 + b"x", line(label="x" * 2048)],
    "with a bad nanoseconds": [line(nanoseconds=n) for n in (-1, 1e300, "1", True, None, [1], 10**400)],
    "with a bad label": [line(label=t) for t in ("", "a\x1b[31m", "x" * 201, 5, {})],
    "with a bad rounds": [line(rounds=n) for n in (0, -3, 1.5, 10**9, True)],
}


@pytest.mark.parametrize(("reason", "bad"), [(why, text) for why, texts in HOSTILE.items() for text in texts])
def test_hostile_lines_are_reported_and_skipped(reason: str, bad: bytes, tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(line_of(RECORD) + bad.rstrip(b"\n") + b"\n" + line_of(NETWORK))
    found = read(path)
    assert set(found.records) == {RECORD, NETWORK}
    assert found.notes == (f"'{path}': 1 line is skipped (line 2 is {reason})",)


def test_a_network_chooses_among_two(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(line_of(NETWORK).replace(b'"choice": "kernels"', b'"choice": "import os"'))
    assert read(path).notes == (f"'{path}': 1 line is skipped (line 1 is with a bad choice)",)


def test_every_cut_of_a_file_keeps_all_whole_lines(tmp_path: Path) -> None:
    path, content = tmp_path / "db", line_of(RECORD) + line_of(NETWORK)
    first = len(line_of(RECORD))
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        assert read(path).records == ((RECORD,) if size >= first - 1 else ())
        append(path, [replace(RECORD, kernel="later")])
        assert replace(RECORD, kernel="later") in read(path).records


def test_any_bytes_are_read_without_an_error(tmp_path: Path) -> None:
    path, chance = tmp_path / "db", random.Random(0)
    content = bytearray(line_of(RECORD) * 20)
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(chance.randrange(1, 40)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        assert all(asdict(each) for each in read(path).records)


@pytest.mark.parametrize("what", ["format", "template"])
def test_records_of_other_versions_are_ignored_with_a_notice(what: str, tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(line_of(RECORD) + line(**{what: 99}) * 2)
    assert read(path).records == (RECORD,)
    assert read(path).notes == (f"'{path}': 2 records of another {what} version ignored; tune again to replace them",)


def test_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    same = [replace(RECORD, nanoseconds=float(n), rounds=r) for n, r in ((5, 9), (9, 20), (7, 20), (1, 9))]
    one.write_bytes(b"".join(map(line_of, same)))
    other.write_bytes(b"".join(map(line_of, reversed(same))))
    assert read(one).records == read(other).records == (same[2],)


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="cannot read '.*none': No such file"):
        read(tmp_path / "none")
    with pytest.raises(UsageError, match="cannot read .*: no regular file"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="no regular file"):
        read(tmp_path / "pipe")
    monkeypatch.setattr(database, "MAX_BYTES", 10)
    append(tmp_path / "large", [RECORD])
    with pytest.raises(InvalidData, match="bytes, expected at most 10; split it"):
        read(tmp_path / "large")


def _write(path: Path, writer: int) -> None:
    for number in range(100):
        append(path, [replace(RECORD, kernel=f"k{writer}_{number}"), replace(RECORD, kernel=f"l{writer}_{number}")])


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "db"
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=_write, args=(path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = read(path)
    assert not found.notes and len(found.records) == 600


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "db"
    append(path, [RECORD])
    before, write = path.read_bytes(), os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 300:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:200])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(QCompilerError, match="no space left for '.*db'; make room and tune again"):
        append(path, [NETWORK])
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write .*: No such file or directory; choose a writable place"):
        append(tmp_path / "no" / "db", [RECORD])


def test_records_of_this_machine_count_else_those_of_the_one_with_most(tmp_path: Path) -> None:
    path = tmp_path / "db"
    others = [replace(RECORD, machine="x86_64/B.1", kernel=f"k{n}") for n in range(3)]
    append(path, [RECORD, *others])
    assert read(path).machine_for("avx2", "x86_64/A.1") == "x86_64/A.1"
    assert read(path).machine_for("avx2", "x86_64/C.1") == "x86_64/B.1"
    assert read(path).machine_for("neon", "x86_64/C.1") is None
