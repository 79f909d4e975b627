"""Bundles on the device of an RPC server: here this machine; see end_to_end/test_board.py for another one."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompiler.bundle import manifest
from qcompiler.bundle.device import Device, parse_address
from qcompiler.bundle.load import load
from qcompiler.bundle.remote import RemoteBundle
from qcompiler.bundle.write import write
from qcompiler.errors import InvalidBundle, QCompilerError, UnsupportedCpu, UsageError
from tests import rpc
from tests.bundle import programs


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with rpc.server(tmp_path_factory.mktemp("server") / "log") as where:
        yield where


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return list(found) == list(expected) and all(
        found[key].dtype == expected[key].dtype and np.array_equal(found[key], expected[key]) for key in expected
    )


@pytest.mark.parametrize("variant", [None, "avx2", "plain"])
@pytest.mark.parametrize("threads", [1, 3])
def test_outputs_are_those_of_a_local_run(pristine: Path, address: str, variant: str | None, threads: int) -> None:
    far, near = RemoteBundle(pristine, address, rpc.KEY, variant=variant), load(pristine, variant=variant)
    assert far.variant == near.variant and far.inputs == near.inputs and far.outputs == near.outputs
    for seed in (0, 1):
        inputs = programs.inputs(seed)
        assert same(far.run(inputs, threads=threads), near.run(inputs))


def test_times_are_the_devices(pristine: Path, address: str) -> None:
    bundle = RemoteBundle(pristine, address, rpc.KEY)
    timed = bundle.benchmark(programs.inputs(), threads=2, seconds=0.05)
    assert timed.runs >= 10 and timed.threads == min(2, len(os.sched_getaffinity(0)))
    # a call over the network takes some hundred microseconds, this network one
    assert 0 < timed.minimum <= timed.median <= timed.p90 and timed.median < 1e-4
    profiled = bundle.profile(programs.inputs(), repeats=5)
    assert profiled.repeats == 5 and 0 < profiled.seconds < 1e-3
    assert [step.kernel for step in profiled.steps][0] == "binarize_c" and len(profiled.steps) == 4


def test_errors_of_the_inputs_are_those_of_a_local_run(pristine: Path, address: str) -> None:
    bundle = RemoteBundle(pristine, address, rpc.KEY)
    with pytest.raises(UsageError, match="input 'features/x:0' is missing"):
        bundle.run({"bias": programs.inputs()["bias"]})
    for threads in (0, 129):
        with pytest.raises(UsageError, match=f"{threads} threads, expected 1 to 128"):
            bundle.run(programs.inputs(), threads=threads)
    with pytest.raises(UsageError, match="0 repeats"):
        bundle.profile(programs.inputs(), repeats=0)


def test_statuses_of_the_network_are_told(pristine: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = RemoteBundle(pristine, address, rpc.KEY)
    monkeypatch.setattr(manifest, "MAX_THREADS", 1000)
    with pytest.raises(
        QCompilerError, match=rf"failed on {address}: a step, variant, thread count or batch is out of range"
    ):
        bundle.run(programs.inputs(), threads=500)


def test_wrong_keys_and_variants(pristine: Path, address: str) -> None:
    with pytest.raises(UsageError, match="has another key than 'phone'; name it with --remote-key"):
        RemoteBundle(pristine, address, "phone")
    with pytest.raises(UsageError, match="no variant 'neon'; it has avx2, plain"):
        RemoteBundle(pristine, address, rpc.KEY, variant="neon")


def test_a_cpu_without_the_features(tmp_path: Path, address: str) -> None:
    write(programs.impossible(), tmp_path / "out")
    # this machine lacks them, too, which must not matter
    with pytest.raises(UnsupportedCpu, match=rf"CPU of {address} cannot run the variants of 'tiny': all \(needs "):
        RemoteBundle(tmp_path / "out", address, rpc.KEY)


def test_a_damaged_bundle_is_not_sent(folder: Path, address: str) -> None:
    (folder / "libtiny.a").write_bytes(b"!<arch>\n")
    with pytest.raises(InvalidBundle, match="libtiny.a has 8 bytes"):
        RemoteBundle(folder, address, rpc.KEY)


def test_nothing_there(pristine: Path) -> None:
    where = f"127.0.0.1:{rpc.free_port()}"
    with pytest.raises(QCompilerError, match=rf"no TVM RPC server at {where} \(Connection refused\); start one there"):
        RemoteBundle(pristine, where, rpc.KEY)
    with pytest.raises(QCompilerError, match=r"no TVM RPC server at no-such-host.invalid:9090 \(.*(known|resol|fail)"):
        RemoteBundle(pristine, "no-such-host.invalid:9090")


def test_a_server_that_does_not_answer(pristine: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        where = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(QCompilerError, match=f"no answer from {where} within 1 s; it serves another client"):
            Device(where, rpc.KEY, patience=1)


def test_another_kind_of_server(pristine: Path) -> None:
    """One that greets with something else than TVM's magic number."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def greet() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                # the client may have gone by then
                with connection, contextlib.suppress(ConnectionError):
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    connection.recv(100)

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(QCompilerError, match=r"no TVM RPC server at .* \(something else answers\)"):
            Device(f"127.0.0.1:{listening.getsockname()[1]}", rpc.KEY)


def test_a_device_that_goes_away(pristine: Path, tmp_path: Path) -> None:
    with rpc.server(tmp_path / "log") as where:
        bundle = RemoteBundle(pristine, where, rpc.KEY)
        bundle.run(programs.inputs())
    with pytest.raises(QCompilerError, match=f"the device {where} failed: "):
        bundle.run(programs.inputs())


@pytest.mark.parametrize("text", ["pi", "pi:", ":9090", "pi:x", "pi:0", "pi:65536", "pi:-1"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="expected HOST:PORT"):
        parse_address(text)


def test_addresses() -> None:
    assert parse_address("pi.local:9090") == ("pi.local", 9090)
    assert parse_address("[::1]:9090") == ("::1", 9090)


def test_a_batch_runs_in_parts(tmp_path: Path, address: str) -> None:
    write(replace(programs.tiny(), any_batch=True), tmp_path / "out")
    bundle = RemoteBundle(tmp_path / "out", address, rpc.KEY)
    parts = [programs.inputs(seed) for seed in range(3)]
    for count in (3, 0):
        inputs = {
            name: np.concatenate([each[name] for each in parts])[: count * len(parts[0][name])] for name in parts[0]
        }
        for name, found in bundle.run(inputs).items():
            expected = [programs.expected(each)[name] for each in parts[:count]]
            np.testing.assert_array_equal(found, np.concatenate(expected) if expected else found[:0])
            assert len(found) == count * len(programs.expected(parts[0])[name])
    with pytest.raises(UsageError, match="expected"):
        bundle.profile(inputs)
