"""Elementwise chains whose buffers all hold one plane per channel: sixteen pixels of a row at a time.

One work item is one row of one plane; it writes its share of every halo as `halo` does, plane by plane.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.storage import Buffer
from qcompiler.targets.problem import Map2d, Operation, Scalar, Tensor, outputs_of, tensors_of
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.by_items import ByItems
from qcompiler.targets.vector.emit import (
    LANES,
    Expr,
    Parameter,
    View,
    fenced,
    i64,
    lanes,
    prim_func,
    splat,
    split,
    write,
    write_first,
)
from qcompiler.targets.vector.epilogue import (
    BoundEpilogue,
    after_operations,
    apply_operation,
    channel_parameters,
    memory_parameters,
    pack_channels,
    scalar_lanes,
)


def is_planar(problem: Map2d) -> bool:
    """Whether input, run-time operands and outputs are all float32 planes."""
    buffers = [problem.x, *tensors_of(problem), *outputs_of(problem)]
    return all(not b.packed and (b.order == "nchw" or b.c == 1) for b in buffers)


@dataclass(frozen=True)
class Pixels:
    """Pixels of a row, sixteen or `count`: plane (image * channels + channel), row, first pixel."""

    plane: Expr
    y: Expr
    x: Expr
    count: int


@dataclass(frozen=True)
class PlanarMap2d(ByItems):
    """An elementwise chain over planes; see `qcompiler.targets.target.Kernel`."""

    problem: Map2d
    cost: float

    @property
    def name(self) -> str:
        """Family."""
        return "map2d_planar"

    @property
    def items(self) -> int:
        """Rows of all planes."""
        x = self.problem.x
        return x.n * x.c * x.h

    @property
    def _blocks(self) -> Blocks:
        return Blocks(self.problem.x.c)

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """Channel constants of the epilogue."""
        return tuple(pack_channels(self.problem.epilogue, constants, self._blocks))

    def build(self, name: str) -> Any:
        """The PrimFunc."""
        channels = channel_parameters(self.problem.epilogue, self._blocks)
        x = Parameter("x", "float32", self.problem.x.nbytes // 4, 4)

        def body(buffers: list[Expr], item: Expr) -> None:
            split_at = 1 + len(channels)
            epilogue = BoundEpilogue.bind(self.problem, self._blocks, buffers[1:split_at], buffers[split_at:])
            self._row(buffers[0], epilogue, item)

        return prim_func(name, [x, *channels, *memory_parameters(self.problem)], body)

    def _row(self, data: Expr, epilogue: BoundEpilogue, item: Expr) -> None:
        """One row with its share of the halos."""
        x = self.problem.x
        plane, y = (T.bind(part) for part in split(item, x.h))
        for target in epilogue.targets:
            if target is not None:
                _emit_halo(target.buffer, target.data, plane, y)
        with T.serial(i64(0), i64(-(-x.w // LANES))) as block:
            count = min(x.w, LANES)
            self._pixels(data, epilogue, Pixels(plane, y, T.bind(T.min(block * LANES, i64(x.w - count))), count))

    def _pixels(self, data: Expr, epilogue: BoundEpilogue, at: Pixels) -> None:
        """Pixels through all operations."""
        v = T.bind(fenced(_load(self.problem.x, data, at)))
        for operation, operand, target in zip(epilogue.operations, epilogue.operands, epilogue.targets, strict=True):
            if target is not None:
                _store(target.buffer, target.data, at, v)
            else:
                v = T.bind(apply_operation(operation.op, v, self._operand(operation, operand, at)))

    def _operand(self, operation: Operation, operand: Expr | View | None, at: Pixels) -> Expr | None:
        """The operand of an operation as float32x16, if it has one."""
        if operation.operand is None:
            return None
        if isinstance(operation.operand, Scalar):
            return scalar_lanes(operation.operand)
        image, channel = split(at.plane, self.problem.x.c)
        if not isinstance(operand, View):
            assert operand is not None
            return splat(operand[channel])
        assert isinstance(operation.operand, Tensor)
        shared = operand.buffer.c == 1
        value = _load(operand.buffer, operand.data, replace(at, plane=image) if shared else at)
        return after_operations(value, operation.operand.through)


def _offset(buffer: Buffer, plane: Expr, y: Expr, x: Expr) -> Expr:
    """Flat index of a pixel of a plane."""
    return (plane * buffer.height + (y + buffer.halo.top)) * buffer.width + (x + buffer.halo.left)


def _load(buffer: Buffer, data: Expr, at: Pixels) -> Expr:
    """Sixteen pixels, float32x16; 0 beyond those that there are."""
    index = lanes(_offset(buffer, at.plane, at.y, at.x))
    if at.count == LANES:
        return data[index]
    return T.masked_load("float32x16", data, index, lanes(0) < splat(T.int64(at.count)))


def _store(buffer: Buffer, data: Expr, at: Pixels, v: Expr) -> None:
    """Write the pixels."""
    write_first(data, v, _offset(buffer, at.plane, at.y, at.x), at.count)


def _emit_halo(buffer: Buffer, data: Expr, plane: Expr, y: Expr) -> None:
    """The ends of row y; above the first and below the last row of a plane, all rows."""
    halo, value = buffer.halo, T.bind(fenced(T.float32(buffer.halo_value), 1))

    def fill(first: Expr, count: int) -> None:
        if count:
            with T.serial(i64(0), i64(count)) as i:
                write(data, value, first + i)

    fill(_offset(buffer, plane, y, i64(-halo.left)), halo.left)
    fill(_offset(buffer, plane, y, i64(buffer.w)), halo.right)
    if halo.top:
        with T.If(y == 0), T.Then():
            fill(_offset(buffer, plane, i64(-halo.top), i64(-halo.left)), halo.top * buffer.width)
    if halo.bottom:
        with T.If(y == buffer.h - 1), T.Then():
            fill(_offset(buffer, plane, i64(buffer.h), i64(-halo.left)), halo.bottom * buffer.width)
