"""`ElementDots` in an order for cores that run instructions in order: a load between every few products.

A register of weights is loaded while the two before it are multiplied, and inputs of the next sixteen channels in the
same way. The products of a register of weights with all pixels come one after the other, so that none waits for its
own sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.element_dots import WORDS, ElementDots
from qcompiler.targets.arm.indexed_load import hidden_offset, indexed_loads, load_indexed
from qcompiler.targets.arm.pinned import Register, pinned, pinned_address, pinned_order
from qcompiler.targets.vector.byte_sums import ONES, codes_of
from qcompiler.targets.vector.emit import LANES, Expr, lanes, splat, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile

# registers of weights that are loaded ahead
_AHEAD = 2
_WORD_BYTES = 4
# pixels times blocks whose sums leave registers for the inputs of two steps
_MOST_TWICE = 4
# words of weights behind one address: there are registers for that many offsets
_RUN = 64


@dataclass(frozen=True)
class _Products:
    """Those of a register of weights with all pixels: which sixteen inputs, word of them, block and channels."""

    part: int
    word: int
    block: int
    channel: int


@dataclass(frozen=True)
class OrderedElements(ElementDots):
    """Weights as in `ElementDots`."""

    def parts(self, frame: Frame) -> int:
        """Two where registers hold the inputs of both."""
        few = frame.tiling.pixels * frame.tiling.blocks <= _MOST_TWICE
        return self.even_parts(frame) if few else 1

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Sixteen products in every lane, or two times as many."""
        with pinned_order(), indexed_loads():
            _Step(self, tile, sums, at, weight, self.parts(tile.frame)).emit()


class _Place:
    """Where loads begin, and the address that was computed last."""

    def __init__(self, words: Expr, at: Expr) -> None:
        self._words, self._at = words, at
        self._run, self._address = -1, None

    def load(self, run: int, offset: Expr) -> Expr:
        """uint32x4 that lie an offset behind a run that begins so many words behind the place."""
        if run != self._run:
            self._run, self._address = run, pinned_address(self._words, self._at + run)
        return load_indexed(self._address, offset)


class _Step:
    """A step: what is multiplied, and what is loaded meanwhile."""

    def __init__(
        self, sums: OrderedElements, tile: Tile, registers: Registers, at: Expr, weight: Expr, parts: int
    ) -> None:
        self._sums, self._tile, self._registers, self._parts = sums, tile, registers, parts
        problem, source = tile.frame.problem, tile.source
        self._shift = sums.shift(codes_of(problem))
        self._x, self._w = _Place(source.data, at), _Place(tile.weights[0], weight)
        self._inputs: dict[tuple[int, int], Expr] = {}
        self._weights: dict[_Products, Register] = {}
        self._offsets: dict[int, Expr] = {}

    def emit(self) -> None:
        """All instructions, a load between the products of every register of weights."""
        pixels, blocks = len(self._registers), self._tile.frame.tiling.blocks
        order = [
            _Products(part, word, block, channel)
            for part in range(self._parts)
            for word in range(WORDS)
            for block in range(blocks)
            for channel in range(0, LANES, WORDS)
        ]
        # before anything is pinned
        words = {self._input_offset(part, p) for part in range(self._parts) for p in range(pixels)}
        words |= {self._weight_place(each)[1] for each in order}
        self._offsets = {offset: hidden_offset(_WORD_BYTES * offset) for offset in sorted(words)}
        inputs = [[self._load_input(part, p) for p in range(pixels)] for part in range(self._parts)]
        loads = [self._load_weights(each) for each in order]
        for load in [loads[0], *inputs[0], *loads[1:_AHEAD]]:
            load()
        for number, each in enumerate(order):
            following = loads[number + _AHEAD : number + _AHEAD + 1]
            place, size = number % (len(order) // self._parts), len(order) // self._parts
            # inputs of the next part while the last products of this one are made
            if each.part + 1 < self._parts and place >= size - pixels:
                following = [*following, inputs[each.part + 1][place - (size - pixels)]]
            if place == 0:
                self._shift_inputs(each.part)
            self._multiply(each, following)

    def _multiply(self, each: _Products, loads: list[Callable[[], None]]) -> None:
        weights, here = self._weights.pop(each), lanes(each.channel, WORDS)
        weights.pin()
        for p, row in enumerate(self._registers):
            x = T.Shuffle([self._inputs[each.part, p]], [each.word] * WORDS)
            dot = self._sums.dot
            total = dot.add(row[each.block][here], dot.weights(weights.words), dot.inputs(x))
            write(row[each.block], pinned("int32x4", total), here)
            if p < len(loads):
                loads[p]()
        for load in loads[len(self._registers) :]:
            load()

    def _load_input(self, part: int, pixel: int) -> Callable[[], None]:
        """Loads sixteen inputs of a pixel."""

        def load() -> None:
            words = self._x.load(0, self._offsets[self._input_offset(part, pixel)])
            self._inputs[part, pixel] = Register(words).words

        return load

    def _shift_inputs(self, part: int) -> None:
        """Takes what is too much for signed bytes from all inputs at once, since products take longer."""
        for pixel in range(len(self._registers) if self._shift else 0):
            shifted = self._inputs[part, pixel] ^ splat(T.uint32(ONES * self._shift), WORDS)
            self._inputs[part, pixel] = Register(pinned("uint32x4", shifted)).words

    def _load_weights(self, each: _Products) -> Callable[[], None]:
        """Loads weights of four channels for four inputs."""

        def load() -> None:
            run, offset = self._weight_place(each)
            self._weights[each] = Register(self._w.load(run, self._offsets[offset]))

        return load

    def _input_offset(self, part: int, pixel: int) -> int:
        """Words from the inputs of the step."""
        return part * WORDS + pixel * self._tile.source.pixel_step()

    def _weight_place(self, each: _Products) -> tuple[int, int]:
        """Words from the weights of the step to a run of them, and within it."""
        frame = self._tile.frame
        place = (each.part * WORDS + each.word) * frame.geometry.step_weights + each.channel
        offset = place % _RUN
        return self._sums.block_offset(frame, each.block) + place - offset, offset
