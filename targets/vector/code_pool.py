"""Pooling of packed codes; one work item is one output row of one image."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.ir.storage import pack_bytes
from qcompiler.targets.problem import Pool2d
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.by_items import ByItems
from qcompiler.targets.vector.emit import (
    Expr,
    Parameter,
    View,
    block_parameter,
    block_view,
    fenced,
    i64,
    lanes,
    prim_func,
    splat,
    split,
    temporary,
    word_view,
    write,
)
from qcompiler.targets.vector.epilogue import Pixel
from qcompiler.targets.vector.halo import emit_halo
from qcompiler.targets.vector.pool import for_window


@dataclass(frozen=True)
class CodePool2d(ByItems):
    """The largest of packed codes, the smallest where flip is -1: flipped bits are inverted before and after.

    Inverting every bit of a binary number reverses the order. See `Kernel`.
    """

    problem: Pool2d
    cost: float

    @property
    def items(self) -> int:
        """Output rows."""
        return self.problem.x.n * self.problem.out_hw[0]

    @property
    def _planes(self) -> int:
        return self.problem.x.planes

    @property
    def _codes(self) -> Codes:
        assert self.problem.x.codes is not None
        return self.problem.x.codes

    @property
    def _channel_words(self) -> int:
        """Words per pixel and plane."""
        return self.problem.x.words // self._planes

    @property
    def _lanes(self) -> int:
        """Words handled at once; the planes of a word lie between it and the next."""
        return next(count for count in (16, 8, 4, 2, 1) if self._channel_words % count == 0) if self._planes == 1 else 1

    @abstractmethod
    def _flipped(self, flips: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
        """Words with the bits of flipped channels set; flips: bool [C]."""

    @abstractmethod
    def _pixel(self, source: View, target: View, pixel: Pixel, first: Expr, flip: Expr) -> None:
        """One output pixel of `_lanes` words of every plane, from word `first` of a plane on."""

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """uint32 [words per plane] with the bits of flipped channels set."""
        assert constants.flip is not None
        return (self._flipped(constants.flip < 0),)

    def build(self, name: str) -> Any:
        """The PrimFunc."""
        x, into = self.problem.x, self.problem.into
        assert into is not None
        parameters = [
            Parameter("x", "uint32", x.nbytes // 4, 4),
            Parameter("flip", "uint32", self._channel_words, 64),
            block_parameter("out", into),
        ]
        return prim_func(name, parameters, self._row)

    def _row(self, buffers: list[Expr], item: Expr) -> None:
        """One output row with its share of the halo."""
        into = self.problem.into
        assert into is not None
        source, target = word_view(self.problem.x, buffers[0]), block_view(into, buffers[2])
        oh, _ = self.problem.out_hw
        n, y = (T.bind(part) for part in split(item, oh))
        self._pixels(source, target, n, y, buffers[1])
        blocks = Blocks(into.c, into.groups)
        if target.has_halo:
            with T.serial(i64(0), i64(blocks.count)) as block:
                emit_halo(target, blocks, n, y, block, oh)

    def _pixels(self, source: View, target: View, n: Expr, y: Expr, flips: Expr) -> None:
        """All output pixels of a row."""
        with T.serial(i64(0), i64(self._channel_words // self._lanes)) as part:
            first = part * self._lanes
            flip = flips[lanes(first, self._lanes)]
            with T.serial(i64(0), i64(self.problem.out_hw[1])) as x:
                self._pixel(source, target, (n, y, x), first, flip)

    def _fenced(self, words: Expr) -> Expr:
        """`_lanes` words as floats that no copy loop can be recognised by."""
        dtype = "float32" if self._lanes == 1 else f"float32x{self._lanes}"
        return fenced(T.reinterpret(dtype, words), self._lanes)


@dataclass(frozen=True)
class BytePool2d(CodePool2d):
    """In bytes."""

    @property
    def name(self) -> str:
        """Family."""
        return "pool2d_bytes"

    def _flipped(self, flips: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
        return pack_bytes(np.where(flips, 0xFF, 0), self.problem.x.groups)

    def _pixel(self, source: View, target: View, pixel: Pixel, first: Expr, flip: Expr) -> None:
        count = self._lanes * WORD_BYTES
        best, every = temporary("uint8", count), lanes(0, count)
        # the number of the highest code, inverted
        lowest = splat(T.uint8(0xFF - (self._codes.levels - 1)), count)
        turned = self._bytes(flip)
        write(best, turned & lowest, every)

        def tap(y: Expr, x: Expr) -> None:
            at = source.offset(pixel[0], y, x, first)
            found = self._bytes(source.data[lanes(at, self._lanes)] ^ flip)
            write(best, T.max(best[every], found), every)

        for_window(self.problem, pixel, tap)
        words = self._fenced(self._words(best[every] ^ turned))
        dtype = "uint32" if self._lanes == 1 else f"uint32x{self._lanes}"
        write(target.data, T.reinterpret(dtype, words), lanes(target.offset(*pixel, first), self._lanes))

    def _bytes(self, words: Expr) -> Expr:
        return T.reinterpret(f"uint8x{self._lanes * WORD_BYTES}", words)

    def _words(self, found: Expr) -> Expr:
        return T.reinterpret("uint32" if self._lanes == 1 else f"uint32x{self._lanes}", found)
