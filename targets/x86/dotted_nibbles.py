"""Lookups of four inputs in four tables at once, added up by products of bytes (AVX-512 VBMI and VNNI)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.storage import TABLE_INPUTS
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.emit import Expr, lanes, register, splat, write
from qcompiler.targets.vector.nibble_reduction import BYTES, MOST_BYTE, largest_digit, worths_of
from qcompiler.targets.x86.byte_dots import Vnni
from qcompiler.targets.x86.nibble_sums import NibbleSums
from qcompiler.targets.x86.table_lookups import PERMUTATION, looked_up


@dataclass(frozen=True)
class DottedNibbles(NibbleSums):
    """AVX-512 VBMI and VNNI: four tables in one register, what is found is added up in words of four bytes."""

    def total(self, problem: Conv2d) -> Expr:
        """int32x16."""
        return register(0)

    def in_order(self, indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Channel by channel."""
        return indices.swapaxes(-1, -2)

    def index(self, weights: Expr, at: Expr, place: int) -> Expr:
        """int8x64: the places of four bytes for every channel."""
        words = T.bind(T.reinterpret("uint32x16", weights[lanes(at, BYTES)]))
        if place:
            words = T.shift_right(words, splat(T.uint32(TABLE_INPUTS)))
        places = words & splat(T.uint32(0x0F0F0F0F)) | splat(T.uint32(0x30201000))
        return T.bind(T.reinterpret(f"int8x{BYTES}", places))

    def table(self, data: Expr, at: Expr) -> Expr:
        """int8x64."""
        return T.bind(T.reinterpret(f"int8x{BYTES}", data[lanes(at)]))

    def at_once(self, problem: Conv2d) -> bool:
        """Where bytes hold the sums of two lookups: additions are at home in more units than products."""
        return 2 * TABLE_INPUTS * largest_digit(problem) <= MOST_BYTE

    def add(self, total: Expr, tables: list[Expr], indices: list[Expr], kind: int, problem: Conv2d) -> None:
        """A lookup and a product, or two lookups, their sum and a product."""
        each = [looked_up(PERMUTATION, BYTES, *pair) for pair in zip(tables, indices, strict=True)]
        found = each[0] if len(each) == 1 else each[0] + each[1]
        worth = splat(T.uint32((worths_of(problem)[kind] & 0xFF) * 0x01010101))
        dot = Vnni()
        write(total, dot.add(total[lanes(0)], dot.inputs(found), dot.weights(worth)), lanes(0))

    def channels(self, total: Expr, problem: Conv2d) -> Expr:
        """As they are."""
        return total[lanes(0)]
