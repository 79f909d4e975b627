"""Sums of products of codes in bytes by sdot with one of four words of a register: no input is broadcast.

A register holds sixteen inputs of a pixel, four of which meet the weights of sixteen channels at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.byte_sums import ONES, ByteSums, codes_of
from qcompiler.targets.vector.direct import Geometry, ReductionLoop
from qcompiler.targets.vector.emit import LANES, Expr, lanes, splat, write
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Registers
from qcompiler.targets.vector.tile import Tile

# words of a register, each of four inputs
WORDS = 4


def reads_registers(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether inputs come in runs of sixteen that lie together, the same ones for all lanes."""
    geometry = Geometry(problem, blocks)
    inner = geometry.loops()[-1]
    fixed = problem.second is None and not problem.centred and not problem.by_channel
    return fixed and geometry.uniform(1) and inner.extent % WORDS == 0 and inner.stride == 1


@dataclass(frozen=True)
class ElementDots(ByteSums):
    """Weights as in `ByteSums`, in whole bytes."""

    family: ClassVar[str] = "bytes_element_conv2d"

    def parts(self, frame: Frame) -> int:
        """How many times sixteen inputs are a step."""
        return 1

    def even_parts(self, frame: Frame) -> int:
        """Two if the inputs that lie together are so many."""
        return 2 if super().loops(frame)[-1].extent % (2 * WORDS) == 0 else 1

    def loops(self, frame: Frame) -> list[ReductionLoop]:
        """The reduction in steps of sixteen inputs, or several times as many."""
        *outer, inner = super().loops(frame)
        size = WORDS * self.parts(frame)
        return [*outer, replace(inner, extent=inner.extent // size, stride=size)]

    def weight_steps(self, frame: Frame, block: Expr) -> tuple[Expr, int]:
        """Offset of the weights of a run that starts at `block`, and from one step to the next."""
        first, size = super().weight_steps(frame, block)
        return first, size * WORDS * self.parts(frame)

    def step(self, tile: Tile, sums: Registers, at: Expr, weight: Expr) -> None:
        """Sixteen products in every lane."""
        inputs = [self.inputs(tile, at, p) for p in range(len(sums))]
        _, size = super().weight_steps(tile.frame, tile.block)
        for word in range(WORDS):
            ours = [self.dot.inputs(T.Shuffle([words], [word] * WORDS)) for words in inputs]
            for b in range(tile.frame.tiling.blocks):
                for first in range(0, LANES, WORDS):
                    weights = self.dot.weights(T.bind(self.words(tile, b, weight + (word * size + first))))
                    here = lanes(first, WORDS)
                    for row, x in zip(sums, ours, strict=True):
                        write(row[b], self.dot.add(row[b][here], weights, x), here)

    def inputs(self, tile: Tile, at: Expr, p: int) -> Expr:
        """uint32x4: sixteen inputs of a pixel."""
        shift = self.shift(codes_of(tile.frame.problem))
        words = tile.source.data[lanes(at + p * tile.source.pixel_step(), WORDS)]
        return T.bind(words ^ splat(T.uint32(ONES * shift), WORDS) if shift else words)
