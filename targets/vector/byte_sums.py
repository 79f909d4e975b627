"""Sums of products of codes in bytes: four inputs, broadcast, times four weights in each lane of 32 bits.

An activation is low + step * i, stored as i in 0 to 255; a weight is an integer of 8 bits with a sign. So
sum(a * w) = step * sum(i * w) + low * sum(w). Processors that multiply signed bytes get i - 128 instead of i where i
takes all 8 bits, and the sum lacks 128 * sum(w).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import WORD_BYTES
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.direct import Geometry, for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, splat, split, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Reduction, Registers, weight_words
from qcompiler.targets.vector.tile import Tile

BYTE = Codes(-128, 127)
"""Weights that a byte holds."""
_HALF = 128
_MOST = 255


class ByteDot(Protocol):
    """How a processor adds products of four bytes to each of `width` lanes of 32 bits.

    signed: inputs are -128 to 127, else 0 to 255; weights are -128 to 127.
    """

    @property
    def name(self) -> str:
        """Part of kernel names."""
        ...

    @property
    def width(self) -> int:
        """Lanes of 32 bits at once: 16, or a divisor."""
        ...

    @property
    def signed(self) -> bool:
        """Whether inputs have a sign."""
        ...

    def inputs(self, words: Expr) -> tuple[Expr, ...]:
        """What is kept of inputs, from words of four."""
        ...

    def weights(self, words: Expr) -> tuple[Expr, ...]:
        """What is kept of weights, from words of four."""
        ...

    def add(self, total: Expr, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> Expr:
        """int32 lanes of `total` plus the sums of four products."""
        ...


@dataclass(frozen=True)
class IndexSums(Reduction):
    """Sums of products of the numbers i of codes, which the step of the codes is still to multiply."""

    def skips_rows(self, frame: Frame) -> bool:
        """Never: the pixels of the padding hold codes."""
        return False

    def shift(self, codes: Codes) -> int:
        """What is taken from the numbers of the codes."""
        return 0

    def bases(self, problem: Conv2d, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """What the lowest code, and the shift, leave out."""
        codes = codes_of(problem)
        total = np.rint(weights).astype(np.int64).sum(axis=(1, 2, 3))
        return np.asarray(total * (codes.low + codes.step * self.shift(codes)))

    def meaning(self, problem: Conv2d, patches: Array, weights: Array) -> Array:
        """Sums of products of the numbers of codes, times the step."""
        codes = codes_of(problem)
        index = np.rint((patches - codes.low) / codes.step) - self.shift(codes)
        return np.asarray(codes.step * (index @ weights.T.astype(np.float64)))

    def fill(self, tile: Tile) -> Registers:
        """Sum all pixels and blocks."""
        frame, codes = tile.frame, codes_of(tile.frame.problem)
        sums = [[temporary("int32") for _ in range(frame.tiling.blocks)] for _ in range(frame.tiling.pixels)]
        for total in (total for row in sums for total in row):
            write(total, splat(T.int32(0)), lanes(0))
        first, per_step = self.weight_steps(frame, tile.block)
        start, every_row = tile.source.start(tile.pixel), (i64(0), i64(frame.problem.kernel[0]))

        def step(at: Expr, weight: Expr) -> None:
            self.step(tile, sums, at, weight)

        for_taps(frame.geometry.loops(), every_row, start, T.bind(first), per_step, step)
        for total in (total for row in sums for total in row):
            value = self.finished(total[lanes(0)])
            write(total, value if codes.step == 1 else value * splat(T.int32(codes.step)), lanes(0))
        return sums

    def weight_steps(self, frame: Frame, block: Expr) -> tuple[Expr, int]:
        """Offset of the weights of a run that starts at `block`, and from one step to the next."""
        return frame.geometry.first_weight(block), frame.geometry.step_weights

    def finished(self, total: Expr) -> Expr:
        """Sums of products, int32x16, from what was added up."""
        return total

    @abstractmethod
    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Add the products of one unit of input, for every pixel and block."""


