"""Sums of products of codes in bytes: four inputs, broadcast, times four weights in each lane of 32 bits.

An activation is low + step * i, stored as i in 0 to 255; a weight is an integer of 8 bits with a sign. So
sum(a * w) = step * sum(i * w) + low * sum(w). Processors that multiply signed bytes get i - 128 instead of i where i
takes all 8 bits, and the sum lacks 128 * sum(w).

Weights of 8 bits whose zero point is another than 128 may lie beyond -128 to 127. Then c is taken from those of an
output channel, and sum(i * w) = sum(i * (w - c)) + c * sum(i), where the last sum is one for all channels of a pixel.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import BYTE, Codes
from qcompiler.ir.numerics import WORD_BYTES, fits_byte_sums
from qcompiler.targets.problem import Conv2d, centres
from qcompiler.targets.target import Array
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.direct import Geometry, ReductionLoop, for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, register, splat, split, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Reduction, Registers, weight_words
from qcompiler.targets.vector.tile import Tile

ONES = 0x01010101
_HALF = 128
# pixels from which on arithmetic outweighs reading weights; chosen
_MANY_PIXELS = 16
# bits of weights that one more makes a part less of
_TWO_PARTS, _THREE_PARTS = 3, 7
# blocks of a tile that leave room for pixels; chosen
_MOST_TOGETHER = 4


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

    @property
    def parts(self) -> int:
        """Registers that `width` words of an operand are kept in."""
        ...

    @property
    def chain(self) -> int:
        """Registers of sums, of `width` lanes, of which one is through with `add` when its turn comes again."""
        ...

    @property
    def speed(self) -> float:
        """Products in a time, beside those that the machine's `byte_rate` says."""
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
class IndexReduction(Reduction):
    """Sums of products of the numbers i of codes, times the step of the codes."""

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


