"""Sums of products of codes in bytes by smmla: eight inputs of two pixels times eight weights of two channels at once.

An accumulator of four lanes belongs to two pixels and two output channels. Two pixels have as many of them as with
sdot, which makes half the products per instruction; in the end lanes change places, so that a register belongs to a
pixel and sixteen channels as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.byte_sums import ONES, ByteSums, codes_of
from qcompiler.targets.vector.direct import Geometry, ReductionLoop
from qcompiler.targets.vector.emit import LANES, Expr, i64, lanes, splat, split, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile

_QUAD = 4
# steps of four inputs at once
_STEPS = 2


def multiplies_pairs(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether inputs come in runs of eight that lie together, the same ones for all lanes."""
    geometry = Geometry(problem, blocks)
    inner = geometry.loops()[-1]
    fixed = problem.second is None and not problem.centred
    return fixed and geometry.uniform(1) and inner.extent % _STEPS == 0 and inner.stride == 1


@dataclass(frozen=True)
class MatrixSums(ByteSums):
    """Weights as in `ByteSums`, the words of two steps side by side: [..., 16, 2]. Tiles of even numbers of pixels."""

    family: ClassVar[str] = "bytes_matrix_conv2d"

    def label(self, frame: Frame) -> str:
        """Instruction, bits of weights and tiling."""
        return f"{self.family}_smmla_w{self.bits}_{frame.tiling.label}"

    def packed(self, frame: Frame, weights: npt.NDArray[np.float32]) -> Array:
        """Words of weights in the order of the loops."""
        words, run = super().packed(frame, weights), self._run(frame)
        pairs = words.reshape(-1, _STEPS, run, LANES)
        return np.ascontiguousarray(np.moveaxis(pairs, 1, -1))

    def loops(self, frame: Frame) -> list[ReductionLoop]:
        """The reduction in steps of eight inputs."""
        *outer, inner = super().loops(frame)
        return [*outer, replace(inner, extent=inner.extent // _STEPS, stride=_STEPS)]

    def weight_steps(self, frame: Frame, block: Expr) -> tuple[Expr, int]:
        """Offset of the weights of a run that starts at `block`, and from one step to the next."""
        run = self._run(frame)
        if self.bits < 8:
            return i64(0), _STEPS * LANES
        group, within = split(block, run)
        return group * (frame.geometry.steps * run * LANES) + within * (_STEPS * LANES), _STEPS * run * LANES

    def block_offset(self, frame: Frame, block: int) -> int:
        """Words of weights of 8 bits from the first block of a run to another."""
        run = self._run(frame)
        return block // run * frame.geometry.steps * run * LANES + block % run * _STEPS * LANES

    def _run(self, frame: Frame) -> int:
        """Blocks that lie side by side in the weights."""
        return frame.geometry.interleave if self.bits == 8 else 1

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Eight products in every lane."""
        inputs = [T.bind(self._inputs(tile, at, p)) for p in range(0, len(sums), 2)]
        for b in range(tile.frame.tiling.blocks):
            for pair in range(LANES // 2):
                words = self.words(tile, b, weight + _QUAD * pair)
                weights = T.bind(T.reinterpret("int8x16", words))
                for both, x in enumerate(inputs):
                    register, here = _place(sums, both, b, pair)
                    name = "llvm.aarch64.neon.smmla.v4i32.v16i8"
                    write(register, T.call_llvm_pure_intrin("int32x4", name, register[here], x, weights), here)

    def _inputs(self, tile: Tile, at: Expr, p: int) -> Expr:
        """int8x16: eight inputs of pixel `p` and of the next one."""
        source, shift = tile.source, self.shift(codes_of(tile.frame.problem))
        first, second = (source.data[lanes(at + i * source.pixel_step(), _STEPS)] for i in (p, p + 1))
        words = T.Shuffle([first, second], list(range(2 * _STEPS)))
        return T.reinterpret("int8x16", words ^ splat(T.uint32(ONES * shift), 2 * _STEPS) if shift else words)

    def settle(self, tile: Tile, sums: Registers) -> None:
        """Give every register the sums of its pixel."""
        for both in range(len(sums) // 2):
            for b in range(tile.frame.tiling.blocks):
                places = [_place(sums, both, b, pair) for pair in range(LANES // 2)]
                found = [T.bind(register[here]) for register, here in places]
                for which in range(2):
                    for quad in range(LANES // _QUAD):
                        mine = [2 * which, 2 * which + 1, _QUAD + 2 * which, _QUAD + 2 * which + 1]
                        value = T.Shuffle(found[2 * quad : 2 * quad + 2], mine)
                        write(sums[2 * both + which][b], value, lanes(_QUAD * quad, _QUAD))


def _place(sums: Registers, both: int, b: int, pair: int) -> tuple[Expr, Expr]:
    """The register and lanes in which two pixels and a pair of channels of a block are added up."""
    which, quad = divmod(pair, LANES // _QUAD)
    return sums[2 * both + which][b], lanes(_QUAD * quad, _QUAD)
