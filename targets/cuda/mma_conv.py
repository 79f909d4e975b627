"""Convolutions and matrix products of codes by tensor cores: of one or two bit planes bit by bit, of bytes as they are.

A convolution is a matrix product: its rows are output pixels, its columns channels, and what is summed over are words
of inputs, tap by tap. A block of threads computes ROWS pixels of some blocks of channels, each warp 16 of the pixels,
by `qc_and_16x8x256` or `qc_bytes_16x8x32` on 8 words of inputs at a time. These come to the memory of the block while
those before them are multiplied; what lies outside of the image comes as zeros. Weights lie in memory as the registers
of the threads have them. Pairs of planes of one weight 2^(p + q) share their sums.

Where a thread of number l of a warp has them, with g = l // 4 and t = l % 4 (PTX manual, "mma.m16n8k256" and
"mma.m16n8k32", which are alike in words): the words t and 4 + t of rows g and 8 + g of the inputs, and of column g of
the weights; sums of rows g and 8 + g in the columns 2t and 2t + 1. sm_75 has instructions of a quarter of this, whose
operands lie alike.

sm_75 has XOR of bits alone. As i and j = (i + j - i xor j) / 2, with P planes of inputs and Q of weights a sum is
    sum(2^(p + q) i_p and j_q) = ((2^Q - 1) sum(i) + (2^P - 1) sum(j) - sum(2^(p + q) i_p xor j_q)) / 2,
where sum(j) is a constant of the channel; zeros outside of the image are inputs like others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.ir.program import LaunchGrid
from qcompiler.targets.cuda.code_sums import CodeSums
from qcompiler.targets.cuda.elements import Elements, Pixel, parameter
from qcompiler.targets.cuda.emit import (
    WARP,
    Place,
    barrier,
    dot,
    exchange,
    instruction,
    kernel_function,
    popcount,
    registers,
    write,
)
from qcompiler.targets.cuda.machine import Bits, Gpu
from qcompiler.targets.cuda.warp_kernel import LaneKernel, pixel_of
from qcompiler.targets.cuda.windows import read_by
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.standard_op import Expr, Parameter
from qcompiler.targets.target import Array, Constants

WARPS, TILE, COLUMNS, STEP = 4, 16, 8, 8
"""Warps of a block; rows of a warp, columns and words of one instruction."""

ROWS, THREADS = WARPS * TILE, WARPS * WARP
MOST_PLANES = 2
# of weights: their numbers fit bytes
MOST_BITS = 8
STAGES = 2
# words between rows, so that the threads of a warp read from different banks of memory
_GAP = 4
# of what the tensor cores can do, that a kernel like this may reach; chosen, nobody has measured it
_REACHED = 0.4


@dataclass(frozen=True)
class MmaConv2d(LaneKernel):
    """See `qcompiler.targets.target.Kernel`.

    blocks: of 32 channels, that a block of threads computes. bits: the instruction that bit planes are multiplied by.
    """

    problem: Conv2d
    blocks: int
    bits: Bits = "and"
    nanoseconds: float = 0.0

    @property
    def by_xor(self) -> bool:
        """Whether bits are compared, which sums of inputs and weights make products of."""
        return self.bits == "xor" and not self.problem.x.in_bytes

    @property
    def needs_totals(self) -> bool:
        """Whether sums of the inputs' numbers are needed."""
        return self.by_xor or self.sums.needs_totals

    @property
    def instruction(self) -> str:
        """What multiplies."""
        if self.problem.x.in_bytes:
            return "qc_bytes_16x8x32"
        return "qc_xor_16x8x256" if self.by_xor else "qc_and_16x8x256"

    @property
    def name(self) -> str:
        """What is multiplied, pixels and channels of a block."""
        return f"mma_{'bytes' if self.problem.x.in_bytes else 'bits'}_m{ROWS}n{self.blocks * WARP}"

    @property
    def planes(self) -> int:
        """Words of weights for the same inputs."""
        return 1 if self.problem.x.in_bytes else self.problem.weights.bits

    @property
    def sums(self) -> CodeSums:
        """The arithmetic of codes."""
        return CodeSums(self.problem, self.lanes)

    @property
    def column_tiles(self) -> int:
        """Blocks of threads for all channels."""
        return -(-self.lanes.blocks // self.blocks)

    @property
    def row_tiles(self) -> int:
        """Blocks of threads for all pixels."""
        return -(-self.pixels // ROWS)

    @property
    def tiles(self) -> int:
        """Instructions that cover the channels of a block of threads."""
        return self.blocks * WARP // COLUMNS

    @property
    def tap_words(self) -> int:
        """Words of the inputs under one tap, of all planes."""
        return self.problem.x.group_words * self.problem.x.planes

    @property
    def steps(self) -> int:
        """Steps of 8 words of each plane through all taps."""
        return -(-self.sums.taps * self.problem.x.group_words // STEP)

    @property
    def step_words(self) -> int:
        """Words of a row that come to the memory of the block in a step, of all planes."""
        return STEP * self.problem.x.planes

    @property
    def copied(self) -> int:
        """Words that are copied at once: those of one tap, of one pixel."""
        return next(words for words in (4, 2, 1) if self.tap_words % words == 0)

    @property
    def stage(self) -> int:
        """Words of the memory of the block for a step."""
        return ROWS * (self.step_words + _GAP)

    @property
    def results(self) -> int:
        """Words of the memory of the block for sums, those of inputs behind them."""
        return ROWS * (self.blocks * WARP + COLUMNS) + ROWS

    @property
    def launch(self) -> LaunchGrid:
        """A row of blocks of threads: all channels of some pixels, then of the next."""
        shared = 4 * max(STAGES * self.stage, self.results)
        return LaunchGrid((self.row_tiles * self.column_tiles, 1, 1), (THREADS, 1, 1), shared)

    @property
    def weight_shape(self) -> tuple[int, int, int, int, int]:
        """Steps, planes, tiles of columns, threads, registers."""
        return (self.steps, self.planes, self.column_tiles * self.tiles, WARP, 2)

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """Weights, what `CodeSums` adds, and constants of the epilogue."""
        weights = np.asarray(constants.weights)
        own = (self._weights(weights), *self._weight_totals(weights))
        return *own, *self.sums.pack(constants), *self.epilogue.pack(constants)

    def _weight_totals(self, weights: npt.NDArray[np.float32]) -> tuple[Array, ...]:
        """int32 [threads]: (2^P - 1) sum(j), where bits are compared."""
        if not self.by_xor:
            return ()
        totals = self.sums.numbers(weights).sum(axis=(1, 2, 3)) * (2**self.problem.x.planes - 1)
        return (self.lanes.spread(totals.astype(np.int32)),)

    def _weights(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
        """uint32 of `weight_shape`, from float32 OIHW."""
        steps, planes, tiles, _, registers_ = self.weight_shape
        numbers = self.sums.numbers(weights).transpose(2, 3, 1, 0).reshape(self.sums.taps, -1, len(weights))
        words, each = self.problem.x.group_words, self.problem.x.word_channels
        padded = np.pad(numbers, [(0, 0), (0, words * each - numbers.shape[1]), (0, 0)])
        spread = self.lanes.spread(padded.reshape(self.sums.taps * words, each, -1))
        whole = np.zeros((steps * STEP, 1, each, tiles * COLUMNS), np.int64)
        whole[: len(spread), 0, :, : spread.shape[-1]] = spread
        parts = whole if self.problem.x.in_bytes else whole >> np.arange(planes)[:, None, None] & 1
        shifts = np.arange(each, dtype=np.uint64) * np.uint64(WORD_BITS // each)
        held = (parts.astype(np.uint64) << shifts[:, None]).sum(axis=2)
        # [steps, registers, t, planes, tiles, g] -> [steps, planes, tiles, g, t, registers]
        fragments = held.reshape(steps, registers_, STEP // registers_, planes, tiles, COLUMNS)
        return np.ascontiguousarray(fragments.transpose(0, 3, 4, 5, 2, 1).reshape(self.weight_shape).astype(np.uint32))

    def build(self, name: str) -> Any:
        """A kernel over a row of blocks."""
        own = [Parameter("weights", "uint32", int(np.prod(self.weight_shape)), 64)]
        own += [Parameter("weight_totals", "int32", self.lanes.size, 64)] if self.by_xor else []
        own += self.sums.constants()
        epilogue = self.epilogue
        parameters = [parameter("x", self.problem.x, words=True), *own, *epilogue.constants(), *epilogue.memory()]

        def body(buffers: list[Expr], place: Place) -> None:
            split = 1 + len(own)
            threads = _Threads(self, buffers[0], buffers[1:split], place)
            threads.multiply()
            threads.leave_sums()
            threads.finish(buffers[split:])

        return kernel_function(name, parameters, self.launch, body)


class _Threads:
    """What the threads of a block emit."""

    def __init__(self, kernel: MmaConv2d, x: Expr, operands: Sequence[Expr], place: Place) -> None:
        assert place.shared is not None
        self.kernel, self.problem, self.shared = kernel, kernel.problem, place.shared
        self.x = Elements(kernel.problem.x, x)
        self.weights, *rest = operands
        self.weight_totals = rest.pop(0) if kernel.by_xor else None
        self.offsets, *self.tap_sums = rest
        self.row = T.bind(T.truncdiv(place.block, kernel.column_tiles) * ROWS)
        self.column = T.bind(T.truncmod(place.block, kernel.column_tiles))
        self.thread = place.thread
        self.warp, self.lane = T.bind(T.truncdiv(place.thread, WARP)), T.bind(T.truncmod(place.thread, WARP))
        self.g, self.t = T.bind(T.truncdiv(self.lane, 4)), T.bind(T.truncmod(self.lane, 4))
        self.inputs, self.planes = kernel.problem.x.planes, kernel.planes
        significances = self.inputs + self.planes - 1
        self.products = registers("int32", significances * kernel.tiles * 4, T.int32(0))
        self.totals = registers("int32", 2, T.int32(0))
        self.copies = [self._copy(number) for number in range(ROWS * self.chunks // THREADS or 1)]

    @property
    def chunks(self) -> int:
        """Copies of a row in a step."""
        return self.kernel.step_words // self.kernel.copied

    def _copy(self, number: int) -> tuple[Expr, Expr, Pixel]:
        """Which row and which of its chunks a thread copies, and of which output pixel."""
        index = T.bind(self.thread + number * THREADS)
        row = T.bind(T.truncdiv(index, self.chunks))
        return row, T.bind(T.truncmod(index, self.chunks)), self._pixel(self.row + row)

    def _pixel(self, number: Expr) -> Pixel:
        return pixel_of(T.min(number, self.kernel.pixels - 1), self.problem.out_hw)

    def multiply(self) -> None:
        """All steps: while one is multiplied, the next one is copied."""
        steps = self.kernel.steps
        self._start(T.int32(0))
        with T.serial(0, steps) as step:
            with T.If(step + 1 < steps), T.Then():
                self._start_copies(step + 1)
            instruction("qc_commit")
            instruction("qc_wait_1")
            barrier()
            self._step(step)
            barrier()

    def _start(self, step: Expr) -> None:
        self._start_copies(step)
        instruction("qc_commit")

    def _stage(self, step: Expr) -> Expr:
        """Where the words of a step lie in the memory of the block."""
        return T.bind(T.truncmod(step, STAGES) * self.kernel.stage)

    def _start_copies(self, step: Expr) -> None:
        kernel, copied, stage = self.kernel, self.kernel.copied, self._stage(step)
        for row, chunk, pixel in self.copies:
            word = T.bind(step * kernel.step_words + chunk * copied)
            tap = T.bind(T.truncdiv(word, kernel.tap_words))
            width = self.problem.kernel[1]
            read, inside = read_by(self.problem, pixel, (T.truncdiv(tap, width), T.truncmod(tap, width)))
            given = T.And(inside, T.And(tap < kernel.sums.taps, self.row + row < kernel.pixels))
            start = T.if_then_else(given, self.x.first_word(read) + T.truncmod(word, kernel.tap_words), T.int32(0))
            to = stage + row * (kernel.step_words + _GAP) + chunk * copied
            pointers = T.address_of(self.shared[to]), T.address_of(self.x.data[T.bind(start)])
            size = T.if_then_else(given, T.int32(4 * copied), T.int32(0))
            instruction(f"qc_copy_{4 * copied}", *pointers, size)

    def _step(self, step: Expr) -> None:
        """Multiply the inputs of all rows of the warp, plane by plane."""
        held = [self._inputs(self._stage(step), plane) for plane in range(self.inputs)]
        shape = self.kernel.weight_shape
        for q in range(self.planes):
            for tile in range(self.kernel.tiles):
                at = (step * shape[1] + q) * shape[2] + self.column * self.kernel.tiles + tile
                first = T.bind(at * (WARP * 2) + self.lane * 2)
                weights = registers("uint32", 2)
                for index in range(2):
                    write(weights, self.weights[first + index], index)
                for p, inputs in enumerate(held):
                    sums = T.address_of(self.products[self._place(p + q, tile)])
                    instruction(self.kernel.instruction, sums, T.address_of(inputs[0]), T.address_of(weights[0]))

    def _inputs(self, stage: Expr, plane: int) -> Expr:
        """The registers of the inputs of a plane; they are added up on the way."""
        found = registers("uint32", 4)
        for index in range(4):
            row = self.warp * TILE + self.g + (8 if index % 2 else 0)
            word = self.t + (4 if index >= 2 else 0)
            at = stage + row * (self.kernel.step_words + _GAP) + word * self.inputs + plane
            write(found, T.Cast("uint32", self.shared[at]), index)
        if self.kernel.needs_totals:
            for half in range(2):
                bits = self._total(found[half]) + self._total(found[half + 2])
                write(self.totals, self.totals[half] + T.shift_left(bits, T.int32(plane)), half)
        return found

    def _total(self, word: Expr) -> Expr:
        """int32: the sum of the inputs of a word."""
        return dot(word, T.uint32(0x01010101)) if self.problem.x.in_bytes else popcount(word)

    def _place(self, significance: int, tile: int) -> int:
        return (significance * self.kernel.tiles + tile) * 4

    @property
    def _width(self) -> int:
        """Words between rows of sums."""
        return self.kernel.blocks * WARP + COLUMNS

    def leave_sums(self) -> None:
        """Put the sums of products, and those of inputs, where all threads of the warp find them."""
        for tile in range(self.kernel.tiles):
            for index in range(4):
                found: Expr = self.products[self._place(0, tile) + index]
                for significance in range(1, self.inputs + self.planes - 1):
                    more = self.products[self._place(significance, tile) + index]
                    found = found + T.shift_left(more, T.int32(significance))
                row = self.warp * TILE + self.g + (8 if index >= 2 else 0)
                write(self.shared, found, row * self._width + tile * COLUMNS + self.t * 2 + index % 2)
        if self.kernel.needs_totals:
            for half in range(2):
                pair = T.bind(self.totals[half] + exchange(self.totals[half], 1))
                total = T.bind(pair + exchange(pair, 2))
                with T.If(self.t == 0), T.Then():
                    write(self.shared, total, ROWS * self._width + self.warp * TILE + self.g + half * 8)
        barrier()

    def finish(self, buffers: Sequence[Expr]) -> None:
        """The epilogue on the pixels of the warp, one after the other."""
        with T.serial(0, TILE) as index:
            row = T.bind(self.warp * TILE + index)
            with T.If(self.row + row < self.kernel.pixels), T.Then():
                pixel = self._pixel(self.row + row)
                for number in range(self.kernel.blocks):
                    block = T.bind(self.column * self.kernel.blocks + number)
                    with T.If(block < self.kernel.lanes.blocks), T.Then():
                        value = self._value(row, number, pixel, T.bind(block * WARP + self.lane))
                        self.kernel.epilogue.emit(buffers, pixel, block, self.lane, value)

    def _value(self, row: Expr, number: int, pixel: Pixel, thread: Expr) -> Expr:
        """float32: the sum of a pixel and channel."""
        products = T.bind(self.shared[row * self._width + number * WARP + self.lane])
        offset = registers("int32", 1, self.offsets[thread])
        for array in self.tap_sums:
            kh, kw = self.problem.kernel
            with T.serial(0, kh) as i, T.serial(0, kw) as j:
                _, inside = read_by(self.problem, pixel, (i, j))
                with T.If(T.Not(inside)), T.Then():
                    write(offset, offset[0] + array[(i * kw + j) * self.kernel.lanes.size + thread], 0)
        total = T.bind(self.shared[ROWS * self._width + row]) if self.kernel.needs_totals else None
        if self.weight_totals is not None:
            assert total is not None
            both = total * (2**self.planes - 1) + self.weight_totals[thread]
            products = T.bind(T.shift_right(both - products, T.int32(1)))
        return self.kernel.sums.value(products, total if self.kernel.sums.needs_totals else None, offset[0])


def mma_convolutions(gpu: Gpu, problem: Problem) -> Iterator[MmaConv2d]:
    """Convolutions of codes in one group, where the tensor cores multiply bits, of which there are few, or bytes."""
    if not isinstance(problem, Conv2d) or not (problem.x.in_planes or problem.x.in_bytes) or problem.groups > 1:
        return
    if problem.centred or problem.second is not None or problem.x.groups > 1 or problem.weights.bits > MOST_BITS:
        return
    in_bytes, widest = problem.x.in_bytes, max(problem.x.planes, problem.weights.bits)
    rate = gpu.byte_rate if in_bytes else gpu.bit_rate
    if not rate or not in_bytes and widest > MOST_PLANES:
        return
    pairs = 1 if in_bytes else problem.x.planes * problem.weights.bits
    for blocks in (1, 2):
        kernel = MmaConv2d(problem, blocks, gpu.bits)
        launched = kernel.launch.blocks[0]
        products = launched * ROWS * blocks * WARP * kernel.steps * STEP * problem.x.word_channels * pairs
        busy = min(1.0, launched / gpu.processors)
        yield MmaConv2d(problem, blocks, gpu.bits, products / (rate * gpu.processors * gpu.ghz * _REACHED * busy))
