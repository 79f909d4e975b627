"""What becomes of a value: operations on the float32 of a thread's channel, and stores by the whole warp."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.cuda.elements import Elements, Pixel, number_of, parameter
from qcompiler.targets.cuda.emit import fenced, registers, write
from qcompiler.targets.cuda.lanes import Lanes
from qcompiler.targets.problem import (
    Channel,
    Conv2d,
    Operation,
    Problem,
    Scalar,
    ScalarOperation,
    Tensor,
    outputs_of,
    tensors_of,
)
from qcompiler.targets.standard_op import Expr, Parameter
from qcompiler.targets.target import Array, Constants

_ARITHMETIC = {"mul": operator.mul, "add": operator.add, "sub": operator.sub, "div": operator.truediv}


@dataclass(frozen=True)
class Epilogue:
    """The epilogue of a problem, whose channels lie on threads as `lanes` says."""

    problem: Problem
    lanes: Lanes

    @property
    def operations(self) -> tuple[Operation, ...]:
        """In their order; a pool of codes and a move have none."""
        return self.problem.epilogue

    @property
    def counts(self) -> bool:
        """Whether it counts thresholds."""
        return bool(self.operations) and self.operations[0].op == "threshold"

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """float32 [levels - 1, threads] of thresholds, [threads] of directions, then [threads] per channel operand."""
        steps = (constants.threshold, constants.direction) if self.counts else ()
        return tuple(
            self.lanes.spread(np.asarray(array, np.float32))
            for array in (*steps, *constants.channels)
            if array is not None
        )

    def constants(self) -> list[Parameter]:
        """The pointers to what `pack` makes."""
        found: list[Parameter] = []
        size = self.lanes.size
        if self.counts:
            into = self.operations[0].into
            assert into is not None and into.codes is not None
            found.append(Parameter("thresholds", "float32", (into.codes.levels - 1) * size, 64))
            found.append(Parameter("directions", "float32", size, 64))
        used = sum(isinstance(operation.operand, Channel) for operation in self.operations)
        return found + [Parameter(f"channel{index}", "float32", size, 64) for index in range(used)]

    def memory(self) -> list[Parameter]:
        """The pointers to run-time tensors, first the right operand of a product, and outputs."""
        second = self.problem.second if isinstance(self.problem, Conv2d) else None
        tensors = [
            parameter(f"tensor{i}", buffer, words=i == 0 and second is not None)
            for i, buffer in enumerate(tensors_of(self.problem))
        ]
        return tensors + [parameter(f"out{i}", buffer) for i, buffer in enumerate(outputs_of(self.problem))]

    def emit(self, buffers: Sequence[Expr], pixel: Pixel, block: Expr, lane: Expr, value: Expr) -> None:
        """Run it in all threads of a warp; buffers: of `constants` and `memory`. value: float32 of the channel."""
        _Emission(self, buffers, pixel, block, lane).run(value)


def after(operations: Sequence[ScalarOperation], v: Expr) -> Expr:
    """A number after what it goes through before it is used."""
    for operation in operations:
        v = T.bind(_applied(operation.op, v, None if operation.operand is None else _scalar(operation.operand)))
    return v


def _scalar(operand: Scalar) -> Expr:
    return fenced(T.float32(float(np.float32(operand.value))))


def _applied(op: str, v: Expr, operand: Expr | None) -> Expr:
    """One float operation; see `targets.problem.Operation`."""
    if op == "round":
        return T.call_pure_extern("float32", "rintf", v)
    if op == "sign":
        zero = T.float32(0)
        return T.Select(v > zero, T.float32(1), T.Select(v < zero, T.float32(-1), v))
    assert operand is not None
    if op in ("max", "min"):
        return fenced(T.Select(v < operand if op == "max" else v > operand, operand, v))
    if op == "prelu":
        return fenced(T.Select(v >= T.float32(0), v, fenced(v * operand)))
    return fenced(_ARITHMETIC[op](v, operand))


class _Emission:
    """What one thread emits for one pixel."""

    def __init__(self, epilogue: Epilogue, buffers: Sequence[Expr], pixel: Pixel, block: Expr, lane: Expr) -> None:
        self.epilogue, self.lanes = epilogue, epilogue.lanes
        self.pixel, self.block, self.lane = pixel, block, lane
        self.thread = T.bind(block * 32 + lane)
        count, tensors = len(epilogue.constants()), tensors_of(epilogue.problem)
        self.constants = iter(buffers[:count])
        held = [*tensors, *outputs_of(epilogue.problem)]
        memory = [Elements(buffer, data) for buffer, data in zip(held, buffers[count:], strict=True)]
        self.tensors, self.outputs = iter(memory[: len(tensors)]), iter(memory[len(tensors) :])
        if isinstance(epilogue.problem, Conv2d) and epilogue.problem.second is not None:
            next(self.tensors)

    def run(self, v: Expr) -> None:
        """All operations, then nothing is left of the value."""
        for operation in self.epilogue.operations:
            if operation.into is None:
                v = T.bind(_applied(operation.op, v, self._operand(operation)))
            else:
                self._store(operation, next(self.outputs), v)

    def _operand(self, operation: Operation) -> Expr | None:
        if operation.operand is None:
            return None
        if isinstance(operation.operand, Scalar):
            return _scalar(operation.operand)
        if isinstance(operation.operand, Channel):
            return T.bind(next(self.constants)[self.thread])
        assert isinstance(operation.operand, Tensor)
        held = next(self.tensors)
        channel = T.int32(0) if held.buffer.c == 1 else self.lanes.channel(self.block, self.lane)
        return after(operation.operand.through, held.number(self.pixel, channel))

    def _store(self, operation: Operation, into: Elements, v: Expr) -> None:
        if operation.op == "store":
            into.store_numbers(self.lanes, self.pixel, self.block, self.lane, v)
            return
        codes = into.buffer.codes
        assert codes is not None
        if operation.op == "store_bits":
            index = T.Cast("int32", v >= T.float32(0) if operation.zero_is_positive else v > T.float32(0))
        else:
            index = self._reached(codes.levels - 1, v) if operation.op == "threshold" else number_of(codes, v)
        into.store_codes(self.lanes, self.pixel, self.block, self.lane, T.bind(index))

    def _reached(self, count: int, v: Expr) -> Expr:
        """int32: how many thresholds the value has reached."""
        thresholds, directions = next(self.constants), next(self.constants)
        direction = T.bind(directions[self.thread])
        reached = registers("int32", 1, T.int32(0))
        with T.serial(0, count) as level:
            distance = fenced(v - thresholds[level * self.lanes.size + self.thread])
            write(reached, reached[0] + T.Cast("int32", direction * distance >= T.float32(0)), 0)
        return reached[0]
