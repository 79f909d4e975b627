"""The epilogue of a kernel: its chain of nodes as operations, constants, run-time operands and stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.storage import Buffer
from qcompiler.ir.view import constant_of, shape_of
from qcompiler.lowering.links import ChainOperation, Link
from qcompiler.lowering.plan import Plan
from qcompiler.lowering.values import Values, store_op
from qcompiler.lowering.work import Stored
from qcompiler.targets.problem import Channel, Operand, Operation, OperationName, Scalar, Tensor


class EpilogueBuilder:
    """Steps, constants and stores of one planned group; tensors: its run-time operands as they are read."""

    def __init__(self, values: Values, plan: Plan, tensors: Sequence[Stored]) -> None:
        self.operations: list[Operation] = []
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
            self._store(start)
        elif self._group.source is not None:
            self.operations += [Operation(each.op, each.operand) for each in self._group.source.operations]
        for link in self._plan.links:
            self._link(link)

    def _link(self, link: Link) -> None:
        if link.sign == "threshold":
            self._threshold(link)
        elif link.sign:
            self._store(link.value, zero_is_positive=link.zero_is_positive)
        else:
            for operation in link.operations:
                self.operations.append(Operation(operation.op, self._operand(operation)))
            self._store(link.value)

    def _operand(self, operation: ChainOperation) -> Operand | None:
        operand = operation.operand
        if operand is None:
            return None
        if isinstance(operand, ir.Value):
            return Tensor(_buffer(next(self._tensors)), operation.through)
        if operand.ndim == 0:
            return Scalar(float(operand))
        self.channels.append(operand)
        return Channel()

    def _threshold(self, link: Link) -> None:
        levels, direction = (constant_of(value) for value in link.node.inputs[1:])
        assert levels is not None and direction is not None
        channels = self._channels
        self.threshold = np.broadcast_to(levels.reshape(len(levels), -1), (len(levels), channels)).astype(np.float32)
        self.direction = np.broadcast_to(direction.reshape(-1), (channels,)).astype(np.float32)
        self._store(link.value, "threshold")

    @property
    def _channels(self) -> int:
        assert self._group.start is not None
        shape = shape_of(self._group.start)
        return (shape[-1] if shape else 1) if self._group.is_matrix else shape[1]

    def _store(self, value: ir.Value, op: OperationName | None = None, *, zero_is_positive: bool = True) -> None:
        for form in self._plan.stores.get(value, ()):
            made = self._values.make(value, form)
            self.writes.append(made)
            self.operations.append(
                Operation(op or store_op(form), into=_buffer(made), zero_is_positive=zero_is_positive)
            )


def _buffer(stored: Stored) -> Buffer:
    assert stored.form.buffer is not None
    return stored.form.buffer
