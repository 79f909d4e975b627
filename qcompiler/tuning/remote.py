"""Trials on devices that a TVM RPC tracker hands out, each spoken to by a process of its own."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from typing import Any

import numpy as np
from tvm.rpc import base
from tvm.rpc.client import TrackerSession

from qcompiler.bundle.device import Device, parse_address, within
from qcompiler.child import Child, ChildLost
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.tuning.here import ROUND_NANOSECONDS
from qcompiler.tuning.trial import NotFree, Outcome, PlaceLost, Subject, Trial, differing, in_turns

# seconds: for the tracker to answer, for a device to be free, for a trial there; chosen
_TRACKER_SECONDS, _FREE_SECONDS = 10.0, 30.0
PATIENCE = 120.0
_PRIORITY = 1
# seconds after which a device is asked for anew: a server ends what hangs on it soon afterwards; chosen
_LEASE = 300.0
_START = "start one with: python3 -m tvm.exec.rpc_tracker --host 0.0.0.0 --port 9190 (pip install 'qcompiler[fleet]')"


class Remote:
    """A device of a key; see `trial.Place`. Which one is for the tracker to say, at every connection."""

    def __init__(self, tracker: str, key: str, architecture: str, number: int, patience: float = PATIENCE) -> None:
        self.name = f"{key} {number}"
        self.machine = machine_of(architecture, key)
        self._asked = (tracker, key, architecture)
        self._patience = patience
        self._child = Child()
        # by the clock here; None without a connection
        self._connected: float | None = None

    def open(self) -> None:
        """Wait for a free device where none is connected, or the lease of it has ended."""
        if self._connected is not None and time.monotonic() > self._connected + _LEASE:
            self._leave()
        if self._connected is None:
            lifetime = _LEASE + self._patience
            try:
                self.name = self._child.ask(_connect, *self._asked, lifetime, seconds=_FREE_SECONDS)
            except ChildLost as lost:
                self._leave()
                raise NotFree(str(lost)) from None
            except QCompilerError as error:
                self._leave()
                raise PlaceLost(str(error)) from None
            self._connected = time.monotonic()

    def run(self, trial: Trial) -> list[Outcome]:
        """Try kernels on the device."""
        try:
            return self._child.ask(_tried, trial, seconds=self._patience)
        except (ChildLost, QCompilerError) as lost:
            self._leave()
            raise PlaceLost(str(lost)) from None

    def _leave(self) -> None:
        """Whatever is left of the session ends with the process, and the next one starts anew."""
        self._connected = None
        self._child.end()

    def close(self) -> None:
        """End the process, and the session with it."""
        self._child.close()


def machine_of(architecture: str, key: str) -> str:
    """The name of a machine of which a tracker has several under a key."""
    return f"{architecture}/{key}"


def devices(tracker: str, key: str) -> list[str]:
    """Addresses of the servers that a tracker lists under a key.

    Raises QCompilerError where there is no tracker, UsageError where it has no such device.
    """
    listed = _listed(tracker)
    found = [address for address, name in listed if name == key]
    if not found:
        keys = sorted({name for _, name in listed})
        what = f"the tracker {tracker} lists no device with key '{key}'"
        raise UsageError(what, remedy=f"it has {', '.join(keys)}" if keys else "start a server on a device first")
    return sorted(found)


def _listed(tracker: str) -> list[tuple[str, str]]:
    """The address and key of every server that a tracker knows. Raises QCompilerError."""
    with closing(_session(tracker)) as session:
        try:
            servers = within(_TRACKER_SECONDS, session.summary)["server_info"]
            return [(":".join(map(str, each["addr"])), each["key"].removeprefix("server:")) for each in servers]
        except (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError):
            raise QCompilerError(f"{tracker} answers, but not as a TVM RPC tracker", remedy=_START) from None


def _session(tracker: str) -> Any:
    """A connection to a tracker. Raises QCompilerError where there is none, or it does not answer in time."""
    address = parse_address(tracker, "--tracker")
    try:
        # TVM itself would try for a minute
        socket.create_connection(address, timeout=_TRACKER_SECONDS).close()
        return within(_TRACKER_SECONDS, lambda: TrackerSession(address))
    except TimeoutError:
        reason = f"no answer within {_TRACKER_SECONDS:.0f} s"
        raise QCompilerError(f"no TVM RPC tracker at {tracker} ({reason})", remedy=_START) from None
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise QCompilerError(f"no TVM RPC tracker at {tracker} ({reason})", remedy=_START) from error


# of the process that speaks to a device
_devices: list[Device] = []


def _connect(tracker: str, key: str, architecture: str, lifetime: float) -> str:
    """Wait for a free device and open it; its address."""
    with closing(_session(tracker)) as session:
        base.sendjson(session._sock, [base.TrackerCode.REQUEST, key, "", _PRIORITY])
        code, value = base.recvjson(session._sock)
        if code != base.TrackerCode.SUCCESS:
            raise QCompilerError(f"the tracker {tracker} gives no device ({value})")
        host, port, match = value
    device = Device(f"{host}:{port}", match, lifetime=lifetime)
    if device.architecture not in (None, architecture):
        raise QCompilerError(
            f"the device {device.address} is {device.architecture}, the kernels are for {architecture}"
        )
    _devices[:] = [device]
    return device.address


def _tried(trial: Trial) -> list[Outcome]:
    """Run and time kernels on the device: those whose results are right, in turns."""
    (device,) = _devices
    return in_turns([_Loaded(device, subject) for subject in trial.subjects], trial.rounds)


class _Loaded:
    """A kernel on a device with all that it reads and writes."""

    def __init__(self, device: Device, subject: Subject) -> None:
        self._device, self._subject = device, subject
        self._module = device.load(subject.library)
        given = (subject.x, *subject.constants, *subject.tensors, *subject.expected)
        self._memory = [device.memory(array.nbytes) for array in given]
        # outputs begin as what they must not be
        blank = [np.invert(np.ascontiguousarray(array).reshape(-1).view(np.uint8)) for array in subject.expected]
        for memory, array in zip(self._memory, (*given[: len(given) - len(blank)], *blank), strict=True):
            device.write(memory, array)
        self._mean = device.memory(8)

    def wrong(self) -> str:
        """What is wrong with the results of a run; "" where nothing is."""
        self._device.use(self._module)
        if status := self._device.call("run", *self._memory, self._subject.items):
            return f"the kernel returned {status}"
        expected = self._subject.expected
        outputs = self._memory[len(self._memory) - len(expected) :]
        found = (self._device.read(m, str(e.dtype), e.shape) for m, e in zip(outputs, expected, strict=True))
        return differing(expected, tuple(found))

    def round(self) -> float:
        """Mean nanoseconds of the runs of a round, by the device's clock."""
        self._device.use(self._module)
        self._device.call("time", *self._memory, self._mean, self._subject.items, 1, ROUND_NANOSECONDS)
        return float(self._device.read(self._mean, "float64", (1,))[0])
