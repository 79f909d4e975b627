"""Convolutions and matrix products of codes word by word: on every device, for every width.

A thread has a channel; its weights are in memory beside those of its neighbours, and the words of the input are the
same for all threads of the warp. Bit planes multiply by population counts: sum(i * j) is the sum over planes p and q of
2^(p + q) times the number of bits that are set in both. Bytes multiply four at a time (`__dp4a`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.targets.cuda.code_sums import CodeSums
from qcompiler.targets.cuda.elements import Elements
from qcompiler.targets.cuda.emit import dot, popcount, registers, write
from qcompiler.targets.cuda.machine import Gpu
from qcompiler.targets.cuda.warp_kernel import Spot, WarpKernel
from qcompiler.targets.cuda.windows import read_by
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.standard_op import Expr, Parameter
from qcompiler.targets.target import Array, Constants

TILES = (1, 4, 8)
# of weights: their numbers fit bytes
MOST_BITS = 8
# pairs of planes times pixels that are unrolled; chosen
MOST_UNROLLED = 128
# warps that keep a multiprocessor busy
BUSY = 16


@dataclass(frozen=True)
class WordConv2d(WarpKernel):
    """See `WarpKernel`."""

    problem: Conv2d

    @property
    def family(self) -> str:
        """Widths of weights and inputs are in the report."""
        return "dot_conv2d" if self.problem.x.in_bytes else "popc_conv2d"

    @property
    def planes(self) -> int:
        """Words of weights for the same inputs."""
        return 1 if self.problem.x.in_bytes else self.problem.weights.bits

    @property
    def sums(self) -> CodeSums:
        """The arithmetic of codes."""
        return CodeSums(self.problem, self.lanes)

    @property
    def group_words(self) -> int:
        """Words of the inputs of a channel, of each plane."""
        return self.problem.x.group_words

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Taps, words, planes, threads."""
        return (self.sums.taps, self.group_words, self.planes, self.lanes.size)

    def operands(self) -> list[Parameter]:
        """Weights, then what `CodeSums` adds."""
        return [Parameter("weights", "uint32", int(np.prod(self.weight_shape)), 64), *self.sums.constants()]

    def packed(self, constants: Constants) -> tuple[Array, ...]:
        """uint32 [taps, words, planes, threads]; what lies beyond the last input is 0."""
        weights = np.asarray(constants.weights)
        numbers = self.sums.numbers(weights).transpose(2, 3, 1, 0).reshape(self.sums.taps, -1, len(weights))
        each = self.problem.x.word_channels
        padded = np.pad(numbers, [(0, 0), (0, self.group_words * each - numbers.shape[1]), (0, 0)])
        held = padded.reshape(self.sums.taps, self.group_words, 1, each, -1)
        if not self.problem.x.in_bytes:
            held = held >> np.arange(self.planes)[:, None, None] & 1
        shifts = np.arange(each, dtype=np.uint64) * np.uint64(WORD_BITS // each)
        words = (held.astype(np.uint64) << shifts[:, None]).sum(axis=3)
        return self.lanes.spread(words.astype(np.uint32)), *self.sums.pack(constants)

    def values(self, x: Expr, operands: Sequence[Expr], spot: Spot) -> list[Expr]:
        """All taps, all words, all pairs of planes."""
        counts = _Counts(self, x, operands, spot)
        kh, kw = self.problem.kernel
        with T.serial(0, kh) as i, T.serial(0, kw) as j:
            counts.tap(i, j)
        return [counts.value(index) for index in range(self.tile)]


class _Counts:
    """Registers of a warp's pixels."""

    def __init__(self, kernel: WordConv2d, x: Expr, operands: Sequence[Expr], spot: Spot) -> None:
        self.kernel, self.problem, self.sums = kernel, kernel.problem, kernel.sums
        self.weights, offsets, *self.tap_sums = operands
        self.x, zero = Elements(self.problem.x, x), T.int32(0)
        self.thread = T.bind(spot.block * 32 + spot.lane)
        self.pixels = [kernel.pixel(spot, index) for index in range(kernel.tile)]
        self.products = registers("int32", kernel.tile, zero)
        self.totals = registers("int32", kernel.tile, zero)
        self.offsets = registers("int32", kernel.tile, T.bind(offsets[self.thread]))
        channel = kernel.lanes.channel(spot.block, spot.lane)
        group = T.truncdiv(channel, self.problem.out_channels // self.problem.groups)
        planes = self.problem.x.planes
        self.first = T.int32(0) if self.problem.groups == 1 else T.bind(group * (kernel.group_words * planes))

    def tap(self, i: Expr, j: Expr) -> None:
        """Add what the pixels under one tap give."""
        tap = T.bind(i * self.problem.kernel[1] + j)
        starts = registers("int32", self.kernel.tile)
        for index, pixel in enumerate(self.pixels):
            read, inside = read_by(self.problem, pixel, (i, j))
            write(starts, T.if_then_else(inside, self.x.first_word(read) + self.first, T.int32(-1)), index)
        with T.serial(0, self.kernel.group_words) as word:
            self._words(tap, word, starts)
        for array in self.tap_sums:
            wrong_by = T.bind(array[tap * self.kernel.lanes.size + self.thread])
            for index in range(self.kernel.tile):
                with T.If(starts[index] < 0), T.Then():
                    write(self.offsets, self.offsets[index] + wrong_by, index)

    def _words(self, tap: Expr, word: Expr, starts: Expr) -> None:
        """Add what the inputs of a word give."""
        _, words, planes, size = self.kernel.weight_shape
        at = T.bind((tap * words + word) * planes)
        weights = [T.bind(self.weights[(at + q) * size + self.thread]) for q in range(planes)]
        for index in range(self.kernel.tile):
            for p in range(self.problem.x.planes):
                held = self.x.data[starts[index] + word * self.problem.x.planes + p]
                inputs = T.bind(T.if_then_else(starts[index] >= 0, held, T.uint32(0)))
                for q, weight in enumerate(weights):
                    self._add(self.products, index, self._product(inputs, weight), p + q)
                if self.sums.needs_totals:
                    self._add(self.totals, index, self._product(inputs, self._ones), p)

    @property
    def _ones(self) -> Expr:
        """Weights of 1."""
        return T.uint32(0x01010101 if self.problem.x.in_bytes else 0xFFFFFFFF)

    def _product(self, inputs: Expr, weights: Expr) -> Expr:
        """int32: what a word of inputs and one of weights give."""
        return dot(inputs, weights) if self.problem.x.in_bytes else popcount(inputs & weights)

    def _add(self, sums: Expr, index: int, count: Expr, shift: int) -> None:
        write(sums, sums[index] + (T.shift_left(count, T.int32(shift)) if shift else count), index)

    def value(self, index: int) -> Expr:
        """float32: the sum of a pixel."""
        total = self.totals[index] if self.sums.needs_totals else None
        return self.sums.value(self.products[index], total, self.offsets[index])


def word_convolutions(gpu: Gpu, problem: Problem) -> Iterator[WordConv2d]:
    """Convolutions of codes in planes or bytes, packed in the groups of the convolution."""
    if not isinstance(problem, Conv2d) or not problem.x.packed or problem.centred or problem.second is not None:
        return
    if problem.x.groups != problem.groups or problem.weights.bits > MOST_BITS:
        return
    in_bytes = problem.x.in_bytes
    pairs = problem.x.planes * ((1 if in_bytes else problem.weights.bits) + (problem.weights.low != 0))
    words = problem.macs / problem.x.word_channels * pairs
    for tile in TILES:
        if tile > 1 and tile * pairs > MOST_UNROLLED:
            continue
        kernel = WordConv2d(problem, tile)
        counted = words * kernel.computed / kernel.pixels
        busy = min(1.0, kernel.warps / (gpu.processors * BUSY))
        # weights are read once per tile, by 32 lanes of a load port
        clocks = counted / (gpu.dot_rate if in_bytes else gpu.popc_rate) + counted / tile / 32
        yield WordConv2d(problem, tile, clocks / (gpu.processors * gpu.ghz * busy))
