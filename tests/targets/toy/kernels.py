"""The kernels of the toy: a block computes an output pixel, a thread of it a channel.

In the first phase a thread runs the epilogue on its channel and leaves what is stored in memory of the block; in the
second, threads write the channels next to each other, or whole words of codes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import WORD_BITS, words_for
from qcompiler.ir.program import LaunchGrid
from qcompiler.ir.storage import Buffer, Halo, pack
from qcompiler.targets.problem import (
    Channel,
    Conv2d,
    Move2d,
    Operation,
    Pool2d,
    Problem,
    Scalar,
    ScalarOperation,
    Tensor,
    outputs_of,
    tensors_of,
)
from qcompiler.targets.standard_op import Expr, Parameter
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.emit import View, fenced, float_view, i64, temporary, word_view, write
from tests.targets.toy.platform import Place, device_function

_ARITHMETIC = {"mul": operator.mul, "add": operator.add, "sub": operator.sub, "div": operator.truediv}


@dataclass(frozen=True)
class PixelKernel:
    """Any problem; see `qcompiler.targets.target.Kernel`."""

    problem: Problem

    @property
    def name(self) -> str:
        """What it computes."""
        return f"toy_{type(self.problem).__name__.lower()}"

    @property
    def cost(self) -> float:
        """Nobody has measured it."""
        return float(self.pixels * self.channels)

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.problem.out_channels if isinstance(self.problem, Conv2d) else self.problem.x.c

    @property
    def out_hw(self) -> tuple[int, int]:
        """Output height and width."""
        x = self.problem.x
        return self.problem.out_hw if isinstance(self.problem, Conv2d | Pool2d) else (x.h, x.w)

    @property
    def pixels(self) -> int:
        """Output pixels."""
        return self.problem.x.n * self.out_hw[0] * self.out_hw[1]

    @property
    def launch(self) -> LaunchGrid:
        """A block per pixel, a thread per channel, and a float per channel and output that the threads share."""
        height, width = self.out_hw
        shared = 4 * self.channels * len(self.writes)
        return LaunchGrid((width, height, self.problem.x.n), (self.channels, 1, 1), shared)

    @property
    def reads(self) -> tuple[Buffer, ...]:
        """What the problem reads."""
        return (self.problem.x, *tensors_of(self.problem))

    @property
    def writes(self) -> tuple[Buffer, ...]:
        """What the problem writes."""
        return outputs_of(self.problem)

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """Weights, thresholds and directions, flips, channel operands: as they are, int32 where they are codes."""
        exact = np.int32 if self.problem.x.packed else np.float32
        weights = None if constants.weights is None else constants.weights.astype(exact)
        bias = None
        if isinstance(self.problem, Conv2d) and self.problem.x.packed:
            bias = (np.zeros(self.channels) if constants.bias is None else constants.bias).astype(np.int32)
        steps = (constants.threshold, constants.direction) if self._counts else ()
        flip = constants.flip if self._pools_codes else None
        return tuple(a for a in (weights, bias, *steps, flip, *constants.channels) if a is not None)

    @property
    def _counts(self) -> bool:
        return bool(self.problem.epilogue) and self.problem.epilogue[0].op == "threshold"

    @property
    def _pools_codes(self) -> bool:
        return isinstance(self.problem, Pool2d) and self.problem.into is not None

    def build(self, name: str) -> Any:
        """Two phases."""
        problem, size = self.problem, self.channels
        x = problem.x
        exact = "int32" if x.packed else "float32"
        constants: list[Parameter] = []
        if isinstance(problem, Conv2d):
            taps = problem.kernel[0] * problem.kernel[1] * (x.c // problem.groups)
            constants.append(Parameter("weights", exact, size * taps, 64))
            if x.packed:
                constants.append(Parameter("bias", "int32", size, 64))
        if self._counts:
            into = problem.epilogue[0].into
            assert into is not None and into.codes is not None
            constants.append(Parameter("thresholds", "float32", (into.codes.levels - 1) * size, 64))
            constants.append(Parameter("directions", "float32", size, 64))
        if self._pools_codes:
            constants.append(Parameter("flips", "float32", size, 64))
        used = sum(isinstance(operation.operand, Channel) for operation in problem.epilogue)
        constants += [Parameter(f"channel{i}", "float32", size, 64) for i in range(used)]
        memory = [("x", x), *((f"t{i}", b) for i, b in enumerate(tensors_of(problem)))]
        memory += [(f"out{i}", b) for i, b in enumerate(self.writes)]
        first, *others = [Parameter(n, "uint32" if b.packed else "float32", b.nbytes // 4, 4) for n, b in memory]
        parameters = [first, *constants, *others]

        def body(buffers: list[Expr], shared: Expr, place: Place) -> None:
            split = 1 + len(constants)
            threads = _Thread(self, buffers[0], buffers[1:split], buffers[split:], shared, place)
            with T.If(place.phase == 0):
                with T.Then():
                    threads.compute()
                with T.Else():
                    threads.store()

        return device_function(name, parameters, body, shared_floats=size * len(self.writes), phases=2)


def pixel_kernels(machine: object, problem: Problem) -> Iterator[PixelKernel]:
    """The one family."""
    if not isinstance(problem, Move2d):
        yield PixelKernel(problem)


KERNELS = (pixel_kernels,)


class _Thread:
    """What one thread emits."""

    def __init__(
        self, kernel: PixelKernel, x: Expr, constants: list[Expr], memory: list[Expr], shared: Expr, place: Place
    ) -> None:
        self.kernel, self.problem, self.shared = kernel, kernel.problem, shared
        self.c, self.pixel, self.x = place.thread, (place.z, place.y, place.x), _view(kernel.problem.x, x)
        self.constants = iter(constants)
        tensors = tensors_of(self.problem)
        self.tensors = iter([_view(b, data) for b, data in zip(tensors, memory, strict=False)])
        self.outputs = [_view(b, data) for b, data in zip(kernel.writes, memory[len(tensors) :], strict=True)]

    def compute(self) -> None:
        """The channel's value through all operations."""
        if isinstance(self.problem, Conv2d):
            value = self._convolved(self.problem)
        elif isinstance(self.problem, Pool2d):
            value = self._pooled(self.problem)
        else:
            value = self._read(*self.pixel, self.c)
        if self.kernel._pools_codes:
            write(self.shared, value, self.c)
            return
        stored = 0
        for operation in self.problem.epilogue:
            if operation.into is None:
                value = T.bind(self._operation(operation, value))
                continue
            write(self.shared, self._stored(operation, operation.into, value), stored * self.kernel.channels + self.c)
            stored += 1

    def _convolved(self, problem: Conv2d) -> Expr:
        """float32: the sum of products of codes or floats; what lies outside of the image is `pad_value`."""
        weights, dtype = next(self.constants), "int32" if problem.x.packed else "float32"
        per_group, (kh, kw) = problem.x.c // problem.groups, problem.kernel
        first = T.bind(T.truncdiv(self.c, i64(problem.out_channels // problem.groups)) * per_group)
        total = temporary(dtype, 1)
        write(total, next(self.constants)[self.c] if problem.x.packed else T.float32(0), i64(0))

        def tap(y: Expr, x: Expr, i: Expr, j: Expr, inside: Expr) -> None:
            with T.serial(i64(0), i64(per_group)) as channel:
                weight = weights[((self.c * per_group + channel) * kh + i) * kw + j]

                def add(v: Expr) -> None:
                    product = T.Cast(dtype, v) * weight
                    write(
                        total,
                        fenced(total[i64(0)] + product, 1) if dtype == "float32" else total[i64(0)] + product,
                        i64(0),
                    )

                with T.If(inside):
                    with T.Then():
                        add(self._read(self.pixel[0], y, x, first + channel))
                    with T.Else():
                        add(T.float32(problem.pad_value))

        self._window(problem, tap)
        return T.bind(T.Cast("float32", total[i64(0)]))

    def _pooled(self, problem: Pool2d) -> Expr:
        """float32: the largest or the average of a window."""
        start, flip = T.float32(-inf), T.float32(1)
        if problem.kind == "codes":
            codes = problem.x.codes
            assert codes is not None
            flip = T.bind(next(self.constants)[self.c])
            start = T.Select(flip > T.float32(0), T.float32(codes.low), T.float32(-codes.high))
        average = problem.kind.startswith("average")
        sums = average or problem.kind == "sum"
        total, count = temporary("float32", 1), temporary("float32", 1)
        write(total, T.float32(0) if sums else start, i64(0))
        write(count, T.float32(0), i64(0))
        top, left, bottom, right = problem.pads

        def tap(y: Expr, x: Expr, i: Expr, j: Expr, inside: Expr) -> None:
            declared = inside
            if problem.kind == "average_include_pad":
                declared = T.And(T.And(y >= -top, y < problem.x.h + bottom), T.And(x >= -left, x < problem.x.w + right))
            with T.If(declared), T.Then():
                write(count, count[i64(0)] + T.float32(1), i64(0))
            with T.If(inside), T.Then():
                v = T.bind(flip * self._after(problem.through, self._read(self.pixel[0], y, x, self.c)))
                best = T.bind(total[i64(0)])
                write(total, fenced(best + v, 1) if sums else T.Select(best < v, v, best), i64(0))

        self._window(problem, tap)
        if average:
            return T.bind(fenced(total[i64(0)] / T.max(count[i64(0)], T.float32(1)), 1))
        return T.bind(flip * total[i64(0)])

    def _window(self, problem: Conv2d | Pool2d, tap: Callable[..., None]) -> None:
        """tap(y, x, i, j, inside) for all taps of the pixel's window."""
        (top, left, _, _), (sh, sw), (dh, dw) = problem.pads, problem.strides, problem.dilations
        with T.serial(i64(0), i64(problem.kernel[0])) as i, T.serial(i64(0), i64(problem.kernel[1])) as j:
            y = T.bind(self.pixel[1] * sh + i * dh - top)
            x = T.bind(self.pixel[2] * sw + j * dw - left)
            inside = T.And(T.And(y >= 0, y < problem.x.h), T.And(x >= 0, x < problem.x.w))
            tap(y, x, i, j, inside)

    def _read(self, n: Expr, y: Expr, x: Expr, c: Expr) -> Expr:
        """float32: an element of the input."""
        return self._element(self.x, n, y, x, c)

    @staticmethod
    def _element(view: View, n: Expr, y: Expr, x: Expr, c: Expr) -> Expr:
        """float32: an element of a buffer."""
        buffer = view.buffer
        if buffer.codes is None:
            return T.bind(view.data[view.offset(n, y, x, c)])
        word, bit = _place_of(buffer, c)
        index: Expr = T.int32(0)
        for plane in range(buffer.planes):
            held = view.data[view.offset(n, y, x, word * buffer.planes + plane)]
            index = index + (T.Cast("int32", T.shift_right(held, T.Cast("uint32", bit)) & T.uint32(1)) << plane)
        return T.bind(T.Cast("float32", buffer.codes.low + buffer.codes.step * index))

    def _operation(self, operation: Operation, v: Expr) -> Expr:
        """One float operation."""
        if operation.op == "round":
            return T.call_llvm_pure_intrin("float32", "llvm.rint", v)
        if operation.op == "sign":
            zero = T.float32(0)
            return T.Select(v > zero, T.float32(1), T.Select(v < zero, T.float32(-1), v))
        operand = self._operand(operation)
        if operation.op in ("max", "min"):
            # else TVM's simplifier ends in an error where something is divided by it, or it by something
            return fenced(T.Select(v < operand if operation.op == "max" else v > operand, operand, v), 1)
        if operation.op == "prelu":
            return fenced(T.Select(v >= T.float32(0), v, v * operand), 1)
        return fenced(_ARITHMETIC[operation.op](v, operand), 1)

    def _operand(self, operation: Operation) -> Expr:
        if isinstance(operation.operand, Scalar):
            # else TVM's simplifier would make 0 of a product with 0
            return fenced(T.float32(float(np.float32(operation.operand.value))), 1)
        if isinstance(operation.operand, Channel):
            return next(self.constants)[self.c]
        assert isinstance(operation.operand, Tensor)
        view = next(self.tensors)
        v = self._element(view, *self.pixel, i64(0) if view.buffer.c == 1 else self.c)
        return self._after(operation.operand.through, v)

    def _after(self, operations: Sequence[ScalarOperation], v: Expr) -> Expr:
        """A number after what it goes through before it is used."""
        for operation in operations:
            v = T.bind(self._operation(Operation(operation.op, operation.operand), v))
        return v

    def _stored(self, operation: Operation, into: Buffer, v: Expr) -> Expr:
        """float32: what a store writes, a code or a number."""
        if operation.op == "store":
            return v
        if operation.op == "store_bits":
            positive = v >= T.float32(0) if operation.zero_is_positive else v > T.float32(0)
            return T.Select(positive, T.float32(1), T.float32(-1))
        assert into.codes is not None
        if operation.op == "store_codes":
            return T.Select(v > T.float32(into.codes.low), v, T.float32(into.codes.low))
        thresholds, directions = next(self.constants), next(self.constants)
        count: Expr = T.int32(0)
        for level in range(into.codes.levels - 1):
            distance = fenced(v - thresholds[self.c + level * self.kernel.channels], 1)
            count = count + T.Cast("int32", directions[self.c] * distance >= T.float32(0))
        return T.Cast("float32", into.codes.low + into.codes.step * count)

    def store(self) -> None:
        """A float of every output that holds floats, a word of every one that holds codes; the first block the halo."""
        for number, view in enumerate(self.outputs):
            first, buffer = number * self.kernel.channels, view.buffer
            if buffer.codes is None:
                write(view.data, self.shared[first + self.c], view.offset(*self.pixel, self.c))
            else:
                words = buffer.words // buffer.planes
                with T.If(self.c < words), T.Then():
                    self._store_word(view, buffer, buffer.codes, first)
            self._store_halo(view, buffer)

    def _store_word(self, view: View, buffer: Buffer, codes: Codes, first: int) -> None:
        """All planes of word number `thread`."""
        per_group = buffer.c // buffer.groups
        group = T.bind(T.truncdiv(self.c, i64(words_for(per_group))))
        word = T.bind(T.truncmod(self.c, i64(words_for(per_group))))
        for plane in range(buffer.planes):
            bits = temporary("uint32", 1)
            write(bits, T.uint32(0), i64(0))
            with T.serial(i64(0), T.min(i64(WORD_BITS), per_group - word * WORD_BITS)) as bit:
                value = self.shared[first + group * per_group + word * WORD_BITS + bit]
                index = T.Cast("uint32", fenced((value - T.float32(codes.low)) / T.float32(codes.step), 1))
                one = T.shift_right(index, T.uint32(plane)) & T.uint32(1)
                write(bits, bits[i64(0)] | T.shift_left(one, T.Cast("uint32", bit)), i64(0))
            write(view.data, bits[i64(0)], view.offset(*self.pixel, self.c * buffer.planes + plane))

    def _store_halo(self, view: View, buffer: Buffer) -> None:
        """The thread's share of the border of an image, by the block of its first pixel."""
        if buffer.halo == Halo():
            return
        value = np.full(buffer.c, buffer.halo_value, np.float32)
        packed = pack(value, buffer.codes, buffer.groups) if buffer.codes is not None else None
        n, y, x = self.pixel
        rows = T.serial(i64(-buffer.halo.top), i64(buffer.h + buffer.halo.bottom))
        columns = T.serial(i64(-buffer.halo.left), i64(buffer.w + buffer.halo.right))
        with T.If(T.And(T.And(y == 0, x == 0), self.c == 0)), T.Then(), rows as row, columns as column:
            above, left = T.Or(row < 0, row >= buffer.h), T.Or(column < 0, column >= buffer.w)
            with T.If(T.Or(above, left)), T.Then():
                self._fill(view, (n, row, column), packed)

    def _fill(self, view: View, pixel: tuple[Expr, Expr, Expr], packed: Array | None) -> None:
        if packed is not None:
            for word, bits in enumerate(packed):
                write(view.data, T.uint32(int(bits)), view.offset(*pixel, i64(word)))
            return
        with T.serial(i64(0), i64(view.buffer.c)) as channel:
            write(view.data, T.float32(view.buffer.halo_value), view.offset(*pixel, channel))


def _view(buffer: Buffer, data: Expr) -> View:
    return word_view(buffer, data) if buffer.packed else float_view(buffer, data)


def _place_of(buffer: Buffer, c: Expr) -> tuple[Expr, Expr]:
    """Word, among those of one plane, and bit of a channel."""
    per_group = buffer.c // buffer.groups
    group, within = T.truncdiv(c, i64(per_group)), T.truncmod(c, i64(per_group))
    return group * words_for(per_group) + T.truncdiv(within, i64(WORD_BITS)), T.truncmod(within, i64(WORD_BITS))
