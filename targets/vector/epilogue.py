"""The operations that turn accumulators into stored outputs, for every kernel family.

Each float operation rounds to float32 on its own: results pass through an arithmetic fence, because the code generator
would otherwise contract products with a following addition, and simplify sums with constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.targets.problem import (
    Channel,
    Operation,
    Problem,
    Scalar,
    ScalarOperation,
    Tensor,
    outputs_of,
    tensors_of,
)
from qcompiler.targets.target import Constants
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.code_lanes import load_codes, store_numbers
from qcompiler.targets.vector.emit import (
    LANES,
    Expr,
    Parameter,
    View,
    block_parameter,
    block_view,
    fenced,
    i64,
    lanes,
    mask_bits,
    splat,
    temporary,
    whole_or_rest,
    write,
    write_first,
)
from qcompiler.targets.vector.halo import emit_halo
from qcompiler.targets.vector.landing import clipped, landing
from qcompiler.targets.vector.threshold import (
    Compared,
    pack_thresholds,
    read_limits,
    threshold_count,
    threshold_parameters,
)

Pixel = tuple[Expr, Expr, Expr]


def is_threshold(operations: Sequence[Operation]) -> bool:
    """Whether the epilogue compares integer accumulators."""
    return bool(operations) and operations[0].op == "threshold"


def channel_parameters(operations: Sequence[Operation], blocks: Blocks) -> list[Parameter]:
    """One packed constant per `Channel` operand, float32 [blocks * 16], or those of thresholds."""
    if is_threshold(operations):
        return threshold_parameters(operations[0], blocks, 1, "float32")
    used = [i for i, operation in enumerate(operations) if isinstance(operation.operand, Channel)]
    return [Parameter(f"channel{i}", "float32", blocks.count * LANES, 64) for i in used]


def memory_parameters(problem: Problem) -> list[Parameter]:
    """Run-time tensors, then outputs."""
    names = [(f"tensor{i}", b) for i, b in enumerate(tensors_of(problem))]
    names += [(f"out{i}", b) for i, b in enumerate(outputs_of(problem))]
    return [block_parameter(name, buffer) for name, buffer in names]


def pack_channels(operations: Sequence[Operation], constants: Constants, blocks: Blocks) -> list[npt.NDArray[Any]]:
    """The arrays for `channel_parameters`; padding lanes hold 1, harmless for every operation."""
    if not operations:
        return []
    if is_threshold(operations):
        return pack_thresholds(constants, blocks, np.zeros((1, blocks.channels), np.int64), np.float32)
    return [blocks.spread(values.astype(np.float32), 1.0) for values in constants.channels]


@dataclass(frozen=True)
class BoundEpilogue:
    """The epilogue of one kernel function, bound to its parameters."""

    operations: tuple[Operation, ...]
    blocks: Blocks
    operands: tuple[Expr | View | None, ...]
    targets: tuple[View | None, ...]
    thresholds: tuple[Expr, ...] = ()

    @staticmethod
    def bind(problem: Problem, blocks: Blocks, channels: Sequence[Expr], memory: Sequence[Expr]) -> BoundEpilogue:
        """Hand out the buffers of `channel_parameters` and `memory_parameters` to the operations.

        channels: none where what comes ahead of the epilogue makes use of the constants.
        """
        operations, channel, rest = problem.epilogue, iter(channels), iter(memory)
        operands: list[Expr | View | None] = []
        for operation in operations:
            if isinstance(operation.operand, Channel):
                operands.append(next(channel, None))
            elif isinstance(operation.operand, Tensor):
                operands.append(block_view(operation.operand.buffer, next(rest)))
            else:
                operands.append(None)
        targets = tuple(block_view(s.into, next(rest)) if s.into is not None else None for s in operations)
        return BoundEpilogue(tuple(operations), blocks, tuple(operands), targets, tuple(channel))

    def emit(self, pixel: Pixel, block: Expr, value: Expr) -> None:
        """Run all operations on `value`, float32x16, the channels of `block` at output pixel (n, y, x)."""
        v = T.bind(value)
        signs: dict[bool, Expr] = {}
        end = landing(self.operations)
        taken = len(self.operations if end is None else end.before)
        for operation, operand, target in zip(
            self.operations[:taken], self.operands[:taken], self.targets[:taken], strict=True
        ):
            if target is None:
                given = self._operand(operation, operand, pixel, block)
                v, signs = T.bind(apply_operation(operation.op, v, given)), {}
            elif operation.op == "store":
                self._store(target, pixel, block, v)
            elif operation.op == "threshold":
                self._store_counts(pixel, block, v)
            elif operation.op == "store_codes":
                self._store_codes(target, pixel, block, v)
            elif not target.buffer.in_planes:
                self.store_signs(target, pixel, block, _positive(v, operation.zero_is_positive))
            else:
                if operation.zero_is_positive not in signs:
                    signs[operation.zero_is_positive] = _signs(v, operation.zero_is_positive)
                self.store_mask(target, pixel, block, signs[operation.zero_is_positive])
        if end is not None:
            target = self.targets[-1]
            assert target is not None
            self._store_indices(target, pixel, block, end.indices(v))

    def _store_counts(self, pixel: Pixel, block: Expr, v: Expr) -> None:
        """Compare v with the thresholds, and write the codes that count them."""
        limits, turned = self.thresholds
        size = self.blocks.count * LANES
        each = read_limits(limits, block * LANES, size, threshold_count(self.operations[0]))
        self.store_counts(pixel, block, Compared(v, each, turned[block]))

    def store_counts(self, pixel: Pixel, block: Expr, compared: Compared) -> None:
        """Write the codes that count thresholds, into the buffer of the last operation."""
        target = self.targets[-1]
        assert target is not None
        if not target.buffer.in_planes:
            store_numbers(target, self.blocks, pixel, block, compared.counts())
            return
        for plane, mask in enumerate(compared.planes()):
            for first in range(0, compared.channels, LANES):
                bits = T.Cast("uint16", mask >> first) if first else T.Cast("uint16", mask)
                self.store_mask(target, pixel, block + first // LANES, bits, plane=plane)

    def _store_codes(self, target: View, pixel: Pixel, block: Expr, v: Expr) -> None:
        """Write sixteen codes; what is no number becomes the lowest."""
        assert target.buffer.codes is not None
        self._store_indices(target, pixel, block, numbers_of(target.buffer.codes, v))

    def _store_indices(self, target: View, pixel: Pixel, block: Expr, numbers: Expr) -> None:
        """Write the codes of sixteen numbers, int32x16."""
        index = temporary("int32")
        write(index, numbers, lanes(0))
        if not target.buffer.in_planes:
            store_numbers(target, self.blocks, pixel, block, index[lanes(0)])
            return
        for plane in range(target.buffer.planes):
            bit = index[lanes(0)] & splat(T.int32(1 << plane))
            mask = temporary("uint16", 1)
            write(mask, mask_bits(bit != splat(T.int32(0))), i64(0))
            self.store_mask(target, pixel, block, mask[i64(0)], plane=plane)

    def store_signs(
        self, target: View, pixel: Pixel, block: Expr, positive: Expr, *, padding_clear: bool = False
    ) -> None:
        """Write the codes of sixteen signs: +1 where `positive`."""
        if not target.buffer.in_planes:
            index = T.Select(positive, splat(T.int32(1)), splat(T.int32(0)))
            store_numbers(target, self.blocks, pixel, block, index)
        else:
            self.store_mask(target, pixel, block, mask_bits(positive), padding_clear=padding_clear)

    def store_mask(
        self, target: View, pixel: Pixel, block: Expr, mask: Expr, *, plane: int = 0, padding_clear: bool = False
    ) -> None:
        """Write sixteen bits of a plane, and clear the half after them if it only holds padding.

        padding_clear: the bits of padding lanes are known to be 0.
        """
        if self.blocks.ragged and not padding_clear:
            valid = T.Cast("uint16", T.shift_left(T.int32(1), T.Cast("int32", self.blocks.valid(block))) - 1)
            mask = mask & valid
        half, last = self.blocks.half(block, target.buffer)
        at = T.bind(target.half_offset(pixel, half, plane))
        write(target.data, mask, at)
        if last is not None:
            with T.If(last), T.Then():
                write(target.data, T.uint16(0), at + 1)

    def emit_halos(self, n: Expr, y: Expr, block: Expr, height: int) -> None:
        """Write what output row y owns of every halo: its two ends; the first and last rows also what lies beyond."""
        for target in self.targets:
            if target is not None:
                emit_halo(target, self.blocks, n, y, block, height)

    def _operand(self, operation: Operation, operand: Expr | View | None, pixel: Pixel, block: Expr) -> Expr | None:
        """The operand of an operation as float32x16, if it has one."""
        if operation.operand is None:
            return None
        if isinstance(operation.operand, Scalar):
            return scalar_lanes(operation.operand)
        if not isinstance(operand, View):
            assert operand is not None
            return operand[lanes(block * LANES)]
        assert isinstance(operation.operand, Tensor)
        return after_operations(self._loaded(operand, pixel, block), operation.operand.through)

    def _loaded(self, operand: View, pixel: Pixel, block: Expr) -> Expr:
        """A run-time operand as it lies in memory, float32x16."""
        if operand.buffer.packed:
            return load_codes(operand, self.blocks, pixel, block)
        if operand.buffer.c == 1:
            return splat(operand.data[operand.offset(*pixel, i64(0))])
        return load_lanes(operand, self.blocks, pixel, block)

    def _store(self, target: View, pixel: Pixel, block: Expr, v: Expr) -> None:
        """Write the channels of a block at one pixel."""
        first = self.blocks.first(block)

        def store(count: int) -> None:
            if target.channels_last:
                write_first(target.data, v, T.bind(target.offset(*pixel, first)), count)
                return
            for lane in range(count):
                write(target.data, T.Shuffle([v], [lane]), target.offset(*pixel, first + lane))

        whole_or_rest(self.blocks.last(block) if self.blocks.ragged else None, LANES, self.blocks.rest, store)


def load_lanes(view: View, blocks: Blocks, pixel: Pixel, block: Expr) -> Expr:
    """The channels of a block at one pixel of a float32 buffer, float32x16; padding lanes hold 0 or repeat."""
    first = blocks.first(block)
    if view.channels_last:
        at = lanes(view.offset(*pixel, first))
        if blocks.ragged:
            return T.masked_load("float32x16", view.data, at, blocks.lane_mask(block))
        return view.data[at]
    gathered = temporary("float32")
    if blocks.ragged:
        write(gathered, splat(T.float32(0)), lanes(0))
    with T.serial(i64(0), blocks.valid(block)) as lane:
        write(gathered, view.data[view.offset(*pixel, first + lane)], lane)
    return gathered[lanes(0)]


def numbers_of(codes: Codes, v: Expr) -> Expr:
    """The numbers, int32x16, of codes that are float32x16; of what is no number the lowest."""
    distance = fenced(clipped(v, codes.low, codes.high) - splat(T.float32(codes.low)))
    return T.Cast("int32x16", distance if codes.step == 1 else distance / splat(T.float32(codes.step)))


def _held(op: str, v: Expr) -> Expr:
    """The operand of an operation that mentions it more than once, as a variable that hides what it holds.

    TVM's analyzer replaces bound variables by what they are bound to: n such operations give 2^n terms.
    """
    if op in ("mul", "add", "sub", "div"):
        return v
    place = temporary("float32")
    write(place, v, lanes(0))
    return place[lanes(0)]


def _signs(v: Expr, zero_is_positive: bool) -> Expr:
    """uint16 of the signs of float32x16, compared once: TVM's analyzer knows no variables that hold a comparison."""
    mask = temporary("uint16", 1)
    write(mask, mask_bits(_positive(v, zero_is_positive)), i64(0))
    return mask[i64(0)]


