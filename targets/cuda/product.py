"""Products of two run-time matrices of codes in bytes, four at a time: a thread has a column, a warp one row.

With numbers i of the left and j of the right codes, a sum is, as in `code_sums.py`,
    step * step' * sum(i * j) + step * low' * sum(i) + low * step' * sum(j) + inputs * low * low'.
Beyond the last input the left number is 0 and the right one `neutral`, which sum(j) gives back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BYTES
from qcompiler.targets.cuda.elements import Elements
from qcompiler.targets.cuda.emit import dot, registers, write
from qcompiler.targets.cuda.machine import Gpu
from qcompiler.targets.cuda.warp_kernel import Spot, WarpKernel
from qcompiler.targets.problem import BLOCK, Conv2d, Problem, neutral
from qcompiler.targets.standard_op import Expr, Parameter
from qcompiler.targets.target import Array, Constants

_ONES = 0x01010101


@dataclass(frozen=True)
class ProductKernel(WarpKernel):
    """See `WarpKernel`."""

    problem: Conv2d

    @property
    def family(self) -> str:
        """Of two run-time matrices."""
        return "dot_product"

    @property
    def apart(self) -> bool:
        """Each run has a right matrix of its own."""
        return True

    def operands(self) -> list[Parameter]:
        """None: the right matrix is given at run time."""
        return []

    def packed(self, constants: Constants) -> tuple[Array, ...]:
        """None."""
        return ()

    def values(self, x: Expr, operands: Sequence[Expr], spot: Spot) -> list[Expr]:
        """One row, one column per thread."""
        (right,), second = operands, self.problem.second
        assert second is not None and second.codes is not None and self.problem.x.codes is not None
        pixel = self.pixel(spot, 0)
        start = T.bind(Elements(self.problem.x, x).first_word(pixel))
        column = T.bind(self.lanes.channel(spot.block, spot.lane))
        matrix = T.truncdiv(pixel[2], self.problem.out_hw[1] // second.n)
        block = T.bind((matrix * second.h + T.truncdiv(column, BLOCK)) * second.w)
        sums = registers("int32", 3, T.int32(0))
        with T.serial(0, second.w) as word:
            rows = T.bind(x[start + word])
            columns = T.bind(right[(block + word) * BLOCK + T.truncmod(column, BLOCK)])
            for index, (a, b) in enumerate(((rows, columns), (rows, T.uint32(_ONES)), (T.uint32(_ONES), columns))):
                write(sums, sums[index] + dot(a, b), index)
        left, other, inputs = self.problem.x.codes, second.codes, self.problem.x.c
        filled = (-inputs % WORD_BYTES) * neutral(other)
        found = sums[0] * (left.step * other.step) + sums[1] * (left.step * other.low)
        found = found + (sums[2] - filled) * (left.low * other.step) + inputs * left.low * other.low
        return [T.bind(T.Cast("float32", found))]


def products(gpu: Gpu, problem: Problem) -> Iterator[ProductKernel]:
    """Products whose right operand is given at run time."""
    if isinstance(problem, Conv2d) and problem.second is not None and problem.x.in_bytes:
        yield ProductKernel(problem, 1, problem.macs / WORD_BYTES / (gpu.dot_rate * gpu.processors * gpu.ghz))
