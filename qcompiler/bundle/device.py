"""A device behind a TVM RPC server: connect, load a library, call it. Every failure is a QCompilerError."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm
from tvm import rpc

from qcompiler.errors import QCompilerError, UsageError
from qcompiler.targets.architecture import family

Array = npt.NDArray[Any]
# chosen
CONNECT_SECONDS = 15.0
_START = "start one there with: python3 -m tvm.exec.rpc_server --port PORT --key KEY"
_TRIPLE = "tvm.codegen.llvm.GetProcessTriple"


class Device:
    """A session with the server at `address`, "HOST:PORT", that serves under `key`.

    patience: seconds for the server to answer. lifetime: seconds after which the server ends the session, whatever it
    does; None for never.
    """

    def __init__(
        self, address: str, key: str = "", *, patience: float = CONNECT_SECONDS, lifetime: float | None = None
    ) -> None:
        self.address = address
        host, port = parse_address(address)
        self._session = _connected(host, port, key, patience, lifetime)
        self._cpu = self._session.cpu(0)
        self._module: Any = None
        self._sent: dict[str, Any] = {}

    @property
    def architecture(self) -> str | None:
        """The processor family that the server's process runs code of; None where the server cannot tell."""
        try:
            triple = str(self._session.get_function(_TRIPLE)())
        except (AttributeError, RuntimeError):
            return None
        return family(triple.partition("-")[0])

    def load(self, library: Path) -> Any:
        """Send a shared library with functions in TVM's calling convention, to be called from now on; for `use`.

        One of the same name is sent once: a file that is loaded must not be written to.
        """
        with self._speaking():
            if library.name not in self._sent:
                self._session.upload(str(library))
                self._sent[library.name] = self._session.load_module(library.name)
            self._module = self._sent[library.name]
        return self._module

    def use(self, module: Any) -> None:
        """Call functions of a library that was loaded before."""
        self._module = module

    def call(self, function: str, *arguments: Any) -> int:
        """Call a function of the library."""
        with self._speaking():
            return int(self._module[function](*arguments))

    def times(self, function: str, arguments: Sequence[Any], runs: int) -> npt.NDArray[np.float64]:
        """Seconds of each of `runs` calls, by the device's clock; a first call is not counted."""
        with self._speaking():
            evaluate = self._module.time_evaluator(function, self._cpu, number=1, repeat=runs)
            return np.array(evaluate(*arguments).results)

    def memory(self, size: int) -> Any:
        """Memory of `size` bytes on the device, aligned to 64 bytes."""
        with self._speaking():
            return tvm.runtime.empty((size,), "uint8", self._cpu)

    def write(self, memory: Any, array: Array) -> None:
        """Copy an array into memory of its size."""
        with self._speaking():
            memory.copyfrom(np.ascontiguousarray(array).reshape(-1).view(np.uint8))

    def read(self, memory: Any, dtype: str, shape: Sequence[int]) -> Array:
        """Copy memory into a new array."""
        with self._speaking():
            content: Array = memory.numpy()
        return content.view(dtype).reshape(tuple(shape))

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, AttributeError, OSError) as error:
            raise QCompilerError(f"the device {self.address} failed: {_last_line(error)}") from error


def parse_address(text: str, option: str = "--remote") -> tuple[str, int]:
    """HOST:PORT, the host of an IPv6 address in brackets; option: where it was given."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isdecimal() and port.isascii() and 1 <= int(port) <= 65535):
        raise UsageError(f"{option} {text}: expected HOST:PORT, with a port from 1 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _connected(host: str, port: int, key: str, patience: float, lifetime: float | None) -> Any:
    """A session of TVM, or an error that tells what is wrong with the address or the key."""
    try:
        return within(patience, lambda: rpc.connect(host, port, key, session_timeout=lifetime or 0))
    except TimeoutError as error:
        raise QCompilerError(
            f"no answer from {host}:{port} within {patience:.0f} s",
            remedy="it serves another client, or is no TVM RPC server",
        ) from error
    except RuntimeError as error:
        if "matches key" in str(error):
            raise UsageError(
                f"the server {host}:{port} has another key than '{key}'", remedy="name it with --remote-key"
            ) from error
        raise QCompilerError(f"no TVM RPC server at {host}:{port} ({_reason(host, port)})", remedy=_START) from error


def within(seconds: float, function: Callable[[], Any]) -> Any:
    """The result of a function that may wait for ever: a server takes one client at a time and lets others wait.

    Raises TimeoutError, and what the function raises.
    """
    results: list[Any] = []

    def call() -> None:
        try:
            results.append((function(), None))
        except Exception as error:
            results.append((None, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if not results:
        raise TimeoutError
    result, error = results[0]
    if error is not None:
        raise error
    return result


def _reason(host: str, port: int) -> str:
    """Why nothing can be reached there, in the system's words."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return "something else answers"


def _last_line(error: BaseException) -> str:
    """TVM's errors end with the message, after a traceback of the server."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
