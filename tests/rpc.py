"""TVM's RPC server on loopback, on this machine or on the emulated board."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KEY = "bench"
START_SECONDS = 240.0
_SERVER = "tvm.exec.rpc_server"


@contextmanager
def server(log: Path, python: Path = Path(sys.executable)) -> Iterator[str]:
    """Start a server of the given Python, with `KEY`, and give its address; it ends with the context."""
    with _program(log, _SERVER, python, "--key", KEY) as (_, address):
        yield address


@contextmanager
def tracker(log: Path) -> Iterator[str]:
    """Start a tracker, and give its address; it ends with the context."""
    with _program(log, "tvm.exec.rpc_tracker", Path(sys.executable)) as (_, address):
        yield address


@contextmanager
def tracked_server(log: Path, tracker: str, key: str, python: Path = Path(sys.executable)) -> Iterator[int]:
    """Start a server that a tracker lists under a key, and give the id of the group of its processes."""
    with _program(log, _SERVER, python, "--key", key, "--tracker", tracker) as (process, _):
        yield process.pid


@contextmanager
def lying_server(log: Path, tracker: str, key: str, lie: str) -> Iterator[str]:
    """Start a server that a tracker lists under a key and that lies (`tests.lying_server`), and give its address."""
    with _program(log, "tests.lying_server", Path(sys.executable), lie, "--key", key, "--tracker", tracker) as found:
        yield found[1]


@contextmanager
def _program(log: Path, module: str, python: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A module that listens on loopback, and its address; its processes end with the context."""
    port = free_port()
    where = ["--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1)]
    with log.open("wb") as file:
        command = [str(python), "-m", module, *where, *arguments]
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        try:
            await_start(process, log)
            yield process, f"127.0.0.1:{port}"
        finally:
            # the server leaves its session's processes to themselves
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def await_start(process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while "bind to" not in log.read_text():
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.1)
