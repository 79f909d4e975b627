"""Convolutions and matrix products of codes by tensor cores: bit by bit, four bits at a time, or as bytes.

Bit planes are multiplied bit by bit where there are one or two, codes in bytes as they are or in halves.
`mma_tiling.py` says how the work is cut, `mma_threads.py` what a block of threads does.

sm_75 has XOR of bits alone. As i and j = (i + j - i xor j) / 2, with P planes of inputs and Q of weights a sum is
    sum(2^(p + q) i_p and j_q) = ((2^Q - 1) sum(i) + (2^P - 1) sum(j) - sum(2^(p + q) i_p xor j_q)) / 2,
where sum(j) is a constant of the channel; zeros outside of the image are inputs like others.

Codes of four bits lie in bytes, as wider ones do: a thread joins two words of inputs to one of eight halves of bytes,
those of the second word above those of the first. Weights are joined alike beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.ir.numerics import WORD_BITS
from qcompiler.targets.cuda.elements import parameter
from qcompiler.targets.cuda.emit import WARP, Place, kernel_function
from qcompiler.targets.cuda.machine import CACHE_BYTES, Gpu
from qcompiler.targets.cuda.mma_threads import MmaThreads
from qcompiler.targets.cuda.mma_tiling import COLUMNS, STEP, MmaTiling, Multiplied
from qcompiler.targets.cuda.mma_values import SlicedSums
from qcompiler.targets.cuda.tensor_function import Phases
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.standard_op import Expr, Parameter
from qcompiler.targets.target import Array, Constants

MOST_PLANES = 2
# of inputs and weights that are multiplied four bits at a time
MOST_HALVES = 4
# of weights: their numbers fit bytes
MOST_BITS = 8
SLICES = 4
"""Blocks of threads that share a tile where they do."""

# nanoseconds of the second phase, a launch that waits for the first; chosen
_SECOND_PHASE = 2500
# of what the tensor cores can do, that a kernel like this may reach; chosen, nobody has measured it
_REACHED = 0.4


@dataclass(frozen=True)
class MmaConv2d(MmaTiling):
    """See `qcompiler.targets.target.Kernel`."""

    nanoseconds: float = 0.0

    @property
    def name(self) -> str:
        """What is multiplied, pixels and channels of a block, and warps and blocks that share them, if any."""
        kind = "wide_bits" if self.wide else "bits" if self.problem.x.in_planes else self.by
        shared = f"s{self.splits}" if self.splits > 1 else ""
        shared += f"x{self.slices}" if self.slices > 1 else ""
        return f"mma_{kind}_m{self.rows}n{self.blocks * WARP}{shared}"

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """Weights, what `CodeSums` adds, and constants of the epilogue."""
        weights = np.asarray(constants.weights)
        own = (self._weights(weights), *self._weight_totals(weights))
        return *own, *self.sums.pack(constants), *self.epilogue.pack(constants)

    def _weight_totals(self, weights: npt.NDArray[np.float32]) -> tuple[Array, ...]:
        """int32 [threads]: (2^P - 1) sum(j), where bits are compared."""
        if self.by != "xor":
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
        whole = np.zeros((steps * STEP * self.joined, 1, each, tiles * COLUMNS), np.int64)
        whole[: len(spread), 0, :, : spread.shape[-1]] = spread
        parts = whole >> np.arange(planes)[:, None, None] & 1 if self.problem.x.in_planes else whole
        shifts = np.arange(each, dtype=np.uint64) * np.uint64(WORD_BITS // each)
        held = (parts.astype(np.uint64) << shifts[:, None]).sum(axis=2)
        if self.joined == 2:
            held = held[0::2] | held[1::2] << np.uint64(4)
        if self.wide:
            # to [steps, blocks of threads, planes, tiles, halves, g, words]
            cores = held.reshape(steps, 2, STEP // 2, planes, self.column_tiles, self.tiles, COLUMNS)
            fragments = cores.transpose(0, 4, 3, 5, 1, 6, 2)
        else:
            # [steps, registers, t, planes, tiles, g] -> [steps, planes, tiles, g, t, registers]
            spread_out = held.reshape(steps, registers_, STEP // registers_, planes, tiles, COLUMNS)
            fragments = spread_out.transpose(0, 3, 4, 5, 2, 1)
        return np.ascontiguousarray(fragments.reshape(self.weight_shape).astype(np.uint32))

    def build(self, name: str) -> Any:
        """A kernel over a row of blocks, or two, where blocks share tiles."""
        own = [Parameter("weights", "uint32", int(np.prod(self.weight_shape)), 64)]
        own += [Parameter("weight_totals", "int32", self.lanes.size, 64)] if self.by == "xor" else []
        own += self.sums.constants()
        epilogue = self.epilogue
        parameters = [parameter("x", self.problem.x, words=True), *own, *epilogue.constants(), *epilogue.memory()]

        split, launch = 1 + len(own), self.launch
        if launch.scratch_bytes:
            parameters.append(Parameter("left", "int32", launch.scratch_bytes // 4, 64))

        def multiplied(buffers: list[Expr], place: Place) -> MmaThreads:
            threads = MmaThreads(self, buffers[0], buffers[1:split], place)
            threads.multiply()
            threads.leave_sums()
            return threads

        def whole(buffers: list[Expr], place: Place) -> None:
            multiplied(buffers, place).finish_all(buffers[split:])

        def sliced(buffers: list[Expr], place: Place) -> None:
            multiplied(buffers, place).leave_slice(buffers[-1])

        def summed(buffers: list[Expr], place: Place) -> None:
            SlicedSums(self, buffers[1:split], place).add(buffers[split:-1], buffers[-1])

        if self.slices == 1:
            return kernel_function(name, parameters, launch, whole)
        return Phases(tuple(kernel_function(name, parameters, launch, body) for body in (sliced, summed)))


def mma_convolutions(gpu: Gpu, problem: Problem) -> Iterator[MmaConv2d]:
    """Convolutions of codes, packed in the groups of the convolution, that the tensor cores multiply."""
    if not isinstance(problem, Conv2d) or not (problem.x.in_planes or problem.x.in_bytes):
        return
    if problem.centred or problem.second is not None or problem.x.groups != problem.groups:
        return
    for by, rate in _ways(gpu, problem):
        for blocks, splits, slices in ((1, 1, 1), (2, 1, 1), (1, 4, 1), (1, 4, SLICES)):
            kernel = MmaConv2d(problem, blocks, splits, by, slices)
            if kernel.fits and (slices == 1 or replace(kernel, slices=1).steps >= slices):
                yield replace(kernel, nanoseconds=_nanoseconds(gpu, kernel, rate))


def _ways(gpu: Gpu, problem: Conv2d) -> Iterator[tuple[Multiplied, int]]:
    """What the device multiplies such codes by, and how many multiply-adds of it per clock of a multiprocessor."""
    inputs, weights = problem.x, problem.weights.bits
    assert inputs.codes is not None
    if inputs.in_planes:
        if gpu.bits and max(inputs.planes, weights) <= MOST_PLANES:
            yield gpu.bits, gpu.bit_rate
        if gpu.wide_bits and max(inputs.planes, weights) <= MOST_PLANES:
            # nobody has measured it: it is there to be tried, not to be taken for its estimate
            yield "wide and", gpu.bit_rate // 2
        return
    if gpu.nibble_rate and max(inputs.codes.bits, weights) <= MOST_HALVES:
        yield "nibbles", gpu.nibble_rate
    if weights <= MOST_BITS:
        yield "bytes", gpu.byte_rate


def _nanoseconds(gpu: Gpu, kernel: MmaConv2d, rate: int) -> float:
    """Of all products, and of all reads of operands, which share the same time at best a little."""
    launched = kernel.launch.blocks[0]
    pairs = kernel.planes * kernel.problem.x.planes
    words = kernel.steps * kernel.splits * STEP
    more = _SECOND_PHASE if kernel.slices > 1 else 0
    products = kernel.rows * kernel.blocks * WARP * words * kernel.joined * kernel.problem.x.word_channels * pairs
    read = 4 * words * (kernel.blocks * WARP * kernel.planes + kernel.rows * kernel.problem.x.planes * kernel.joined)
    busy = min(launched, gpu.processors)
    return launched * (products / (rate * _REACHED) + read / CACHE_BYTES) / (busy * gpu.ghz) + more
