"""Mismatching bits of short reductions: a pixel's whole input stays in registers while the output channels pass by.

A register holds two runs of 64 input channels. Where the number of runs is odd, the last one fills its register twice
and meets the weights of two output channels at once. Bytes count everything: those of two output channels end in the
halves of a register, those of four in its quarters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.row_mismatches import pairwise, side_by_side
from qcompiler.targets.target import Array
from qcompiler.targets.vector.direct import Geometry
from qcompiler.targets.vector.emit import LANES, Expr, fenced, i64, lanes, opaque, temporary, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.tile import Tile
from qcompiler.targets.vector.word_mismatches import WordMismatches

_QUAD, _RUN_WORDS, _WORDS, _BYTES = 4, 2, 4, 16
# four bytes count the bits of a reduction
MOST_RUNS = _QUAD * 255 // (_RUN_WORDS * 32)
# runs of all pixels of a tile: those that fit registers with what a loop over four channels needs, or over eight
_HELD, _HELD_OF_MANY, _DOUBLED = 18, 15, 10


def runs_of(geometry: Geometry) -> list[int]:
    """Offsets of all runs of 64 channels in words; empty if the reduction is not made of such, or too long."""
    *outer, inner = geometry.loops()
    if inner.stride != 1 or inner.extent % _RUN_WORDS or not geometry.uniform(1):
        return []
    if geometry.steps > MOST_RUNS * _RUN_WORDS:
        return []
    starts = [sum(at) for at in product(*([i * loop.stride for i in range(loop.extent)] for loop in outer))]
    return [start + word for start in starts for word in range(0, inner.extent, _RUN_WORDS)]


def registers_of(runs: Sequence[int]) -> list[tuple[int, int]]:
    """Numbers of the two runs in every register: neighbours in memory, then those left over, the last one twice."""
    neighbours, single, number = list[tuple[int, int]](), list[int](), 0
    while number < len(runs):
        if number + 1 < len(runs) and runs[number + 1] == runs[number] + _RUN_WORDS:
            neighbours.append((number, number + 1))
            number += 2
        else:
            single.append(number)
            number += 1
    return [*neighbours, *zip(single[::2], [*single[1::2], *single[-1:]], strict=False)]


def holds(geometry: Geometry, pixels: int) -> bool:
    """Whether a tile of so many pixels needs no stack."""
    return 0 < len(runs_of(geometry)) * pixels <= (_HELD if pixels <= 2 else _HELD_OF_MANY)


@dataclass(frozen=True)
class HeldMismatches(WordMismatches):
    """Weights uint32 [blocks, 8 pairs of channels, registers of a pair, 4 words]; tiles of one block. See `runs_of`."""

    family: ClassVar[str] = "held_conv2d"

    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """For every register of input that of each channel of a pair, or one that they share."""
        words = frame.geometry.weight_lanes(weights)
        runs = words.reshape(len(words), -1, _RUN_WORDS, LANES // 2, 2).transpose(0, 3, 4, 1, 2)
        packed = []
        for first, second in registers_of(runs_of(frame.geometry)):
            halves = [(c, run) for c in range(2) for run in ([first] if first == second else [first, second])]
            packed += [runs[:, :, c, run] for c, run in halves]
        return [np.ascontiguousarray(np.stack(packed, axis=2))]

    def skips_rows(self, frame: Frame) -> bool:
        """Never: the whole input of a pixel is loaded before it is used."""
        return False

    def skips_columns(self, frame: Frame) -> bool:
        """Never, likewise."""
        return False

    def accumulate(self, tile: Tile, counts: list[list[Expr]]) -> None:
        """counts[p][0] += mismatches of pixel p, a few times four channels per jump; bytes are widened at the end."""
        start, step = T.bind(tile.source.start(tile.pixel)), tile.source.pixel_step()
        geometry = tile.frame.geometry
        runs = runs_of(geometry)
        held = [_held(tile.source.data, start + p * step, runs) for p in range(len(counts))]
        sums = [temporary("uint8", LANES * _QUAD) for _ in counts]
        size, first = geometry.steps * _QUAD, T.bind(tile.block * (LANES * geometry.steps))
        quads = 2 if len(counts) * len(runs) <= _DOUBLED else 1
        with T.serial(i64(0), opaque(LANES // _QUAD // quads)) as several:
            for i in range(quads):
                quad = several * quads + i
                _quad(geometry.steps, tile.weights[0], first + quad * size, held, sums, quad * _BYTES)
        for total, (count,) in zip(sums, counts, strict=True):
            for quad in range(0, LANES, _QUAD):
                pairs = pairwise("uint16x8", total[lanes(quad * _QUAD, _BYTES)])
                added, into = T.reinterpret("int32x4", pairwise("uint32x4", pairs)), lanes(quad, _QUAD)
                write(count, count[into] + added if tile.start else added, into)


def _quad(steps: int, w: Expr, at: Expr, held: list[list[Expr]], sums: list[Expr], into: Expr) -> None:
    """sums[p][into:] = mismatches of pixel p with the four channels whose weights start at `at`."""
    size, shares = steps * 2, steps % _WORDS != 0
    pairs = [_pair(w, at + pair * size, held, shares) for pair in range(2)]
    for total, left, right in zip(sums, *pairs, strict=True):
        write(total, side_by_side("uint8x16", left, right), lanes(into, _BYTES))


def _held(x: Expr, at: Expr, runs: Sequence[int]) -> list[Expr]:
    """uint32x4: the registers of the pixel at `at`."""
    held = []
    for first, second in registers_of(runs):
        if runs[second] == runs[first] + _RUN_WORDS:
            held.append(T.bind(x[lanes(at + runs[first], _WORDS)]))
        else:
            halves = [x[lanes(at + runs[number], _RUN_WORDS)] for number in (first, second)]
            held.append(T.bind(T.Shuffle(halves, list(range(_WORDS)))))
    return held


def _pair(w: Expr, at: Expr, held: list[list[Expr]], shares: bool) -> list[Expr]:
    """uint8x16 per pixel: mismatches with the two channels whose weights start at `at`, in eight bytes each.

    shares: whether the last register of a pixel holds one run twice.
    """
    apart = len(held[0]) - shares
    sums = [list[Expr]() for _ in held]
    for i in range(2 * apart + shares):
        weights = T.bind(w[lanes(at + i * _WORDS, _WORDS)])
        for p, row in enumerate(held):
            mismatch = T.bind(T.popcount(T.reinterpret("uint8x16", row[i // 2] ^ weights)))
            sums[p].append(mismatch)
    return [T.bind(_both(counts, apart)) for counts in sums]


def _both(counts: Sequence[Expr], apart: int) -> Expr:
    """uint8x16: `counts` of two channels in turn, added up in a half each; those after the first 2 * apart for both."""
    shared = counts[2 * apart :]
    if not apart:
        return shared[0]
    sums = side_by_side("uint8x16", *(reduce(_plus, counts[c : 2 * apart : 2]) for c in range(2)))
    return reduce(_plus, shared, sums)


def _plus(left: Expr, right: Expr) -> Expr:
    """uint8x16: the sum. LLVM would add up in an order that takes more registers, did it see through."""
    return T.reinterpret("uint8x16", fenced(T.reinterpret("float32x4", left + right), 4))
