"""Trials on devices of TVM's own tracker: servers on this machine that are killed and hang, and an emulated board."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tvm.rpc import base

from qcompiler.errors import QCompilerError, UsageError
from qcompiler.targets import arm
from qcompiler.targets.target import Constants
from qcompiler.tuning import build, database, remote
from qcompiler.tuning.builder import Builder
from qcompiler.tuning.fleet import Fleet
from qcompiler.tuning.record import KernelRecord
from qcompiler.tuning.remote import Remote, devices
from qcompiler.tuning.search import Candidate, Search
from qcompiler.tuning.task import Task
from qcompiler.tuning.trial import PlaceLost, Subject, Trial
from tests import board, lying_server, rpc
from tests.targets.emulated import missing
from tests.tuning.test_fleet import Notes, task

needs_tracker = pytest.mark.skipif(
    importlib.util.find_spec("tornado") is None, reason="TVM's tracker needs the extra fleet"
)
KEY, OTHER = "pc", "board"


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with rpc.tracker(tmp_path_factory.mktemp("tracker") / "log") as address:
        yield address


def listed(tracker: str, key: str, count: int) -> None:
    """Return when the tracker knows so many servers of a key."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if len(devices(tracker, key)) == count:
                return
        except UsageError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"never {count} servers with key {key}")


def tasks(count: int) -> list[Task]:
    return [with_weights(task(32 * (1 + number))) for number in range(count)]


def with_weights(one: Task) -> Task:
    problem = one.problem
    shape = (problem.out_channels, problem.x.c, *problem.kernel)
    return replace(one, constants=Constants(np.random.default_rng(0).choice([-1.0, 1.0], shape).astype(np.float32)))


def test_no_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        QCompilerError, match=r"no TVM RPC tracker at 127.0.0.1:\d+ \(Connection refused\); .*\[fleet\]"
    ):
        devices(f"127.0.0.1:{rpc.free_port()}", KEY)
    with pytest.raises(UsageError, match="--tracker here: expected HOST:PORT"):
        devices("here", KEY)
    monkeypatch.setattr(remote, "_TRACKER_SECONDS", 0.3)
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(QCompilerError, match=r"no TVM RPC tracker at .* \(no answer within 0 s\)"):
        devices(f"127.0.0.1:{silent.getsockname()[1]}", KEY)


MAGIC = struct.pack("<i", base.RPC_TRACKER_MAGIC)


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\0" * 64, MAGIC, MAGIC + b"\xff\xff\xff\x7f", MAGIC + b"\2\0\0\0[]", MAGIC + b"\4\0\0\0null",
        MAGIC + b"\6\0\0\0[0, 1]",
    ],
)  # fmt: skip
def test_what_is_no_tracker(answer: bytes) -> None:
    with (
        answering(answer) as address,
        pytest.raises(QCompilerError, match="no TVM RPC tracker at|, but not as a TVM RPC"),
    ):
        devices(address, KEY)


@pytest.mark.parametrize(("servers", "remedy"), [("", "start a server"), ("server:b server:a", "it has a, b")])
def test_no_device_with_the_key(servers: str, remedy: str) -> None:
    listed = [{"key": key, "addr": ["127.0.0.1", 9090]} for key in servers.split()]
    text = json.dumps([base.TrackerCode.SUCCESS, {"server_info": listed}]).encode()
    answer = MAGIC + struct.pack("<i", len(text)) + text
    with answering(answer) as address, pytest.raises(UsageError, match=f"no device with key 'pc'; {remedy}"):
        devices(address, KEY)


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Something that answers so at an address."""

    def reply() -> None:
        # the first connection only looks whether anybody listens
        with suppress(OSError):
            server.accept()[0].close()
            with server.accept()[0] as connection:
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(64):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=reply, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
@needs_tracker
def test_a_server_is_killed_and_another_hangs(tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three servers: one goes on alone, every kernel is timed once, and all results were the reference's."""
    records: list[KernelRecord] = []
    notes = Notes()
    with ExitStack() as opened, Builder() as builder:
        groups = [opened.enter_context(rpc.tracked_server(tmp_path / f"log{n}", tracker, KEY)) for n in range(3)]
        listed(tracker, KEY, 3)
        with pytest.raises(UsageError, match=f"lists no device with key 'pi'; it has {KEY}"):
            devices(tracker, "pi")
        searches = [Search([each], 8, {}) for each in tasks(5)]
        places = [Remote(tracker, KEY, "x86_64", number, patience=15) for number in range(3)]
        fleet = Fleet(searches, places, builder, records.append, notes)
        spoilt: list[str] = []

        def spoil() -> None:
            """Kill one server that has done something, then stop another one."""
            while spoilt != ["killed", "stopped"]:
                if len(records) > 2 * len(spoilt) + 1:
                    os.killpg(groups[len(spoilt)], (signal.SIGKILL, signal.SIGSTOP)[len(spoilt)])
                    spoilt.append(("killed", "stopped")[len(spoilt)])
                time.sleep(0.01)

        thread = threading.Thread(target=spoil, daemon=True)
        thread.start()
        fleet.run()
        thread.join(20)
    assert spoilt == ["killed", "stopped"] and fleet.left == 0 and not notes.drops, notes.losses
    keys = [(each.problem, each.kernel, each.rounds) for each in records]
    assert len(keys) == len(set(keys)) >= 10 and {each.machine for each in records} == {f"x86_64/{KEY}"}


