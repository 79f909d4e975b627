"""Rows of floats as a kernel rounds them to 8 bits in blocks, on the way into its sums; see `ir/block_rounding.py`."""

from __future__ import annotations

import functools

import numpy as np
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.block_rounding import SMALLEST
from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.targets.vector.emit import LANES, Expr, fenced, i64, lanes, splat, temporary, write

_LARGEST = 127
_MIDDLE = 1.5 * 2.0**23


class RoundedBlocks:
    """Some blocks of one row: `words` of four integers, `sums` of them, and `steps` between the numbers they are."""

    def __init__(self, size: int, count: int) -> None:
        self._size = size
        self.words = temporary("uint32", size // WORD_BYTES * count)
        self.sums, self.steps = temporary("int32", count), temporary("float32", count)

    def round(self, data: Expr, first: Expr, place: Expr, inputs: int) -> None:
        """Fill the block at `place` with the inputs from `first` on, and with zeros."""
        vectors = [self._loaded(data, first + at, inputs - at) for at in range(0, self._size, LANES)]
        bits = [T.reinterpret("uint32x16", each) & splat(T.uint32(2**31 - 1)) for each in vectors]
        most = functools.reduce(T.max, bits)
        largest = T.bind(T.reinterpret("float32", T.call_llvm_pure_intrin("uint32", "llvm.vector.reduce.umax", most)))
        some = largest > T.float32(SMALLEST)
        factor = T.bind(T.Select(some, T.float32(_LARGEST) / largest, T.float32(0)))
        total = splat(T.int32(0))
        for i, each in enumerate(vectors):
            whole = T.bind(_nearest(fenced(each * splat(factor))))
            total = total + whole
            at = place * (self._size // WORD_BYTES) + i * (LANES // WORD_BYTES)
            write(self.words, T.reinterpret("uint32x4", T.Cast("int8x16", whole)), lanes(at, LANES // WORD_BYTES))
        write(self.sums, T.call_llvm_pure_intrin("int32", "llvm.vector.reduce.add", total), place)
        write(self.steps, largest / T.float32(_LARGEST), place)

    def _loaded(self, data: Expr, at: Expr, count: int) -> Expr:
        """Sixteen inputs, of which `count` are there."""
        if count <= 0:
            return splat(T.float32(0))
        if count >= LANES:
            return T.bind(data[lanes(at)])
        # one by one: of a masked load LLVM makes one of all lanes here, which reads beyond the end of the input
        held = temporary("float32")
        write(held, splat(T.float32(0)), lanes(0))
        for i in range(count):
            write(held, data[at + i], i64(i))
        return T.bind(held[lanes(0)])


def _nearest(x: Expr) -> Expr:
    """int32x16 next to float32x16 of small numbers, halves to even: beyond 2^23 floats are integers."""
    raised = fenced(x + splat(T.float32(_MIDDLE)))
    return T.reinterpret("int32x16", raised) - splat(T.int32(int(np.float32(_MIDDLE).view(np.int32))))
