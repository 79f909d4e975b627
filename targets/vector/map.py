"""Identity plus epilogue: layout changes, packing and unpacking of bits, elementwise chains; one item is one row."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import words_for
from qcompiler.targets.problem import Map2d
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
    splat,
    split,
    temporary,
    write,
)
from qcompiler.targets.vector.epilogue import (
    BoundEpilogue,
    Pixel,
    load_lanes,
)
from qcompiler.targets.vector.pool import emit_row
from qcompiler.targets.vector.rows import RowKernel


@dataclass(frozen=True)
class ElementMap2d(RowKernel):
    """An elementwise chain over all pixels; see `qcompiler.targets.target.Kernel`."""

    problem: Map2d

    @property
    def name(self) -> str:
        """Family and input type."""
        codes = self.problem.x.codes
        return f"map2d_{codes.label if codes else 'float32'}"

    @property
    def items(self) -> int:
        """Rows of all images."""
        return self.problem.x.n * self.problem.x.h

    @property
    def source(self) -> Parameter:
        """Codes are read as halves of words."""
        x = self.problem.x
        return Parameter("x", "uint16", x.nbytes // 2, 4) if x.packed else super().source

    def emit_item(self, x: Expr, epilogue: BoundEpilogue, item: Expr) -> None:
        """Run the chain on every pixel of a row."""
        image = self.problem.x
        bits = image.packed
        view = half_view(image, x) if bits else float_view(image, x)

        def pixel(at: Pixel, block: Expr) -> None:
            value = self._codes(view, at, block) if bits else fenced(load_lanes(view, self.blocks, at, block))
            epilogue.emit(at, block, value)

        emit_row((image.h, image.w), self.blocks, epilogue, item, pixel)

    def _codes(self, view: View, pixel: Pixel, block: Expr) -> Expr:
        """The codes of a block at one pixel, float32x16."""
        if not self._aligned:
            return self._gathered_codes(view, pixel, block)
        half = self.blocks.half(block, view.buffer)[0]
        index: Expr | None = None
        for plane in range(view.buffer.planes):
            word = splat(T.Cast("int32", view.data[view.half_offset(pixel, half, plane)]))
            bit = T.shift_right(word, T.ramp(T.int32(0), T.int32(1), LANES)) & splat(T.int32(1))
            bit = bit * splat(T.int32(1 << plane))
            index = bit if index is None else index + bit
        return T.Cast(
            "float32x16", index * splat(T.int32(self._codes_read.step)) + splat(T.int32(self._codes_read.low))
        )

    @property
    def _codes_read(self) -> Codes:
        codes = self.problem.x.codes
        assert codes is not None
        return codes

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
            index: Expr = T.int32(0)
            for plane in range(view.buffer.planes):
                at = view.half_offset(pixel, group * (2 * words_for(per_group)) + half, plane)
                bit = T.shift_right(T.Cast("int32", view.data[at]), T.Cast("int32", position)) & 1
                index = index + bit * (1 << plane)
            write(codes, T.Cast("float32", index * self._codes_read.step + self._codes_read.low), lane)
        return codes[lanes(0)]
