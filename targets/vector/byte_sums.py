"""Sums of products of codes in bytes: four inputs, broadcast, times four weights in each lane of 32 bits.

An activation is low + step * i, stored as i in 0 to 255; a weight is an integer of 8 bits with a sign. So
sum(a * w) = step * sum(i * w) + low * sum(w). Processors that multiply signed bytes get i - 128 instead of i where i
takes all 8 bits, and the sum lacks 128 * sum(w).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import WORD_BYTES
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.direct import for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, splat, temporary, write
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
        first, every_row = T.bind(frame.geometry.first_weight(tile.block)), (i64(0), i64(frame.problem.kernel[0]))
        for_taps(
            frame.geometry.loops(),
            every_row,
            tile.source.start(tile.pixel),
            first,
            frame.geometry.step_weights,
            lambda at, weight: self.step(tile, sums, at, weight),
        )
        for total in (total for row in sums for total in row if codes.step != 1):
            write(total, total[lanes(0)] * splat(T.int32(codes.step)), lanes(0))
        return sums

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Add the products of one unit of input, for every pixel and block."""
        raise NotImplementedError


@dataclass(frozen=True)
class ByteSums(IndexSums):
    """Weights uint32 [blocks / U, steps, U, 16], four bytes each; see `Geometry.arrange`."""

    dot: ByteDot

    family: ClassVar[str] = "bytes_conv2d"

    def label(self, frame: Frame) -> str:
        """Instruction and tiling."""
        return f"{self.family}_{self.dot.name}_{frame.tiling.label}"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Words of weights."""
        return [weight_words(frame)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Bytes in the order of the loops."""
        return [frame.geometry.arrange(weights)]

    def shift(self, codes: Codes) -> int:
        """128 where bytes have a sign and codes need all 8 bits."""
        return _HALF if self.dot.signed and codes.levels > _HALF else 0

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Four products in every lane."""
        for first in range(0, LANES, self.dot.width):
            self._part(tile, sums, first, at, weight)

    def _part(self, tile: Tile, sums: Registers, first: int, at: Expr, weight: Expr) -> None:
        """Four products in `width` lanes of every pixel and block."""
        width, source, per_block = self.dot.width, tile.source, tile.frame.geometry.block_weights
        shift = self.shift(codes_of(tile.frame.problem))
        inputs = []
        for p in range(tile.frame.tiling.pixels):
            words = source.lanes_at(at + p * source.pixel_step(), first, width)
            words = words ^ splat(T.uint32(0x01010101 * shift), width) if shift else words
            inputs.append(tuple(T.bind(each) for each in self.dot.inputs(words)))
        here = lanes(first, width)
        for b in range(tile.frame.tiling.blocks):
            words = tile.weights[0][lanes(weight + (b * per_block + first), width)]
            weights = tuple(T.bind(each) for each in self.dot.weights(words))
            for p, row in enumerate(sums):
                write(row[b], self.dot.add(row[b][here], inputs[p], weights), here)


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


def fits_bytes(problem: Conv2d) -> bool:
    """Whether weights are bytes, and no sum of products passes 32 bits."""
    held = BYTE.low <= problem.weights.low and problem.weights.high <= BYTE.high
    products = problem.kernel[0] * problem.kernel[1] * (problem.x.c // problem.groups + WORD_BYTES)
    return held and products * _MOST * _HALF * codes_of(problem).step < 2**31
