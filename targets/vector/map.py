"""Identity plus epilogue: layout changes, packing and unpacking of bits, elementwise chains; one item is one row."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import WORD_BYTES
from qcompiler.targets.problem import Map2d
from qcompiler.targets.vector.byte_lanes import load_bytes
from qcompiler.targets.vector.emit import (
    LANES,
    Expr,
    Parameter,
    View,
    block_parameter,
    block_view,
    fenced,
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
        """Codes are read in halves of words or words."""
        return block_parameter("x", self.problem.x)

    def emit_item(self, x: Expr, epilogue: BoundEpilogue, item: Expr) -> None:
        """Run the chain on every pixel of a row."""
        image = self.problem.x
        view = block_view(image, x)

        def pixel(at: Pixel, block: Expr) -> None:
            value = self._codes(view, at, block) if image.packed else fenced(load_lanes(view, self.blocks, at, block))
            epilogue.emit(at, block, value)

        emit_row((image.h, image.w), self.blocks, epilogue, item, pixel)

    def _codes(self, view: View, pixel: Pixel, block: Expr) -> Expr:
        """The codes of a block at one pixel, float32x16."""
        if not self._aligned:
            return self._gathered_codes(view, pixel, block)
        in_bytes = view.buffer.in_bytes
        index = load_bytes(view, self.blocks, pixel, block) if in_bytes else self._from_planes(view, pixel, block)
        return T.Cast(
            "float32x16", index * splat(T.int32(self._codes_read.step)) + splat(T.int32(self._codes_read.low))
        )

    def _from_planes(self, view: View, pixel: Pixel, block: Expr) -> Expr:
        """The numbers of the codes of a block at one pixel, int32x16."""
        half = self.blocks.half(block, view.buffer)[0]
        index: Expr = splat(T.int32(0))
        for plane in range(view.buffer.planes):
            word = splat(T.Cast("int32", view.data[view.half_offset(pixel, half, plane)]))
            bit = T.shift_right(word, T.ramp(T.int32(0), T.int32(1), LANES)) & splat(T.int32(1))
            bit = bit * splat(T.int32(1 << plane))
            index = index + bit if plane else bit
        return index

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
        buffer = self.problem.x
        per_group = buffer.c // buffer.groups
        codes = temporary("float32")
        write(codes, splat(T.float32(0)), lanes(0))
        with T.serial(i64(0), self.blocks.valid(block)) as lane:
            group, channel = split(self.blocks.first(block) + lane, per_group)
            index: Expr = T.int32(0)
            if buffer.in_bytes:
                word, position = split(channel, WORD_BYTES)
                held = view.data[view.offset(*pixel, group * buffer.group_words + word)]
                index = T.Cast("int32", T.shift_right(held, T.Cast("uint32", position * 8)) & T.uint32(0xFF))
            else:
                half, position = split(channel, 16)
                for plane in range(buffer.planes):
                    at = view.half_offset(pixel, group * (2 * buffer.group_words) + half, plane)
                    bit = T.shift_right(T.Cast("int32", view.data[at]), T.Cast("int32", position)) & 1
                    index = index + bit * (1 << plane)
            write(codes, T.Cast("float32", index * self._codes_read.step + self._codes_read.low), lane)
        return codes[lanes(0)]