def _positive(v: Expr, zero_is_positive: bool) -> Expr:
    """Which of float32x16 are positive."""
    zero = splat(T.float32(0))
    return v >= zero if zero_is_positive else v > zero


def rounded(v: Expr) -> Expr:
    """float32x16 rounded to integers, halves to even, without a call: between 2^23 and 2^24 floats have no fraction."""
    top = splat(T.float32(2.0**23))
    bits = T.reinterpret("uint32x16", v)
    magnitude = T.bind(T.reinterpret("float32x16", bits & splat(T.uint32(0x7FFFFFFF))))
    whole = T.Select(magnitude < top, fenced(fenced(magnitude + top) - top), magnitude)
    sign = bits & splat(T.uint32(0x80000000))
    return T.reinterpret("float32x16", T.reinterpret("uint32x16", whole) | sign)


def scalar_lanes(operand: Scalar) -> Expr:
    """A constant in every lane."""
    return splat(T.float32(float(np.float32(operand.value))))


def after_operations(v: Expr, operations: Sequence[ScalarOperation]) -> Expr:
    """An operand, float32x16, after what it goes through."""
    for operation in operations:
        v = T.bind(
            apply_operation(operation.op, v, None if operation.operand is None else scalar_lanes(operation.operand))
        )
    return v


def apply_operation(op: str, v: Expr, operand: Expr | None) -> Expr:
    """One operation in float32; selections keep v unless the operand is strictly better, as the reference does."""
    v = _held(op, v)
    if op == "round":
        return rounded(v)
    if op == "sign":
        zero, one = splat(T.float32(0)), splat(T.float32(1))
        return T.Select(v > zero, one, T.Select(v < zero, splat(T.float32(-1)), v))
    assert operand is not None
    if op == "mul":
        return fenced(v * operand)
    if op == "add":
        return fenced(v + operand)
    if op == "sub":
        return fenced(v - operand)
    if op == "div":
        return fenced(v / operand)
    if op == "max":
        return T.Select(v < operand, operand, v)
    if op == "min":
        return T.Select(v > operand, operand, v)
    return fenced(T.Select(v >= splat(T.float32(0)), v, v * operand))