@pytest.mark.slow
@needs_tracker
@pytest.mark.skipif(bool(missing("aarch64")), reason=f"missing Debian packages: {missing('aarch64')}")
@pytest.mark.skipif(bool(board.reason_to_skip()), reason=board.reason_to_skip())
def test_an_emulated_board_times_kernels_and_refuses_those_of_another_processor(tracker: str, tmp_path: Path) -> None:
    (variant,) = arm.TARGET.variants(("generic",))
    records: list[KernelRecord] = []
    notes = Notes()
    with Builder() as builder, rpc.tracked_server(tmp_path / "log", tracker, OTHER, board.PYTHON):
        listed(tracker, OTHER, 1)
        search = Search([with_weights(replace(task(64), variant=variant))], 2, {})
        Fleet([search], [Remote(tracker, OTHER, "aarch64", 1)], builder, records.append, notes).run()
        assert records and {each.machine for each in records} == {f"aarch64/{OTHER}"} and not notes.drops
        foreign = Remote(tracker, OTHER, "x86_64", 1)
        try:
            with pytest.raises(PlaceLost, match="is aarch64, the kernels are for x86_64"):
                foreign.open()
        finally:
            foreign.close()


@pytest.mark.slow
@needs_tracker
@pytest.mark.parametrize("lie", lying_server.LIES)
def test_nothing_of_a_device_that_lies_gets_into_the_database(lie: str, tracker: str, tmp_path: Path) -> None:
    """Beside an honest device and alone; both run the kernels that they are sent."""
    key, path, lone = f"lie-{lie}", tmp_path / "db", Notes()
    with ExitStack() as opened, Builder() as builder:

        def run(count: int, notes: Notes) -> Fleet:
            searches = [Search([each], 4, {}) for each in tasks(4)]
            places = [Remote(tracker, key, "x86_64", number) for number in range(count)]
            fleet = Fleet(searches, places, builder, lambda record: database.append(path, [record]), notes)
            fleet.run()
            return fleet

        liar = opened.enter_context(rpc.lying_server(tmp_path / "liar", tracker, key, lie))
        listed(tracker, key, 1)
        run(1, lone)
        assert lone.drops and not lone.measured_by and not path.exists()
        opened.enter_context(rpc.tracked_server(tmp_path / "honest", tracker, key))
        listed(tracker, key, 2)
        notes = Notes()
        fleet = run(2, notes)
    assert fleet.left == 0 and not notes.drops, notes.losses
    assert not any(liar in places for places in notes.measured_by.values())
    assert (liar, "set aside: gave wrong results or times where another one gave right ones") in notes.losses
    kept = list(database.read(path).kernels())
    assert {(each.problem, each.kernel) for each in kept} == set(notes.measured_by)
    assert all(each.expected / 20 < each.nanoseconds < 1e9 for each in kept)


SLEEPS = """
#include <stdint.h>
#include <string.h>
#include <unistd.h>
int32_t kernel(const void *x, void *out, int32_t from, int32_t to) { usleep(20000); memcpy(out, x, 4); return 0; }
"""


class Asleep:
    """Makes trials of a kernel that sleeps, and copies four bytes."""

    def __init__(self, folder: Path) -> None:
        x = np.ones(1, np.float32)
        source, library = folder / "kernel.c", folder / "kernel.so"
        source.write_text(SLEEPS)
        headers = [f"-I{path}" for path in build.headers()]
        shim = Path(build.__file__).parent / "c" / "trial.c"
        command = ["cc", "-shared", "-fPIC", "-O1", "-DARGUMENTS=p[0], p[1]", *headers, "-o", library, shim, source]
        subprocess.run(command, check=True)
        self._subject = Subject(library, (), 1, x, (), (x,))

    def trial(self, candidates: Sequence[Candidate], rounds: int) -> Trial:
        return Trial((self._subject,) * len(candidates), rounds)


@pytest.mark.slow
@needs_tracker
@pytest.mark.parametrize("kernels", ["asleep", "real"])
def test_three_servers_do_twice_as_much_as_one(
    kernels: str, tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels that sleep need no processor; real ones, compiled here, need one for each server and one more."""
    monkeypatch.setattr(Search, "_prune", lambda self: None)
    monkeypatch.setattr(Search, "_finalists", lambda self: ())
    rates: dict[int, float] = {}
    processors = len(os.sched_getaffinity(0))
    for count in (1, 3):
        key = f"{kernels}{count}"
        with ExitStack() as opened:
            for number in range(count):
                opened.enter_context(rpc.tracked_server(tmp_path / f"{key}{number}", tracker, key))
            listed(tracker, key, count)
            places = [Remote(tracker, key, "x86_64", number) for number in range(count)]
            for place in places:
                place.open()
            asleep = kernels == "asleep"
            builder = Asleep(tmp_path) if asleep else opened.enter_context(Builder(min(count, processors)))
            records: list[KernelRecord] = []
            searches = [Search([each], 1 if asleep else 4, {}) for each in tasks(6 * count)]
            started = time.perf_counter()
            Fleet(searches, places, builder, records.append, Notes()).run()
            rates[count] = len(records) / (time.perf_counter() - started)
    found = f"{rates[1]:.2f} kernels per second with one server, {rates[3]:.2f} with three"
    print(f"{kernels}, {processors} processors: {found}")
    if asleep or processors > 3:
        assert rates[3] > 2 * rates[1]
