"""Run a compiled network step by step, looking at the values in between and replacing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler.bundle import stored_values
from qcompiler.bundle.manifest import Step
from qcompiler.errors import UsageError
from qcompiler.ir.program import StoredValue, TensorInfo

Array = npt.NDArray[Any]


class Memory(Protocol):
    """Inputs and outputs in the network's order, the workspace (uint8), and steps that work on them."""

    @property
    def inputs(self) -> Sequence[Array]: ...  # noqa: D102

    @property
    def outputs(self) -> Sequence[Array]: ...  # noqa: D102

    @property
    def workspace(self) -> Array: ...  # noqa: D102

    def run_steps(self, first: int, last: int) -> None:
        """Run the steps first .. last - 1."""
        ...


class Stepper:
    """One run under control. Memory plans reuse the workspace: read a value right after the step that stores it."""

    def __init__(self, execution: Memory, steps: Sequence[Step], outputs: Sequence[TensorInfo]) -> None:
        self._execution = execution
        self._steps = steps
        self._outputs = outputs

    def run_steps(self, first: int, last: int) -> None:
        """Run the steps first .. last - 1."""
        if not 0 <= first <= last <= len(self._steps):
            raise UsageError(f"steps {first} to {last}, expected a range within 0 to {len(self._steps)}")
        self._execution.run_steps(first, last)

    def value(self, stored: StoredValue | str) -> Array:
        """A stored value, or the first of that name, as a logical array in its ONNX shape."""
        stored = self._stored(stored)
        return stored_values.decode(self._memory(stored), stored)

    def overwrite(self, stored: StoredValue | str, logical: Array) -> None:
        """Replace a stored value; its halo keeps what the storing step wrote.

        logical: any numeric dtype, in the value's ONNX shape; codes of -1 and +1 for a packed value.
        """
        stored = self._stored(stored)
        if logical.shape != stored.shape:
            raise UsageError(f"value '{stored.name}' has shape {list(stored.shape)}, {list(logical.shape)} given")
        stored_values.encode(self._memory(stored), stored, logical)

    def outputs(self) -> dict[str, Array]:
        """Copies of the outputs as they are now, by ONNX name."""
        arrays = self._execution.outputs
        return {tensor.name: array.copy() for tensor, array in zip(self._outputs, arrays, strict=True)}

    def stored_values(self) -> Mapping[str, StoredValue]:
        """Every value that a step stores, by ONNX name; the first where a value is stored in several layouts."""
        found: dict[str, StoredValue] = {}
        for step in self._steps:
            for stored in step.values:
                found.setdefault(stored.name, stored)
        return found

    def _stored(self, stored: StoredValue | str) -> StoredValue:
        if isinstance(stored, StoredValue):
            return stored
        known = self.stored_values()
        if stored not in known:
            raise UsageError(f"no step stores the value '{stored}'", remedy=f"stored: {', '.join(known) or 'none'}")
        return known[stored]

    def _memory(self, stored: StoredValue) -> npt.NDArray[np.uint8]:
        """The bytes of the buffer that holds the value, from its first byte on."""
        kind, position = stored.argument.kind, stored.argument.position
        if kind == "constant":
            raise UsageError(f"value '{stored.name}' is a constant of the library and cannot be reached")
        if kind == "workspace":
            memory = self._execution.workspace[position:]
        else:
            arrays = self._execution.inputs if kind == "input" else self._execution.outputs
            memory = arrays[position].reshape(-1).view(np.uint8)
        if stored_values.stored_bytes(stored) > memory.nbytes:
            raise UsageError(f"value '{stored.name}' lies outside of its buffer")
        return memory
