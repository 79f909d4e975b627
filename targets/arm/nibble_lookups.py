"""Lookups of four inputs by tbl: a table of sixteen bytes, sixteen output channels at once.

A table serves all blocks of channels and planes of weights of a tile, and an index all its pixels. LLVM would load more
tables ahead than there are registers for, or none: the order of loads is that of the source (`pinned.py`), a few pixels
before they are looked up. What is found is added up in bytes, in 16 bits and in 32 (`nibble_findings.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.storage import TABLE_INPUTS
from qcompiler.targets.arm.nibble_findings import (
    PAIR,
    TABLES,
    Findings,
    Sums,
    narrow,
    tables_in_bytes,
    tables_in_halves,
)
from qcompiler.targets.arm.pinned import pinned_order
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.byte_sums import codes_of
from qcompiler.targets.vector.direct import ReductionLoop, for_taps
from qcompiler.targets.vector.emit import LANES, Expr, lanes, splat, write
from qcompiler.targets.vector.nibble_reduction import (
    BYTES,
    ENTRIES,
    NibbleReduction,
    digits_of,
    planes_of,
    vectors_of,
    worths_of,
)
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.unrolled_parts import for_hidden_taps, for_parts

# of a register of 128 bits
_WORDS = 4
# pixels whose tables are loaded while others are looked up; chosen
_MOST_PIXELS = 3
# for sums, bits, constants and tables, which leave some for what is found
_REGISTERS = 29


def pixels_ahead(problem: Conv2d, pixels: int, blocks: int) -> int:
    """Pixels whose tables can be loaded while others are looked up without a need of the stack; 0 if none can."""
    columns, kinds = blocks * len(planes_of(problem).factors), len(worths_of(problem))
    sums = pixels * blocks * (2 + kinds)
    # a mask, and with several kinds what they are worth and findings that wait to be multiplied by it
    others = 1 if kinds == 1 else 2 + kinds
    return max(0, min(_MOST_PIXELS, pixels, (_REGISTERS - sums - 2 * columns - others) // 2))


@dataclass(frozen=True)
class Group:
    """A few pixels of whose inputs a digit is looked up in one of four tables. half: which sixteen of 32 inputs."""

    table: int
    half: int
    digit: int
    pixels: range

    @property
    def starts_bits(self) -> bool:
        """Whether it is the first to be looked up by its bits of weights."""
        return self.digit == 0 and self.pixels.start == 0


@dataclass(frozen=True)
class _Loaded:
    """Registers of a group: bits of weights by block and plane, and the table of every pixel."""

    bits: dict[tuple[int, int], Expr]
    tables: list[Expr]


@dataclass(frozen=True)
class _Steps:
    """Steps of a reduction, `size` bytes of weights each, of which 16 bits hold the sums of `most`.

    step: looks up what lies at an offset of a pixel by the bits at an offset of the weights.
    """

    loops: list[ReductionLoop]
    size: int
    most: int
    step: Callable[[Findings, Expr, Expr], None]


@dataclass(frozen=True)
class NibbleLookups(NibbleReduction):
    """Weights as in `NibbleReduction`. ahead: pixels whose tables are loaded while others are looked up."""

    ahead: int

    def fill(self, tile: Tile) -> Registers:
        """Look up all inputs of every pixel."""
        problem, sums = tile.frame.problem, Sums.from_zero("int32", tile)
        at, weight = tile.source.start(tile.pixel), T.bind(tile.block * self.block_bytes(problem))
        tables, geometry = vectors_of(problem) * TABLES, tile.frame.geometry
        if tables % PAIR == 0:
            *outer, inner = geometry.loops()
            self._add(tile, sums, self._pairs(tile, outer, inner.extent // _pair_words(problem)), at, weight)
        elif tables <= tables_in_halves(problem):
            self._add(tile, sums, self._taps(tile, geometry.taps(), tables), at, weight)
        else:
            size = self.tap_bytes(problem)
            for_taps(geometry.taps(), tile.every_row, at, weight, size, lambda x, w: self._add_tap(tile, sums, x, w))
        return self._finished(tile, sums)

    def _add(self, tile: Tile, sums: Sums, steps: _Steps, at: Expr, weight: Expr) -> None:
        """Run steps, and add up what they find, part by part."""
        problem = tile.frame.problem

        def part(loops: list[ReductionLoop], at: Expr, weight: Expr) -> None:
            few = Sums.from_zero(narrow(problem), tile)
            findings = Findings(few, worths_of(problem), tables_in_bytes(problem))
            step = partial(steps.step, findings)
            for_hidden_taps(loops, tile.every_row, at, weight, steps.size, lambda x, w: step(T.bind(x), T.bind(w)))
            sums.add(few)

        for_parts(steps.loops, tile.every_row, at, weight, steps.size, part, steps.most)

    def _pairs(self, tile: Tile, outer: list[ReductionLoop], count: int) -> _Steps:
        """Runs of 32 inputs."""
        problem = tile.frame.problem
        loops = [*outer, ReductionLoop(count, _pair_words(problem))]
        most = tables_in_halves(problem) // PAIR
        return _Steps(loops, self.pair_bytes(problem), most, partial(self.look_up, tile, 2))

    def _taps(self, tile: Tile, taps: list[ReductionLoop], tables: int) -> _Steps:
        """Taps whose last sixteen inputs are alone in their bytes of weights."""
        problem = tile.frame.problem
        pairs, size = vectors_of(problem) // 2, self.pair_bytes(problem)

        def step(findings: Findings, x: Expr, w: Expr) -> None:
            if pairs:
                run, look_up = ReductionLoop(pairs, _pair_words(problem)), partial(self.look_up, tile, 2, findings)
                for_hidden_taps([run], tile.every_row, x, w, size, lambda x, w: look_up(T.bind(x), T.bind(w)))
            self.look_up(tile, 1, findings, x + pairs * _pair_words(problem), w + pairs * size)

        return _Steps(taps, self.tap_bytes(problem), tables_in_halves(problem) // tables, step)

    def _add_tap(self, tile: Tile, sums: Sums, at: Expr, weight: Expr) -> None:
        """Such a tap in several parts."""
        problem = tile.frame.problem
        pairs, size = vectors_of(problem) // 2, self.pair_bytes(problem)
        self._add(tile, sums, self._pairs(tile, [], pairs), T.bind(at), T.bind(weight))
        last = _Steps([], size, 1, partial(self.look_up, tile, 1))
        self._add(tile, sums, last, at + pairs * _pair_words(problem), weight + pairs * size)

    def look_up(self, tile: Tile, halves: int, findings: Findings, at: Expr, weight: Expr) -> None:
        """Look up sixteen inputs, or two times sixteen: a few pixels at a time, while those after them are loaded."""
        groups, digits = self.groups(tile, halves), digits_of(tile.frame.problem)
        with pinned_order():
            loaded = self._load(tile, groups[0], at, weight)
            bits = loaded.bits
            for group, following in zip(groups, [*groups[1:], None], strict=True):
                bits, tables = loaded.bits or bits, loaded.tables
                if following is not None:
                    loaded = self._load(tile, following, at, weight)
                if group.starts_bits:
                    indices = {column: T.bind(index_of(each, group.half)) for column, each in bits.items()}
                for pixel, table in zip(group.pixels, tables, strict=True):
                    for (block, plane), index in indices.items():
                        found = T.call_llvm_pure_intrin("uint8x16", "llvm.aarch64.neon.tbl1.v16i8", table, index)
                        findings.add(found, pixel, block, plane * digits + group.digit)
                findings.pin()
            findings.widen()

    def groups(self, tile: Tile, halves: int) -> list[Group]:
        """All that is looked up, in order."""
        return [
            Group(table, half, digit, pixels)
            for table in range(TABLES)
            for half in range(halves)
            for digit in range(digits_of(tile.frame.problem))
            for pixels in _groups_of(tile.frame.tiling.pixels, self.ahead)
        ]

    def _load(self, tile: Tile, group: Group, at: Expr, weight: Expr) -> _Loaded:
        """The tables of a group, and the bits that it is the first to need."""
        problem, source = tile.frame.problem, tile.source
        first = at + (place_of_tables(problem, group.half, group.digit) + group.table * _WORDS)
        words = [source.data[lanes(first + pixel * source.pixel_step(), _WORDS)] for pixel in group.pixels]
        tables = [T.bind(T.reinterpret("uint8x16", each)) for each in words]
        if group.half or not group.starts_bits:
            return _Loaded({}, tables)
        bits = {}
        for block in range(tile.frame.tiling.blocks):
            for plane in range(len(planes_of(problem).factors)):
                place = block * self.block_bytes(problem) + plane * BYTES + group.table * LANES
                bits[block, plane] = T.bind(tile.weights[0][lanes(weight + place)])
        return _Loaded(bits, tables)

    def _finished(self, tile: Tile, sums: Sums) -> Registers:
        """Sums of products, times the step."""
        problem, tiling = tile.frame.problem, tile.frame.tiling
        step = codes_of(problem).step
        for register in sums.registers.values() if step > 1 else ():
            write(register, register[lanes(0)] * splat(T.int32(step)), lanes(0))
        return [[sums.registers[pixel, block] for block in range(tiling.blocks)] for pixel in range(tiling.pixels)]


def place_of_tables(problem: Conv2d, half: int, digit: int) -> int:
    """Words from two times sixteen inputs to the tables of a digit of half of them."""
    return (half * digits_of(problem) + digit) * LANES


def _pair_words(problem: Conv2d) -> int:
    """Words of the tables of two times sixteen inputs."""
    return 2 * LANES * digits_of(problem)


def index_of(bits: Expr, half: int) -> Expr:
    """The lower or the upper four bits of bytes."""
    if half:
        return T.shift_right(bits, splat(T.uint8(TABLE_INPUTS)))
    return bits & splat(T.uint8(ENTRIES - 1))


def _groups_of(pixels: int, most: int) -> list[range]:
    """Pixels in as few groups of at most so many as need be, of almost the same size."""
    count = -(-pixels // most)
    edges = [pixels * group // count for group in range(count + 1)]
    return [range(first, last) for first, last in zip(edges, edges[1:], strict=False)]
