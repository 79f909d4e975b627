"""Pooling of float32 tensors and of packed codes; one work item is one output row of one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import pack_bits
from qcompiler.targets.problem import Pool2d
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.by_items import ByItems
from qcompiler.targets.vector.emit import (
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
    word_view,
    write,
)
from qcompiler.targets.vector.epilogue import (
    BoundEpilogue,
    Pixel,
    load_lanes,
)
from qcompiler.targets.vector.halo import emit_halo
from qcompiler.targets.vector.rows import RowKernel


@dataclass(frozen=True)
class FloatPool2d(RowKernel):
    """Maximum or average; see `qcompiler.targets.target.Kernel`."""

    problem: Pool2d

    @property
    def name(self) -> str:
        """Family and kind."""
        return f"pool2d_{self.problem.kind}"

    @property
    def items(self) -> int:
        """Output rows."""
        return self.problem.x.n * self.problem.out_hw[0]

    def emit_item(self, x: Expr, epilogue: BoundEpilogue, item: Expr) -> None:
        """Pool every pixel of an output row."""
        view = float_view(self.problem.x, x)
        emit_row(self.problem.out_hw, self.blocks, epilogue, item, lambda *at: self._pixel(view, epilogue, *at))

    def _pixel(self, view: View, epilogue: BoundEpilogue, pixel: Pixel, block: Expr) -> None:
        """One output pixel of one block."""
        average = self.problem.kind != "max"
        best = temporary("float32")
        write(best, splat(T.float32(0.0 if average else -np.inf)), lanes(0))

        def tap(y: Expr, x: Expr) -> None:
            value, sofar = T.bind(load_lanes(view, self.blocks, (pixel[0], y, x), block)), best[lanes(0)]
            write(best, sofar + value if average else T.Select(sofar < value, value, sofar), lanes(0))

        for_window(self.problem, pixel, tap)
        value = best[lanes(0)]
        if average:
            value = fenced(value / splat(T.Cast("float32", self._count(pixel))))
        epilogue.emit(pixel, block, value)

    def _count(self, pixel: Pixel) -> Expr:
        """Pixels that an average divides by, at least 1."""
        padded = self.problem.kind == "average_include_pad"
        (r0, r1), (c0, c1) = (taps_inside(self.problem, axis, pixel[1 + axis], padded) for axis in (0, 1))
        return T.max(T.Cast("int32", (r1 - r0) * (c1 - c0)), T.int32(1))


@dataclass(frozen=True)
class CodePool2d(ByItems):
    """The largest of packed codes, the smallest where flip is -1: flipped bits are inverted before and after.

    Inverting every bit of a binary number reverses the order. See `Kernel`.
    """

    problem: Pool2d
    cost: float

    @property
    def name(self) -> str:
        """Family."""
        return "pool2d_bits" if self._planes == 1 else "pool2d_codes"

    @property
    def items(self) -> int:
        """Output rows."""
        return self.problem.x.n * self.problem.out_hw[0]

    @property
    def _planes(self) -> int:
        return self.problem.x.planes

    @property
    def _channel_words(self) -> int:
        """Words per pixel and plane."""
        return self.problem.x.words // self._planes

    @property
    def _lanes(self) -> int:
        """Words handled at once; the planes of a word lie between it and the next."""
        return next(count for count in (16, 8, 4, 2, 1) if self._channel_words % count == 0) if self._planes == 1 else 1

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """uint32 [words per plane] with the bits of flipped channels set."""
        assert constants.flip is not None
        return (pack_bits(-constants.flip, self.problem.x.groups),)

    def build(self, name: str) -> Any:
        """The PrimFunc."""
        x, into = self.problem.x, self.problem.into
        assert into is not None
        parameters = [
            Parameter("x", "uint32", x.nbytes // 4, 4),
            Parameter("flip", "uint32", self._channel_words, 64),
            Parameter("out", "uint16", into.nbytes // 2, 4),
        ]
        return prim_func(name, parameters, self._row)

    def _row(self, buffers: list[Expr], item: Expr) -> None:
        """One output row with its share of the halo."""
        into = self.problem.into
        assert into is not None
        source, target = word_view(self.problem.x, buffers[0]), half_view(into, buffers[2])
        oh, ow = self.problem.out_hw
        n, y = (T.bind(part) for part in split(item, oh))
        with T.serial(i64(0), i64(self._channel_words // self._lanes)) as part:
            first = part * self._lanes
            flip = buffers[1][lanes(first, self._lanes)]
            with T.serial(i64(0), i64(ow)) as x:
                self._pixel(source, target, (n, y, x), first, flip)
        blocks = Blocks(into.c, into.groups)
        if target.has_halo:
            with T.serial(i64(0), i64(blocks.count)) as block:
                emit_halo(target, blocks, n, y, block, oh)

    def _pixel(self, source: View, target: View, pixel: Pixel, first: Expr, flip: Expr) -> None:
        """One output pixel of `_lanes` words of every plane."""
        best = [temporary("uint32", self._lanes) for _ in range(self._planes)]
        all_lanes, codes = lanes(0, self._lanes), self.problem.x.codes
        assert codes is not None
        highest_inverted = 2**self._planes - codes.levels
        for number, plane in enumerate(best):
            write(plane, flip if highest_inverted >> number & 1 else splat(T.uint32(0), self._lanes), all_lanes)

        def tap(y: Expr, x: Expr) -> None:
            at = source.offset(pixel[0], y, x, first * self._planes)
            found = [source.data[lanes(at + number, self._lanes)] ^ flip for number in range(self._planes)]
            keep_larger(best, found, all_lanes)

        for_window(self.problem, pixel, tap)
        for number, plane in enumerate(best):
            halves = T.reinterpret(f"uint16x{2 * self._lanes}", self._fenced(plane[all_lanes] ^ flip))
            at = target.offset(*pixel, (first * self._planes + number) * 2)
            write(target.data, halves, lanes(at, 2 * self._lanes))

    def _fenced(self, words: Expr) -> Expr:
        """`_lanes` words that no copy loop can be recognised by."""
        dtype = "float32" if self._lanes == 1 else f"float32x{self._lanes}"
        return fenced(T.reinterpret(dtype, words), self._lanes)


def keep_larger(best: list[Expr], found: list[Expr], at: Expr) -> None:
    """Per bit position, the larger of two binary numbers; lists of bit planes, the lowest first.

    From the highest plane down, the first one that differs decides.
    """
    if len(best) == 1:
        write(best[0], best[0][at] | found[0], at)
        return
    found = [T.bind(plane) for plane in found]
    differs, less = None, None
    for held, other in zip(best[::-1], found[::-1], strict=True):
        here = T.bind(held[at] ^ other)
        wins = here & other
        less = T.bind(wins if differs is None or less is None else less | (wins & ~differs))
        differs = here if differs is None else T.bind(differs | here)
    for held, other in zip(best, found, strict=True):
        write(held, held[at] ^ ((held[at] ^ other) & less), at)


def emit_row(
    out_hw: tuple[int, int], blocks: Blocks, epilogue: BoundEpilogue, item: Expr, pixel: Callable[[Pixel, Expr], None]
) -> None:
    """Run `pixel` for every output pixel and channel block of row `item`, and write its share of the halos."""
    n, y = (T.bind(part) for part in split(item, out_hw[0]))
    with T.serial(i64(0), i64(blocks.count)) as block:
        epilogue.emit_halos(n, y, block, out_hw[0])
    with T.serial(i64(0), i64(out_hw[1])) as x, T.serial(i64(0), i64(blocks.count)) as block:
        pixel((n, y, x), block)


def taps_inside(problem: Pool2d, axis: int, position: Expr, padded: bool) -> tuple[Expr, Expr]:
    """First and one-past-last kernel tap of an output row (axis 0) or column (1) inside the image.

    padded: count the declared padding as inside.
    """
    size = (problem.x.h, problem.x.w)[axis]
    before, after = problem.pads[axis], problem.pads[axis + 2]
    kernel, stride, dilation = problem.kernel[axis], problem.strides[axis], problem.dilations[axis]
    start = position * stride - before
    low, high = (-before, size + after) if padded else (0, size)
    # the number of taps below a bound b is ceil((b - start) / dilation), kept within 0..kernel
    below = [T.Cast("int32", bound - start + (dilation - 1)) for bound in (low, high)]
    bounds = [T.max(i64(0), T.min(i64(kernel), i64(T.truncdiv(b, T.int32(dilation))))) for b in below]
    return T.bind(bounds[0]), T.bind(bounds[1])


def for_window(problem: Pool2d, pixel: Pixel, tap: Callable[[Expr, Expr], None]) -> None:
    """Run `tap(y, x)` for the input pixels of a window, row by row, leaving out the padding."""
    (top, left, _, _), (sh, sw), (dh, dw) = problem.pads, problem.strides, problem.dilations
    rows = taps_inside(problem, 0, pixel[1], padded=False)
    columns = taps_inside(problem, 1, pixel[2], padded=False)
    with T.serial(*rows) as i, T.serial(*columns) as j:
        tap(pixel[1] * sh - top + i * dh, pixel[2] * sw - left + j * dw)
