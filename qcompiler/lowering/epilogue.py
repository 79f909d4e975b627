"""The epilogue of a kernel: its chain of nodes as steps, constants, run-time operands and stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.storage import Buffer
from qcompiler.ir.view import constant_of, shape_of
from qcompiler.lowering.groups import Group, Link
from qcompiler.lowering.plan import Plan, weights_of
from qcompiler.lowering.values import Values
from qcompiler.lowering.work import Stored
from qcompiler.targets.problem import Channel, Operand, Scalar, Step, StepOp, Tensor


class Epilogue:
    """Steps, constants and stores of one planned group; tensors: its run-time operands as they are read."""

    def __init__(self, values: Values, plan: Plan, tensors: Sequence[Stored]) -> None:
        self.steps: list[Step] = []
        self.channels: list[npt.NDArray[np.float32]] = []
        self.threshold: npt.NDArray[np.float32] | None = None
        self.direction: npt.NDArray[np.float32] | None = None
        self.writes: list[Stored] = []
        self._values = values
        self._plan = plan
        self._group = plan.group
        self._tensors: Iterator[Stored] = iter(tensors)
        self._run()

    def _run(self) -> None:
        start = self._group.start
        assert start is not None
        if self._group.kind != "map":
            self._store(start, "store_bits" if self._group.writes_once(start) else "store")
        for link in self._group.links:
            self._link(link)

    def _link(self, link: Link) -> None:
        if link.sign == "threshold":
            self._threshold(link)
        elif link.sign:
            self._store(link.value, "store_bits", zero_is_positive=link.zero_is_positive)
        else:
            for operation in link.operations:
                self.steps.append(Step(operation.op, self._operand(operation.operand)))
            self._store(link.value, "store")

    def _operand(self, operand: npt.NDArray[np.float32] | ir.Value | None) -> Operand | None:
        if operand is None:
            return None
        if isinstance(operand, ir.Value):
            return Tensor(_buffer(next(self._tensors)))
        if operand.ndim == 0:
            return Scalar(float(operand))
        self.channels.append(operand)
        return Channel()

    def _threshold(self, link: Link) -> None:
        threshold, direction = (self._per_channel(value) for value in link.node.inputs[1:])
        if self._group.writes_once(link.value):
            self.threshold, self.direction = threshold[None], direction
            self._store(link.value, "threshold")
            return
        # integers of magnitude below 2**24 are exact in float32
        self.channels += [threshold, direction]
        self.steps += [Step("sub", Channel()), Step("mul", Channel())]
        self._store(link.value, "store_bits")

    def _per_channel(self, value: ir.Value | None) -> npt.NDArray[np.float32]:
        constant = constant_of(value)
        assert constant is not None
        return np.broadcast_to(constant.reshape(-1), (self._channels,)).astype(np.float32)

    @property
    def _channels(self) -> int:
        assert self._group.start is not None
        shape = shape_of(self._group.start)
        return (shape[-1] if shape else 1) if self._group.is_matrix else shape[1]

    def _store(self, value: ir.Value, op: StepOp, *, zero_is_positive: bool = True) -> None:
        for form in self._plan.stores.get(value, ()):
            made = self._values.make(value, form)
            self.writes.append(made)
            self.steps.append(Step(op, into=_buffer(made), zero_is_positive=zero_is_positive))


def _buffer(stored: Stored) -> Buffer:
    assert stored.form.buffer is not None
    return stored.form.buffer


def out_channels(group: Group) -> int:
    """Output channels of a convolution or matrix product."""
    shape = weights_of(group.anchor).shape
    return int(shape[1] if group.is_matrix else shape[0])