@dataclass(frozen=True)
class IndexSums(IndexReduction):
    """Those that are added up in a register for every pixel and block, unit by unit of input."""

    def fill(self, tile: Tile) -> Registers:
        """Sum all pixels and blocks."""
        frame = tile.frame
        sums = [self.started(frame) for _ in range(frame.tiling.pixels)]
        first, per_step = self.weight_steps(frame, tile.block)
        self.add_up(tile, sums, tile.source.start(tile.pixel), T.bind(first), per_step)
        self.settle(tile, sums)
        for row in sums:
            for b in range(frame.tiling.blocks):
                value = self.finished(tile, row, b)
                write(row[b], in_steps(value, frame.problem), lanes(0))
        return [row[: frame.tiling.blocks] for row in sums]

    def add_up(self, tile: Tile, sums: Registers, at: Expr, weight: Expr, per_step: int) -> None:
        """Add the products of all units of input to the registers.

        at, weight: offsets of the first unit and its weights; per_step: from the weights of one unit to the next.
        """

        def step(x: Expr, w: Expr) -> None:
            self.step(tile, sums, x, w)

        for_taps(self.loops(tile.frame), self.rows(tile), at, weight, per_step, step)

    def weight_steps(self, frame: Frame, block: Expr) -> tuple[Expr, int]:
        """Offset of the weights of a run that starts at `block`, and from one step to the next."""
        return frame.geometry.first_weight(block), frame.geometry.step_weights

    def rows(self, tile: Tile) -> tuple[Expr, Expr]:
        """The kernel rows to add up: those in the padding add nothing where its code has the number 0."""
        return tile.needed_rows(of_numbers=self.shift(codes_of(tile.frame.problem)) == 0)

    def loops(self, frame: Frame) -> list[ReductionLoop]:
        """The reduction, a step for each unit of input."""
        return frame.geometry.loops()

    def settle(self, tile: Tile, sums: Registers) -> None:  # noqa: B027
        """Give every register the sums of its pixel and block, where they lie elsewhere while they are added up."""

    def started(self, frame: Frame) -> list[Expr]:
        """The registers of a pixel before anything is added up."""
        return [register(0) for _ in range(frame.tiling.blocks)]

    def finished(self, tile: Tile, row: list[Expr], b: int) -> Expr:
        """Sums of products of a pixel with block `b` of a tile, int32x16, from what was added up."""
        found: Expr = row[b][lanes(0)]
        return found

    @abstractmethod
    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Add the products of one unit of input, for every pixel and block."""


@dataclass(frozen=True)
class ByteSums(IndexSums):
    """Weights uint32 [blocks / U, steps, U, 16], four bytes each; see `Geometry.arrange`.

    bits: of weights as they are stored, 1 to 8. Weights of fewer than 8 are stored in parts of 4, 2 and 1 bits, the
    highest first, each uint32 [blocks * part / 8, steps, 16]: a byte holds that part of the weights of 8 / part blocks
    side by side. A weight is put together in the highest bits of a byte, which makes sums 2**(8 - bits) times as large.

    Where the problem is centred, int32 [blocks, 16] of centres follow, and a pixel has one more register: its inputs.
    """

    dot: ByteDot
    bits: int = 8

    family: ClassVar[str] = "bytes_conv2d"

    def label(self, frame: Frame) -> str:
        """Instruction, bits of weights, and tiling."""
        return f"{self.family}_{self.dot.name}_w{self.bits}_{frame.tiling.label}"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Words of weights, and centres."""
        words = weight_words(frame)
        held = replace(words, elements=words.elements * self.bits // 8)
        centred = [Parameter("centres", "int32", frame.blocks.count * LANES, 64)]
        return [held, *(centred if frame.problem.centred else [])]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Bytes in the order of the loops, and centres."""
        if not frame.problem.centred:
            return [self.packed(frame, weights)]
        middle = centres(weights)
        around = weights - middle.reshape(-1, 1, 1, 1).astype(np.float32)
        return [self.packed(frame, around), frame.blocks.spread(middle)]

    def packed(self, frame: Frame, weights: npt.NDArray[np.float32]) -> Array:
        """Words of weights in the order of the loops."""
        if self.bits == 8:
            return frame.geometry.arrange(weights)
        blocks = frame.geometry.weight_lanes(weights).view(np.uint8)
        parts, rest = [], self.bits
        for part in parts_of(self.bits):
            rest -= part
            parts.append(_side_by_side(np.right_shift(blocks, np.uint8(rest)), part).view(np.uint32).reshape(-1))
        return np.concatenate(parts)

    def weight_steps(self, frame: Frame, block: Expr) -> tuple[Expr, int]:
        """Offset of the weights of a run that starts at `block`, and from one step to the next."""
        return super().weight_steps(frame, block) if self.bits == 8 else (i64(0), LANES)

    def started(self, frame: Frame) -> list[Expr]:
        """Registers of products, and of inputs without what fills up their words."""
        inputs = self.shift(codes_of(frame.problem)) * _filling(frame.problem)
        return [*super().started(frame), *([register(inputs)] if frame.problem.centred else [])]

    def finished(self, tile: Tile, row: list[Expr], b: int) -> Expr:
        """Sums of products with the weights as they are."""
        total = super().finished(tile, row, b)
        if self.bits < 8:
            total = T.shift_right(total, splat(T.int32(8 - self.bits)))
        if not tile.frame.problem.centred:
            return total
        return total + row[-1][lanes(0)] * tile.weights[1][lanes((tile.block + b) * LANES)]

    def block_offset(self, frame: Frame, block: int) -> int:
        """Words of weights of 8 bits from the first block of a run to another."""
        return frame.geometry.block_offset(block)

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
            words = words ^ splat(T.uint32(ONES * shift), width) if shift else words
            inputs.append(tuple(T.bind(each) for each in self.dot.inputs(words)))
        if tile.frame.problem.centred:
            ones = self.dot.weights(splat(T.uint32(ONES), width))
            for p, row in enumerate(sums):
                self.multiply(row[-1], first, inputs[p], ones)
        for b in range(tile.frame.tiling.blocks):
            words = self.words(tile, b, weight + first)
            self._ask_ahead(tile, b, weight)
            weights = tuple(T.bind(each) for each in self.dot.weights(words))
            for p, row in enumerate(sums):
                self.multiply(row[b], first, inputs[p], weights)

    def by_pixels(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Four products in every lane, pixel by pixel, so that registers hold the inputs of one alone.

        Where all lanes read the same inputs, and nothing is centred.
        """
        width, source = self.dot.width, tile.source
        parts = [(b, first) for b in range(tile.frame.tiling.blocks) for first in range(0, LANES, width)]
        words = (T.bind(self.words(tile, b, weight + first)) for b, first in parts)
        weights = [tuple(T.bind(each) for each in self.dot.weights(held)) for held in words]
        for p, row in enumerate(sums):
            held = T.bind(source.lanes_at(at + p * source.pixel_step(), 0, width))
            inputs = tuple(T.bind(each) for each in self.dot.inputs(held))
            for (b, first), each in zip(parts, weights, strict=True):
                self.multiply(row[b], first, inputs, each)

    def multiply(self, total: Expr, first: int, inputs: tuple[Expr, ...], weights: tuple[Expr, ...]) -> None:
        """Add four products to `width` lanes of a register from lane `first` on."""
        here = lanes(first, self.dot.width)
        write(total, self.dot.add(total[here], inputs, weights), here)

    def words(self, tile: Tile, b: int, at: Expr) -> Expr:
        """Words of weights of block `b` of a tile; at: their offset in the first block."""
        words, above = None, 0
        for part, line in self.lines(tile, b, at):
            held = tile.weights[0][lanes(line, self.dot.width)]
            if part == 8:
                return held
            found = self._lowered(self._highest(held, part, shared_place(tile, b, 8 // part)[1]), above)
            words = found if words is None else words | found
            above += part
        return words

    def lines(self, tile: Tile, b: int, at: Expr) -> list[tuple[int, Expr]]:
        """Each part of the weights of block `b` of a tile, and the offset of its words; at: see `words`."""
        if self.bits == 8:
            return [(8, at + self.block_offset(tile.frame, b))]
        lines, first, steps = [], 0, tile.frame.geometry.steps * LANES
        for part in parts_of(self.bits):
            lines.append((part, shared_place(tile, b, 8 // part)[0] * steps + first + at))
            first += tile.frame.blocks.count * part // 8 * steps
        return lines

    def _ask_ahead(self, tile: Tile, b: int, at: Expr) -> None:
        """Ask for what block `b` of the next tile of blocks reads, if a register is a line; at: see `words`."""
        frame, blocks = tile.frame, tile.frame.tiling.blocks
        if frame.geometry.interleave > 1 or self.dot.width < LANES:
            return
        size = frame.blocks.count * frame.geometry.steps * LANES * self.bits // 2
        for part, line in self.lines(tile, b, at):
            shared = 8 // part
            if blocks % shared == b % shared == 0:
                tile.ask_ahead(line, blocks // shared * frame.geometry.steps * LANES, size)

    def _highest(self, words: Expr, part: int, place: Expr) -> Expr:
        """Words with the part at a place of every byte in its highest bits, and nothing below."""
        moved = T.shift_left(words, splat(T.Cast("uint32", 8 - part * (place + 1)), self.dot.width))
        return moved & splat(T.uint32(ONES * (0x100 - (1 << (8 - part)))), self.dot.width)

    def _lowered(self, words: Expr, bits: int) -> Expr:
        return T.shift_right(words, splat(T.uint32(bits), self.dot.width)) if bits else words


def parts_of(bits: int) -> tuple[int, ...]:
    """The powers of two whose sum is the number of bits of weights, the largest first."""
    return tuple(part for part in (8, 4, 2, 1) if bits & part)


def _side_by_side(blocks: npt.NDArray[np.uint8], part: int) -> npt.NDArray[np.uint8]:
    """The lowest bits of bytes [blocks, ...], those of 8 / part blocks in one byte: [blocks * part / 8, ...]."""
    apart = (blocks & (2**part - 1)).reshape(-1, 8 // part, *blocks.shape[1:])
    places = np.arange(0, 8, part, dtype=np.uint8).reshape(1, -1, *[1] * (blocks.ndim - 1))
    return np.ascontiguousarray(np.bitwise_or.reduce(apart << places, axis=1))


def shared_place(tile: Tile, b: int, shared: int) -> tuple[Expr, Expr]:
    """Which of the bytes that `shared` blocks share hold block `b` of a tile, and at which place.

    The place is known beforehand where tiles hold whole bytes: they start at a multiple of their blocks then.
    """
    if tile.frame.tiling.blocks % shared:
        return split(tile.block + b, shared)
    return split(tile.block, shared)[0] + b // shared, T.int64(b % shared)


@dataclass(frozen=True)
class ChannelSums(IndexSums):
    """Channel by channel: sixteen bytes of a pixel times weights int8 [blocks / U, steps, U, 16], int16 if centred."""

    family: ClassVar[str] = "bytes_depthwise"
    element: ClassVar[str] = "uint8"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Weights."""
        return [Parameter("weights", self._dtype(frame), frame.blocks.count * frame.geometry.steps * LANES, 64)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Bytes in the order of the loops."""
        return [np.rint(frame.geometry.arrange(weights)).astype(self._dtype(frame))]

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """One product in every lane."""
        for b in range(tile.frame.tiling.blocks):
            held = tile.weights[0][lanes(weight + tile.frame.geometry.block_offset(b))]
            w = T.bind(T.Cast("int32x16", held))
            for p, row in enumerate(sums):
                x = T.Cast("int32x16", tile.source.lanes_at(at + p * tile.source.pixel_step()))
                write(row[b], row[b][lanes(0)] + x * w, lanes(0))

    def _dtype(self, frame: Frame) -> str:
        return "int16" if frame.problem.centred else "int8"


def in_steps(sums: Expr, problem: Conv2d) -> Expr:
    """int32x16: sums of products of the numbers of codes, times the step of the codes."""
    step = codes_of(problem).step
    return sums if step == 1 else sums * splat(T.int32(step))


def codes_of(problem: Conv2d) -> Codes:
    """The codes of the input."""
    assert problem.x.codes is not None
    return problem.x.codes


def stored_bits(problem: Conv2d, blocks: Blocks) -> int:
    """Of weights in the library: the fewest that hold them and whose parts are those of whole bytes.

    Seven are stored as eight, and three as four where many pixels take them apart: a part costs more than its bytes.
    """
    held = max(problem.weights.high.bit_length(), (-problem.weights.low - 1).bit_length()) + 1
    if held == _TWO_PARTS and problem.pixels >= _MANY_PIXELS:
        held += 1
    whole = [bits for bits in range(held, _THREE_PARTS) if all(blocks.count * part % 8 == 0 for part in parts_of(bits))]
    geometry = Geometry(problem, blocks)
    return next((bits for bits in whole if geometry.uniform(tile_blocks(bits))), 8)


def tile_blocks(bits: int) -> int:
    """Blocks whose number in a tile is a multiple of this, for weights of that many bits."""
    return min(8 // parts_of(bits)[0], _MOST_TOGETHER)


def fits_bytes(problem: Conv2d) -> bool:
    """Whether weights are bytes, and no sum of products passes 32 bits."""
    taps, inputs = problem.kernel[0] * problem.kernel[1], problem.x.c // problem.groups
    return problem.weights.within(BYTE) and fits_byte_sums(taps, inputs, codes_of(problem).step, problem.centred)


def _filling(problem: Conv2d) -> int:
    """Bytes of a window that fill up words."""
    return problem.kernel[0] * problem.kernel[1] * (-(problem.x.c // problem.groups) % WORD_BYTES)


def fits_sixteen_bits(largest_input: int, largest_weight: int) -> bool:
    """Whether the sum of two products of numbers of at most these absolute values fits 16 bits."""
    return 2 * largest_input * largest_weight < 2**15
