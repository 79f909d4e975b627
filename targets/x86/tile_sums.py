"""Sums of products of codes in bytes by Intel's matrix instructions (AMX-INT8).

A tile register holds up to 16 rows of 64 bytes. One instruction multiplies up to sixteen pixels of 64 inputs (a row of
bytes for each pixel, as they lie in the image) by 64 inputs of sixteen channels (a row of 16 words for every four
inputs, as all byte kernels store them), and adds the sums to int32 [pixels, 16]: 16384 products in 16 cycles (Intel 64
and IA-32 Architectures Optimization Reference Manual, chapter 20).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.byte_sums import IndexReduction, in_steps
from qcompiler.targets.vector.direct import Geometry, for_taps
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Registers, weight_words
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.tilings import Ranked, ranked, streams

ROWS = 16
"""Of a tile: words of the inputs that one instruction adds up."""
_ROW_BYTES = 64
# tile registers: sums from 0 on, then inputs and weights of whole tiles, and of what is left of a run of inputs
_MOST_BLOCKS = 4
_WHOLE, _REST = (4, 5), (6, 7)
# places in the configuration: bytes of rows, of 16 bits, and numbers of rows, of 8
_CONFIGURATION, _ROW_SIZES, _ROW_COUNTS = 64, 16, 48
# finding and loading inputs, shared by the blocks, beside a product; chosen
_PER_LOAD = 0.1


@dataclass(frozen=True)
class TileUnit:
    """The instructions, by the names of LLVM's intrinsics without their prefix."""

    def call(self, name: str, *operands: Expr) -> None:
        """One instruction; tile registers are int8 constants."""
        T.evaluate(T.call_llvm_intrin("void", f"llvm.x86.{name}", *operands))


AMX = TileUnit()


def multiplies_tiles(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether all channels of a block read the same bytes, and weights are bytes that need no centres."""
    given = problem.x.in_bytes and problem.second is None
    return given and not (problem.by_channel or problem.centred) and Geometry(problem, blocks).uniform(1)


def tile_tilings(problem: Conv2d, blocks: Blocks) -> list[Ranked]:
    """Tiles of pixels by blocks, each a tile register of sums; an instruction takes as long for fewer pixels."""
    tiles = [(p, b, ROWS / p * (1 + _PER_LOAD / b)) for p, b in streams(problem, blocks, ROWS * _MOST_BLOCKS)]
    return ranked(problem, blocks, [tile for tile in tiles if tile[1] <= _MOST_BLOCKS])


@dataclass(frozen=True)
class TileSums(IndexReduction):
    """Weights uint32 [blocks / U, steps, U, 16], four bytes each; see `Geometry.arrange`."""

    unit: TileUnit = AMX

    family: ClassVar[str] = "bytes_conv2d_amx"

    def parameters(self, frame: Frame) -> list[Parameter]:
        """Words of weights."""
        return [weight_words(frame)]

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """Bytes in the order of the loops."""
        return [frame.geometry.arrange(weights)]

    @contextmanager
    def around(self, frame: Frame) -> Iterator[None]:
        """Sizes of tiles are set for a work item, after which the system need not save them."""
        sizes = temporary("uint8", _CONFIGURATION)
        write(sizes, T.broadcast(T.uint8(0), _CONFIGURATION), lanes(0, _CONFIGURATION))
        write(sizes, T.uint8(1), i64(0))
        for register, (rows, row_bytes) in self._sizes(frame).items():
            write(sizes, T.uint8(row_bytes), i64(_ROW_SIZES + 2 * register))
            write(sizes, T.uint8(rows), i64(_ROW_COUNTS + register))
        self.unit.call("ldtilecfg", _address(sizes, i64(0)))
        yield
        self.unit.call("tilerelease")

    def fill(self, tile: Tile) -> Registers:
        """Sum all pixels and blocks, run by run of inputs that lie side by side; the sums stay where they are put."""
        frame, blocks = tile.frame, range(tile.frame.tiling.blocks)
        for b in blocks:
            self.unit.call("tilezero", _number(b))
        *outer, run = frame.geometry.loops()

        def step(at: Expr, weight: Expr) -> None:
            self._run(tile, run.extent, at, weight)

        start, first = tile.source.start(tile.pixel), frame.geometry.first_weight(tile.block)
        rows, per_run = tile.needed_rows(of_numbers=True), frame.geometry.step_weights * run.extent
        for_taps(outer, rows, start, T.bind(first), per_run, step)
        found = [temporary("int32", frame.tiling.pixels * LANES) for _ in blocks]
        for b in blocks:
            self.unit.call("tilestored64", _number(b), _address(found[b], i64(0)), i64(_ROW_BYTES))
        sums = [[_part(found[b], p) for b in blocks] for p in range(frame.tiling.pixels)]
        for total in chain.from_iterable(sums):
            write(total, in_steps(total[lanes(0)], frame.problem), lanes(0))
        return sums

    def _run(self, tile: Tile, words: int, at: Expr, weight: Expr) -> None:
        """Add the products of a run of inputs, for every pixel and block."""
        whole, rest = divmod(words, ROWS)
        per_tile = ROWS * tile.frame.geometry.step_weights
        if whole:
            with T.serial(i64(0), i64(whole)) as i:
                self._products(tile, _WHOLE, at + i * ROWS, weight + i * per_tile)
        if rest:
            self._products(tile, _REST, at + whole * ROWS, weight + whole * per_tile)

    def _products(self, tile: Tile, registers: tuple[int, int], at: Expr, weight: Expr) -> None:
        inputs, weights = map(_number, registers)
        geometry = tile.frame.geometry
        self._load(inputs, tile.source.data, at, tile.source.pixel_step())
        for b in range(tile.frame.tiling.blocks):
            self._load(weights, tile.weights[0], weight + geometry.block_offset(b), geometry.step_weights)
            self.unit.call("tdpbusd", _number(b), inputs, weights)

    def _load(self, register: Expr, words: Expr, at: Expr, step: int) -> None:
        """Rows of words, `step` words apart."""
        self.unit.call("tileloadd64", register, _address(words, at), i64(step * 4))

    def _sizes(self, frame: Frame) -> dict[int, tuple[int, int]]:
        """Rows of every tile register in use, and their bytes."""
        pixels, rest = frame.tiling.pixels, frame.geometry.loops()[-1].extent % ROWS
        found = {b: (pixels, _ROW_BYTES) for b in range(frame.tiling.blocks)}
        for (inputs, weights), words in ((_WHOLE, ROWS), (_REST, rest)):
            if words:
                found |= {inputs: (pixels, words * 4), weights: (words, _ROW_BYTES)}
        return found


def _number(register: int) -> Expr:
    return T.int8(register)


def _address(words: Expr, at: Expr) -> Expr:
    return T.address_of(words[at])


def _part(sums: Expr, pixel: Expr) -> Expr:
    """The sums of a pixel among those of a block."""
    return T.decl_buffer((LANES,), "int32", data=sums.data, elem_offset=i64(pixel * LANES))
