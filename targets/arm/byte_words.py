"""Sums of products of codes in bytes without dot instructions: four inputs of a pixel times those of sixteen channels.

Weights lie as sdot wants them, so that variants with and without it share one copy: four inputs of four channels in a
register. A word of four inputs is repeated for all of them, which takes an instruction for sixteen registers of
products of 16 bits. Those are added up in 16 bits as long as they fit, which is for whole layers of few bits; else
neighbours are added up in 32 bits at once. An accumulator belongs to a pixel and two channels; in the end its lanes are
added up.

The order is that of the source (`pinned.py`): on cores that keep to it no instruction waits for the one before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.byte_dots import largest_input
from qcompiler.targets.arm.element_dots import WORDS, ElementDots
from qcompiler.targets.arm.pinned import Register, fourfold_loads, load_four, pinned, pinned_address, pinned_order
from qcompiler.targets.arm.row_mismatches import side_by_side
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.byte_sums import codes_of
from qcompiler.targets.vector.direct import ReductionLoop
from qcompiler.targets.vector.emit import LANES, Expr, lanes, register, splat, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_hidden_taps, for_parts

# lanes of a register of products; registers of weights of four inputs, and halves of their products
_PRODUCTS = 8
_QUADS, _HALVES = range(LANES // WORDS), range(2)
# steps of sixteen products that pay for sums of 16 bits; chosen
_WORTHWHILE = 2
# registers of products that are made before the first is added up in 32 bits
_LAG = 2


@dataclass(frozen=True)
class _Place:
    """An accumulator: of a pixel, and of two of four channels."""

    pixel: int
    quad: int
    half: int


@dataclass(frozen=True)
class ByteWords(ElementDots):
    """Weights as in `ElementDots`, which variants with sdot share; tiles of one block. See `reads_registers`."""

    family: ClassVar[str] = "bytes_word_conv2d"

    def parts(self, frame: Frame) -> int:
        """As many as may be: a jump takes as long as some products."""
        return self.even_parts(frame)

    def fill(self, tile: Tile) -> Registers:
        """Sum all pixels."""
        frame, step = tile.frame, codes_of(tile.frame.problem).step
        sums = [register(0) for _ in range(frame.tiling.pixels)]
        at, (first, size) = tile.source.start(tile.pixel), self.weight_steps(frame, tile.block)

        def part(loops: list[ReductionLoop], x: Expr, w: Expr) -> None:
            self._add(tile, sums, loops, x, w)

        if in_halves(frame.problem):
            most = _steps_in_halves(frame.problem) // self.parts(frame)
            for_parts(self.loops(frame), tile.every_row, at, T.bind(first), size, part, most)
        else:
            part(self.loops(frame), at, T.bind(first))
        for total in sums if step > 1 else ():
            write(total, total[lanes(0)] * splat(T.int32(step)), lanes(0))
        return [[total] for total in sums]

    def _add(self, tile: Tile, sums: list[Expr], loops: list[ReductionLoop], at: Expr, weight: Expr) -> None:
        """Add up products, then the lanes of every accumulator."""
        halves = in_halves(tile.frame.problem)
        dtype, count = ("int16", _PRODUCTS) if halves else ("int32", WORDS)
        totals = {_Place(*each): temporary(dtype, count) for each in product(range(len(sums)), _QUADS, _HALVES)}
        for total in totals.values():
            write(total, splat(T.Cast(dtype, T.int32(0)), count), lanes(0, count))
        _, size = self.weight_steps(tile.frame, tile.block)
        with pinned_order(), fourfold_loads():

            def step(x: Expr, w: Expr) -> None:
                self._products(tile, totals, T.bind(x), T.bind(w))

            for_hidden_taps(loops, tile.every_row, at, weight, size, step)
        for (p, total), quad in product(enumerate(sums), _QUADS):
            ours = [totals[_Place(p, quad, half)][lanes(0, count)] for half in _HALVES]
            wide = [_widened(each) for each in ours] if halves else ours
            into = lanes(quad * WORDS, WORDS)
            write(total, total[into] + side_by_side("int32x4", *wide), into)

    def _products(self, tile: Tile, totals: dict[_Place, Expr], at: Expr, weight: Expr) -> None:
        """A step of every pixel: words and weights of what comes next are there before these are multiplied."""
        frame, halves = tile.frame, in_halves(tile.frame.problem)
        pixels, words = range(frame.tiling.pixels), range(WORDS * self.parts(frame))
        size, adder = frame.geometry.step_weights, _Adder(totals, halves)
        places = [pinned_address(tile.weights[0], weight + word * size) for word in words]
        inputs = {(0, p): Register(self.inputs(tile, at, p)) for p in pixels}
        loaded, order = load_four(places[0]), list(product(words, pixels))
        repeated = _repeated(inputs[0, 0], 0)
        for (word, p), following in zip(order, [*order[1:], None], strict=True):
            weights, ours = loaded, repeated
            for quad, half in product(_QUADS, _HALVES):
                if p == pixels[-1] and (quad, half) == (0 if halves else 2, 0) and following:
                    loaded = load_four(places[following[0]])
                if (p, quad, half) == (0, 0, 0) and (word + 2) % WORDS == 0 and word + 2 < len(words):
                    first = word + 2
                    inputs |= {(first // WORDS, p): Register(self.inputs(tile, at + first, p)) for p in pixels}
                if (quad, half) == (0, 1) and following:
                    part, place = divmod(following[0], WORDS)
                    repeated = _repeated(inputs[part, following[1]], place)
                weights[quad].pin()
                adder.add(_Place(p, quad, half), ours, weights[quad])
        adder.finish()


class _Adder:
    """Adds products to accumulators."""

    def __init__(self, totals: dict[_Place, Expr], halves: bool) -> None:
        self._totals, self._halves = totals, halves
        self._waiting: list[tuple[_Place, Register]] = []

    def add(self, place: _Place, inputs: Register, weights: Register) -> None:
        """Products of a half of two registers."""
        lower = place.half * _PRODUCTS
        ours, theirs = (
            T.Cast("int16x8", T.Shuffle([T.reinterpret("int8x16", each.words)], list(range(lower, lower + _PRODUCTS))))
            for each in (inputs, weights)
        )
        if self._halves:
            total, every = self._totals[place], lanes(0, _PRODUCTS)
            write(total, pinned("int16x8", total[every] + ours * theirs), every)
            return
        self._waiting.append((place, Register(pinned("uint32x4", T.reinterpret("uint32x4", ours * theirs)))))
        if len(self._waiting) > _LAG:
            self._widen()

    def finish(self) -> None:
        """Add what waits."""
        while self._waiting:
            self._widen()

    def _widen(self) -> None:
        (place, products), every = self._waiting.pop(0), lanes(0, WORDS)
        total = self._totals[place]
        products.pin()
        added = total[every] + _widened(T.reinterpret("int16x8", products.words))
        write(total, pinned("int32x4", added), every)


def _repeated(inputs: Register, word: int) -> Register:
    """One of four words, four times."""
    return Register(pinned("uint32x4", T.Shuffle([inputs.words], [word] * WORDS)))


def in_halves(problem: Conv2d) -> bool:
    """Whether products are added up in 16 bits."""
    return _steps_in_halves(problem) >= _WORTHWHILE


def _steps_in_halves(problem: Conv2d) -> int:
    """Steps whose sums 16 bits hold: four products each."""
    largest = max(abs(problem.weights.low), abs(problem.weights.high))
    return int((2**15 - 1) // max(1, largest_input(problem) * largest)) // WORDS


def _widened(halves: Expr) -> Expr:
    """int32x4: neighbours of int16x8 added up."""
    return T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp", halves)
