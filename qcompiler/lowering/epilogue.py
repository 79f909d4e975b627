"""The epilogue of a kernel: its chain of nodes as steps, constants, run-time operands and stores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir import ops
from qcompiler.ir.view import constant_of
from qcompiler.lowering import demands as want
from qcompiler.lowering.forms import Form, of_buffer
from qcompiler.lowering.groups import Group, Link
from qcompiler.lowering.values import Values
from qcompiler.lowering.work import Location, Stored
from qcompiler.targets.problem import Buffer, Channel, Operand, Scalar, Step, StepOp, Tensor


class Epilogue:
    """Steps, constants, run-time operands and stores of one group."""

    def __init__(self, values: Values, inputs: set[ir.Value], group: Group, matrix: bool) -> None:
        self.values = values
        self.inputs = inputs
        self.group = group
        self.matrix = matrix
        self.steps: list[Step] = []
        self.channels: list[npt.NDArray[np.float32]] = []
        self.threshold: npt.NDArray[np.float32] | None = None
        self.direction: npt.NDArray[np.float32] | None = None
        self.writes: list[Location] = []
        self.stored: list[Stored] = []

    def run(self, reads: list[Location]) -> None:
        """Walk the chain; the places of run-time operands are appended to `reads`."""
        start = self.group.start
        assert start is not None
        if self.group.kind != "map":
            if self.group.anchor.op_type == "BinaryMaxPool":
                self._store(start, bits=True, limit=1)
            else:
                self._store(start, bits=False)
        for link in self.group.links:
            self._link(link, reads)

    def _link(self, link: Link, reads: list[Location]) -> None:
        if link.sign == "threshold":
            self._threshold(link)
            return
        if link.sign:
            self._store(link.value, bits=True, zero_is_positive=link.zero_is_positive)
            return
        for operation in link.operations:
            operand: Operand | None = None
            if isinstance(operation.operand, ir.Value):
                form = want.tensor_form(operation.operand, self.matrix, self.inputs)
                got, place = self.values.deliver(operation.operand, form)
                operand = Tensor(viewed(got, form))
                reads.append(place)
            elif operation.operand is not None and operation.operand.ndim == 0:
                operand = Scalar(float(operation.operand))
            elif operation.operand is not None:
                operand = Channel()
                self.channels.append(operation.operand)
            self.steps.append(Step(operation.op, operand))
        self._store(link.value, bits=False)

    def _threshold(self, link: Link) -> None:
        threshold, direction = (constant_of(value) for value in link.node.inputs[1:])
        assert threshold is not None and direction is not None
        if self.group.anchor.domain == ops.DOMAIN and self.group.kind == "conv":
            channels = out_channels(self.group)
            self.threshold = np.broadcast_to(threshold.reshape(-1), (channels,)).astype(np.float32)
            self.direction = np.broadcast_to(direction.reshape(-1), (channels,)).astype(np.float32)
            self._store(link.value, bits=True, op="threshold", limit=1)
            return
        start = self.group.start
        assert start is not None
        channels = want.view_buffer(start, self.matrix).c
        # integers of magnitude below 2**24 are exact in float32
        for constant in (threshold, direction):
            self.channels.append(np.broadcast_to(constant.reshape(-1), (channels,)).astype(np.float32))
        self.steps += [Step("sub", Channel()), Step("mul", Channel())]
        self._store(link.value, bits=True)

    def _store(
        self,
        value: ir.Value,
        *,
        bits: bool,
        zero_is_positive: bool = True,
        op: StepOp | None = None,
        limit: int | None = None,
    ) -> None:
        for form in self._forms(value, bits)[:limit]:
            seen = want.as_view(form, value, self.matrix)
            assert seen is not None and seen.buffer is not None
            place = self.values.place(value, form)
            self.writes.append(place)
            self.stored.append(self.values.keep(value, form, place))
            store: StepOp = "store_bits" if bits else "store"
            self.steps.append(Step(op or store, into=seen.buffer, zero_is_positive=zero_is_positive))

    def _forms(self, value: ir.Value, bits: bool) -> list[Form]:
        """The demanded forms that this kernel can write itself; one plain form where only others are wanted."""
        demanded = self.values.demands.get(value, [])
        if not demanded:
            return []
        own = [form for form in demanded if form.is_bit == bits and want.as_view(form, value, self.matrix) is not None]
        if not own:
            plain = want.view_buffer(value, self.matrix)
            own = [of_buffer(replace(plain, dtype="bit") if bits else plain, matrix=self.matrix)]
        return own


def viewed(got: Form, asked: Form) -> Buffer:
    """The buffer in which a kernel reads what was delivered: its own view of the same bytes."""
    assert got.buffer is not None and asked.buffer is not None
    return got.buffer if got.matrix == asked.matrix and got.buffer.order == asked.buffer.order else asked.buffer


def out_channels(group: Group) -> int:
    """Output channels of a convolution or matrix product."""
    shape = want.weights_of(group.anchor).shape
    return int(shape[1] if want.is_matrix(group) else shape[0])
