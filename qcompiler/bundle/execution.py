"""One prepared execution: a library, input and output arrays, a workspace, and their addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler.bundle.native import Library, addresses

Array = npt.NDArray[Any]


class Placed(Protocol):
    """Memory that is no array."""

    @property
    def address(self) -> int: ...  # noqa: D102

    @property
    def nbytes(self) -> int: ...  # noqa: D102


Workspace = Array | Placed


def address_of(workspace: Workspace) -> int:
    """Where it begins."""
    return int(workspace.ctypes.data) if isinstance(workspace, np.ndarray) else workspace.address


class Runs:
    """Runs a network on the parts of a batch, one after the other; see `Execution`. threads: those of a run."""

    def __init__(self, executions: Sequence[Execution], threads: int = 1) -> None:
        self._executions = executions
        self.threads = threads

    def run(self) -> None:
        """Run all steps on all parts."""
        for execution in self._executions:
            execution.run()

    def profile(self, steps: int) -> npt.NDArray[np.uint64]:
        """Run all steps on all parts; nanoseconds of each step."""
        return np.asarray(sum(execution.profile(steps) for execution in self._executions), np.uint64)


class Execution:
    """Runs a network on fixed arrays; not to be used by two threads at a time.

    inputs, outputs: C-contiguous arrays in the network's order. workspace: uint8, 64-byte aligned, or of a device.
    pool: address of a pool from `Library.pool`, or 0 for one thread.
    """

    def __init__(
        self,
        library: Library,
        inputs: Sequence[Array],
        outputs: Sequence[Array],
        workspace: Workspace,
        pool: int = 0,
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        # of memory of a device there is nothing to be seen
        self.workspace: Array = workspace if isinstance(workspace, np.ndarray) else np.empty(0, np.uint8)
        self._held = workspace
        self._library = library
        self._pool = (pool,) if pool else ()
        self._pointers = (addresses(inputs), addresses(outputs), address_of(workspace), workspace.nbytes)

    def run(self) -> None:
        """Run all steps."""
        function = "run_pool" if self._pool else "run"
        self._library.check(self._library.call(function, *self._pool, *self._pointers))

    def run_steps(self, first: int, last: int) -> None:
        """Run the steps first .. last - 1 on one thread."""
        self._library.check(self._library.call("run_steps", *self._pointers, first, last))

    def profile(self, steps: int) -> npt.NDArray[np.uint64]:
        """Run all steps; nanoseconds of each."""
        nanoseconds = np.zeros(steps, np.uint64)
        function = "run_pool_profile" if self._pool else "run_profile"
        self._library.check(self._library.call(function, *self._pool, *self._pointers, nanoseconds.ctypes.data))
        return nanoseconds
