"""Identity plus epilogue: layout changes, packing and unpacking of bits, elementwise chains; one item is one row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import words_for
from qcompiler.targets.problem import Map2d
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.emit import (
    LANES,
    Expr,
    Parameter,
    View,
    fenced,
    float_view,
    half_view,
    i64,
    lanes,
    prim_func,
    splat,
    split,
    temporary,
    write,
)
from qcompiler.targets.vector.epilogue import (
    Epilogue,
    Pixel,
    channel_parameters,
    load_lanes,
    memory_parameters,
    pack_channels,
)
from qcompiler.targets.vector.pool import emit_row


@dataclass(frozen=True)
class ElementMap2d:
    """An elementwise chain over all pixels; see `qcompiler.targets.target.Kernel`."""

    problem: Map2d
    blocks: Blocks
    cost: float

    @property
    def name(self) -> str:
        """Family and input type."""
        return f"map2d_{self.problem.x.dtype}"

    @property
    def items(self) -> int:
        """Rows of all images."""
        return self.problem.x.n * self.problem.x.h

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """Channel constants of the epilogue."""
        return tuple(pack_channels(constants, self.blocks))

    def build(self, name: str) -> Any:
        """The PrimFunc."""
        x = self.problem.x
        channels = channel_parameters(self.problem.epilogue, self.blocks)
        bits = x.dtype == "bit"
        source = Parameter("x", "uint16" if bits else "float32", x.nbytes // (2 if bits else 4), 4)

        def body(buffers: list[Expr], item: Expr) -> None:
            split_at = 1 + len(channels)
            epilogue = Epilogue.bind(self.problem, self.blocks, buffers[1:split_at], buffers[split_at:])
            view = half_view(x, buffers[0]) if bits else float_view(x, buffers[0])

            def pixel(at: Pixel, block: Expr) -> None:
                value = self._codes(view, at, block) if bits else fenced(load_lanes(view, self.blocks, at, block))
                epilogue.emit(at, block, value)

            emit_row((x.h, x.w), self.blocks, epilogue, item, pixel)

        return prim_func(name, [source, *channels, *memory_parameters(self.problem)], body)

    def _codes(self, view: View, pixel: Pixel, block: Expr) -> Expr:
        """The codes -1/+1 of a block at one pixel, float32x16."""
        if self._aligned:
            half = view.data[view.offset(*pixel, self.blocks.half(block, view.buffer)[0])]
            bit = T.shift_right(splat(T.Cast("int32", half)), T.ramp(T.int32(0), T.int32(1), LANES))
            return T.Cast("float32x16", (bit & splat(T.int32(1))) * splat(T.int32(2)) - splat(T.int32(1)))
        return self._gathered_codes(view, pixel, block)

    @property
    def _aligned(self) -> bool:
        """Whether every block of outputs is one half of an input word."""
        groups = self.problem.x.groups
        return groups == self.blocks.groups or (self.blocks.groups == 1 and (self.problem.x.c // groups) % LANES == 0)

    def _gathered_codes(self, view: View, pixel: Pixel, block: Expr) -> Expr:
        """The codes of a block whose channels lie anywhere, one by one."""
        per_group = self.problem.x.c // self.problem.x.groups
        codes = temporary("float32")
        write(codes, splat(T.float32(0)), lanes(0))
        with T.serial(i64(0), self.blocks.valid(block)) as lane:
            group, channel = split(self.blocks.first(block) + lane, per_group)
            half, position = split(channel, 16)
            word = view.data[view.offset(*pixel, group * (2 * words_for(per_group)) + half)]
            bit = T.shift_right(T.Cast("int32", word), T.Cast("int32", position)) & 1
            write(codes, T.Cast("float32", bit * 2 - 1), lane)
        return codes[lanes(0)]
