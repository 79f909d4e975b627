"""Sums of products of codes in tables: a lookup for every four inputs of each pixel, block and plane of weights."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from itertools import product
from typing import Any

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.byte_sums import in_steps
from qcompiler.targets.vector.direct import for_taps
from qcompiler.targets.vector.emit import LANES, Expr, i64, lanes, temporary, write
from qcompiler.targets.vector.nibble_reduction import BYTES, NibbleReduction, digits_of, planes_of, vectors_of
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile

Total = Any
"""What is added up for one pixel and one block of channels."""


@dataclass(frozen=True)
class NibbleSums(NibbleReduction):
    """What all ways to look up share: the loops."""

    def fill(self, tile: Tile) -> Registers:
        """Look up all inputs of every pixel."""
        frame, problem = tile.frame, tile.frame.problem
        sums = [[self.total(problem) for _ in range(frame.tiling.blocks)] for _ in range(frame.tiling.pixels)]
        start = tile.source.start(tile.pixel)

        def tap(at: Expr, weight: Expr) -> None:
            self._tap(tile, sums, at, weight)

        first = T.bind(tile.block * self.block_bytes(problem))
        rows = tile.needed_rows(of_numbers=problem.x.flips is None)
        for_taps(frame.geometry.taps(), rows, start, first, self.tap_bytes(problem), tap)
        return [[self._register(tile, self.channels(total, problem)) for total in row] for row in sums]

    def _register(self, tile: Tile, value: Expr) -> Expr:
        """The sums of sixteen channels, times the step."""
        made = temporary("int32")
        write(made, in_steps(value, tile.frame.problem), lanes(0))
        return made

    def _tap(self, tile: Tile, sums: list[list[Total]], at: Expr, weight: Expr) -> None:
        """Look up the inputs of one tap, two times sixteen of them at once."""
        problem = tile.frame.problem
        vectors, size, words = vectors_of(problem), self.pair_bytes(problem), LANES * digits_of(problem)
        if vectors > 1:
            with T.serial(i64(0), i64(vectors // 2)) as pair:
                self._pair(tile, sums, T.bind(at + pair * (2 * words)), T.bind(weight + pair * size), 2)
        if vectors % 2:
            self._pair(tile, sums, at + (vectors - 1) * words, weight + vectors // 2 * size, 1)

    def _pair(self, tile: Tile, sums: list[list[Total]], at: Expr, weight: Expr, halves: int) -> None:
        """Look up sixteen inputs, or two times sixteen."""
        problem = tile.frame.problem
        planes = range(len(planes_of(problem).factors))
        if self.at_once(problem):
            self._look_up(tile, sums, at, weight, range(halves), planes)
        else:
            for half, plane in product(range(halves), planes):
                self._look_up(tile, sums, at, weight, range(half, half + 1), range(plane, plane + 1))
        for total in (total for row in sums for total in row):
            self.settle(total)

    def _look_up(
        self, tile: Tile, sums: list[list[Total]], at: Expr, weight: Expr, halves: range, planes: range
    ) -> None:
        """Look up inputs in some planes of weights, pixel by pixel, so that few tables are held."""
        problem, source = tile.frame.problem, tile.source
        digits = digits_of(problem)
        blocks = [weight + b * self.block_bytes(problem) for b in range(tile.frame.tiling.blocks)]
        indices = [[[self._index(tile, at, plane, half) for half in halves] for plane in planes] for at in blocks]
        for (p, row), digit in product(enumerate(sums), range(digits)):
            first = at + p * source.pixel_step() + digit * LANES
            tables = [self.table(source.data, first + half * (digits * LANES)) for half in halves]
            for total, each in zip(row, indices, strict=True):
                for plane, index in zip(planes, each, strict=True):
                    self.add(total, tables, index, plane * digits + digit, problem)

    def _index(self, tile: Tile, at: Expr, plane: int, half: int) -> Any:
        """The bits of a plane for sixteen inputs; at: of a block, for two times sixteen."""
        byte, place = divmod(half, self.per_byte)
        return self.index(tile.weights[0], at + (plane * (2 // self.per_byte) + byte) * BYTES, place)

    @abstractmethod
    def total(self, problem: Conv2d) -> Total:
        """What the sums of a pixel and a block are added up in, from 0 on."""

    @abstractmethod
    def index(self, weights: Expr, at: Expr, place: int) -> Any:
        """The bits for sixteen inputs, from a place in each of 64 bytes, the first of them lowest."""

    @abstractmethod
    def table(self, data: Expr, at: Expr) -> Any:
        """The tables of sixteen inputs."""

    def at_once(self, problem: Conv2d) -> bool:
        """Whether both halves of a byte of weights, and all planes, are looked up before the next pixel is."""
        return False

    @abstractmethod
    def add(self, total: Total, tables: list[Any], indices: list[Any], kind: int, problem: Conv2d) -> None:
        """Look up each index in its table, and add what is found for a digit in a plane of weights.

        kind: the place of what it is worth in `worths_of`.
        """

    def settle(self, total: Total) -> None:  # noqa: B027
        """Finish what a few additions leave open."""

    @abstractmethod
    def channels(self, total: Total, problem: Conv2d) -> Expr:
        """The sums of sixteen channels, int32x16."""
