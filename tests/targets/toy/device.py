"""The toy itself: memory, a loader, and threads that run one after the other in an order that nobody may rely on."""

from __future__ import annotations

import ctypes
import itertools
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.bundle.stepping import Stepper
from qcompiler.ir.program import Argument, Call, Copy, Fault, LaunchGrid, Program
from qcompiler.targets.vector.kernel_runner import aligned
from tests.targets.toy.platform import FORMAT

Array = npt.NDArray[Any]
GARBAGE = 0xA5


class Device:
    """A program on the device; verification uses it like a bundle. barriers: whether threads wait between phases."""

    def __init__(self, program: Program, *, barriers: bool = True) -> None:
        (self.variant,) = program.variants
        assert self.variant.code_format == FORMAT
        header, _, library = self.variant.objects[0].partition(b"\n")
        self.phases: Mapping[str, int] = json.loads(header)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "module.so"
            path.write_bytes(library)
            self.code = ctypes.CDLL(str(path))
        self.program, self.barriers = program, barriers
        self.random = np.random.default_rng(0)

    def run(self, inputs: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
        """Outputs by name."""
        stepper = self.stepper(inputs)
        stepper.run_steps(0, len(self.program.steps))
        return stepper.outputs()

    def stepper(self, inputs: Mapping[str, Array]) -> Stepper:
        """A run that can be stopped between steps."""
        given = [np.ascontiguousarray(inputs[tensor.name], tensor.dtype) for tensor in self.program.inputs]
        return Stepper(Run(self, given), self.program.steps, self.program.outputs)


class Run:
    """Arrays of the host and memory of the device, which nothing but copies connects; see `stepping.Memory`."""

    def __init__(self, device: Device, inputs: Sequence[Array]) -> None:
        self.device, self.inputs, program = device, inputs, device.program
        self.outputs = [np.zeros(tensor.shape, tensor.dtype) for tensor in program.outputs]
        self.workspace = aligned(np.full(program.workspace_bytes, GARBAGE, np.uint8))
        self.constants = aligned(np.frombuffer(program.constants, np.uint8))

    def run_steps(self, first: int, last: int) -> None:
        """Run the steps first .. last - 1."""
        for call in self.device.variant.calls[first:last]:
            if isinstance(call.launch, Copy):
                source, target = (self._memory(argument) for argument in call.arguments)
                target[: call.launch.nbytes] = source[: call.launch.nbytes]
            else:
                assert isinstance(call.launch, LaunchGrid)
                self._launch(call, call.launch)

    def _memory(self, argument: Argument) -> Array:
        """The bytes from where a pointer points, in either memory: for copies alone."""
        if argument.kind == "workspace":
            return self.workspace[argument.position :]
        tensors = self.inputs if argument.kind == "input" else self.outputs
        return tensors[argument.position].reshape(-1).view(np.uint8)

    def _launch(self, call: Call, launch: LaunchGrid) -> None:
        fault, function = np.zeros(1, np.int32), getattr(self.device.code, call.symbol)
        memories = {"workspace": self.workspace, "constant": self.constants, "fault": fault}
        pointers = [ctypes.c_void_p(memories[a.kind].ctypes.data + a.position) for a in call.arguments]
        for block in self._any_order(itertools.product(*map(range, launch.blocks))):
            shared = np.full(launch.shared_bytes // 4, np.nan, np.float32)
            phases = range(self.device.phases[call.symbol])
            turns = itertools.product(phases, self._any_order(range(np.prod(launch.threads))))
            for phase, thread in turns if self.device.barriers else sorted(turns, key=lambda turn: turn[1]):
                place = (*block, int(thread), phase)
                assert function(*pointers, ctypes.c_void_p(shared.ctypes.data), *map(ctypes.c_int32, place)) == 0
        if fault[0]:
            raise IndexError(Fault(int(fault[0])).name)

    def _any_order(self, items: Iterable[Any]) -> list[Any]:
        listed = list(items)
        return [listed[i] for i in self.device.random.permutation(len(listed))]