@dataclass(frozen=True)
class ByteSums(IndexSums):
    """Weights uint32 [blocks / U, steps, U, 16], four bytes each; see `Geometry.arrange`.

    bits: of weights as they are stored, 8, 4 or 2. The bytes of fewer bits hold the weights of 8 / bits blocks side by
    side, uint32 [blocks * bits / 8, steps, 16]: those of each block are multiplied in the highest bits of a byte, which
    makes sums 2**(8 - bits) times as large.
    """

    dot: ByteDot
    bits: int = 8

    family: ClassVar[str] = "bytes_conv2d"

    def label(self, frame: Frame) -> str:
        """Instruction, bits of weights and tiling."""
        return f"{self.family}_{self.dot.name}_w{self.bits}_{frame.tiling.label}"

    @property
    def _shared(self) -> int:
        """Blocks whose weights share bytes."""
        return 8 // self.bits

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Words of weights."""
        words = weight_words(frame)
        return [replace(words, elements=words.elements // self._shared)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Bytes in the order of the loops."""
        if self.bits == 8:
            return [frame.geometry.arrange(weights)]
        blocks = frame.geometry.weight_lanes(weights).view(np.uint8)
        apart = (blocks & (2**self.bits - 1)).reshape(-1, self._shared, *blocks.shape[1:])
        places = (np.arange(self._shared, dtype=np.uint8) * self.bits)[None, :, None, None]
        together = np.bitwise_or.reduce(apart << places, axis=1)
        return [np.ascontiguousarray(together).view(np.uint32)]

    def weight_steps(self, frame: Frame, block: Expr) -> tuple[Expr, int]:
        """Offset of the weights of a run that starts at `block`, and from one step to the next."""
        if self.bits == 8:
            return super().weight_steps(frame, block)
        return split(block, self._shared)[0] * (frame.geometry.steps * LANES), LANES

    def finished(self, total: Expr) -> Expr:
        """Sums of weights as they are."""
        return total if self.bits == 8 else T.shift_right(total, splat(T.int32(8 - self.bits)))

    def shift(self, codes: Codes) -> int:
        """128 where bytes have a sign and codes need all 8 bits."""
        return _HALF if self.dot.signed and codes.levels > _HALF else 0

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Four products in every lane."""
        for first in range(0, LANES, self.dot.width):
            self._part(tile, sums, first, at, weight)

    def _part(self, tile: Tile, sums: Registers, first: int, at: Expr, weight: Expr) -> None:
        """Four products in `width` lanes of every pixel and block."""
        width, source = self.dot.width, tile.source
        shift = self.shift(codes_of(tile.frame.problem))
        inputs = []
        for p in range(tile.frame.tiling.pixels):
            words = source.lanes_at(at + p * source.pixel_step(), first, width)
            words = words ^ splat(T.uint32(0x01010101 * shift), width) if shift else words
            inputs.append(tuple(T.bind(each) for each in self.dot.inputs(words)))
        here, per_block = lanes(first, width), self._block_weights(tile.frame)
        for b in range(tile.frame.tiling.blocks):
            words = tile.weights[0][lanes(weight + (b // self._shared * per_block + first), width)]
            weights = tuple(T.bind(each) for each in self.dot.weights(self._taken_apart(words, b % self._shared)))
            for p, row in enumerate(sums):
                write(row[b], self.dot.add(row[b][here], inputs[p], weights), here)

    def _block_weights(self, frame: Frame) -> int:
        """Words of weights from one block, or those that share bytes, to the next."""
        return frame.geometry.block_weights if self.bits == 8 else frame.geometry.steps * LANES

    def _taken_apart(self, words: Expr, place: int) -> Expr:
        """Words with the weights of one of the blocks that share them in the highest bits of every byte."""
        if self.bits == 8:
            return words
        shift, highest = 8 - self.bits * (place + 1), 0x100 - (1 << (8 - self.bits))
        moved = T.shift_left(words, splat(T.uint32(shift), self.dot.width)) if shift else words
        return moved & splat(T.uint32(0x01010101 * highest), self.dot.width)


@dataclass(frozen=True)
class ChannelSums(IndexSums):
    """Channel by channel: sixteen bytes of a pixel times weights int8 [blocks / U, steps, U, 16]."""

    family: ClassVar[str] = "bytes_depthwise"
    element: ClassVar[str] = "uint8"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Bytes of weights."""
        return [Parameter("weights", "int8", frame.blocks.count * frame.geometry.steps * LANES, 64)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Bytes in the order of the loops."""
        return [np.rint(frame.geometry.arrange(weights)).astype(np.int8)]

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """One product in every lane."""
        for b in range(tile.frame.tiling.blocks):
            held = tile.weights[0][lanes(weight + b * tile.frame.geometry.block_weights)]
            w = T.bind(T.Cast("int32x16", held))
            for p, row in enumerate(sums):
                x = T.Cast("int32x16", tile.source.lanes_at(at + p * tile.source.pixel_step()))
                write(row[b], row[b][lanes(0)] + x * w, lanes(0))


def codes_of(problem: Conv2d) -> Codes:
    """The codes of the input."""
    assert problem.x.codes is not None
    return problem.x.codes


def stored_bits(problem: Conv2d, blocks: Blocks) -> int:
    """Of weights in the library: the fewest of 2, 4 and 8 that hold them, if blocks of the same input share bytes."""
    held = max(problem.weights.high.bit_length(), (-problem.weights.low - 1).bit_length()) + 1
    geometry = Geometry(problem, blocks)
    together = [shared for shared in (4, 2) if blocks.count % shared == 0 and geometry.uniform(shared)]
    return next((8 // shared for shared in together if held <= 8 // shared), 8)


def fits_bytes(problem: Conv2d) -> bool:
    """Whether weights are bytes, and no sum of products passes 32 bits."""
    held = BYTE.low <= problem.weights.low and problem.weights.high <= BYTE.high
    products = problem.kernel[0] * problem.kernel[1] * (problem.x.c // problem.groups + WORD_BYTES)
    return held and products * _MOST * _HALF * codes_of(problem).step < 2**31
