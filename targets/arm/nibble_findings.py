"""Sums of what tables of sixteen bytes give: in bytes, then in 16 bits, then in 32.

Bytes hold the findings of up to eight tables, and are widened then. All kinds, a digit in a plane of weights each,
share the sums of 16 bits: what is found is added times what its kind is worth. Before 16 bits could overflow, they are
added to 32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.storage import TABLE_CHANNELS, TABLE_INPUTS
from qcompiler.targets.arm.pinned import Register, pin, pinned
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.emit import LANES, Expr, lanes, splat, temporary, write
from qcompiler.targets.vector.nibble_reduction import largest_digit, worths_of
from qcompiler.targets.vector.tile import Tile

_HALF = LANES // 2
TABLES = TABLE_CHANNELS // TABLE_INPUTS
PAIR = 2 * TABLES
"""Tables of sixteen inputs, and of the two times sixteen whose bits share bytes of weights."""


def tables_in_bytes(problem: Conv2d) -> int:
    """Tables whose findings are added up in bytes: 8, 4, 2 or 1."""
    fit: int = (2**8 - 1) // (TABLE_INPUTS * largest_digit(problem))
    return next(count for count in (PAIR, TABLES, 2, 1) if count <= fit)


def tables_in_halves(problem: Conv2d) -> int:
    """Tables whose findings 16 bits hold the sum of, times what kinds are worth."""
    worth = sum(map(abs, worths_of(problem)))
    limit = 2**16 if narrow(problem) == "uint16" else 2**15
    return (limit - 1) // (TABLE_INPUTS * largest_digit(problem) * worth)


def fits_halves(problem: Conv2d) -> bool:
    """Whether 16 bits hold the sums of 32 inputs."""
    return tables_in_halves(problem) >= PAIR


def narrow(problem: Conv2d) -> str:
    """The integers of 16 bits that hold sums."""
    return "int16" if min(worths_of(problem)) < 0 else "uint16"


@dataclass(frozen=True)
class Sums:
    """Sums of a tile, `dtype` [16] per pixel and block."""

    dtype: str
    registers: dict[tuple[int, int], Expr]

    @classmethod
    def from_zero(cls, dtype: str, tile: Tile) -> Sums:
        """Nothing is added yet."""
        tiling = tile.frame.tiling
        made = {(p, b): temporary(dtype) for p in range(tiling.pixels) for b in range(tiling.blocks)}
        for each in made.values():
            write(each, splat(T.Cast(dtype, T.int32(0))), lanes(0))
        return cls(dtype, made)

    def add(self, others: Sums) -> None:
        """Add sums of fewer bits."""
        for place, ours in self.registers.items():
            wide = T.Cast(f"{self.dtype}x{LANES}", others.registers[place][lanes(0)])
            write(ours, ours[lanes(0)] + wide, lanes(0))


@dataclass(frozen=True)
class Findings:
    """Bytes that wait to be added to sums of 16 bits, `most` of a kind together.

    worths: of kinds, a digit in a plane of weights each.
    """

    sums: Sums
    worths: tuple[int, ...]
    most: int
    waiting: dict[tuple[int, int, int], tuple[int, Register]] = field(default_factory=dict)

    def add(self, found: Expr, pixel: int, block: int, kind: int) -> None:
        """Add uint8x16 for a pixel, of a block and a kind."""
        self.hold(found, pixel, block, kind)
        if self.waiting[pixel, block, kind][0] == self.most:
            self._widen(pixel, block, kind)

    def hold(self, found: Expr, pixel: int, block: int, kind: int) -> Register:
        """The same, but what waits is left to `widen_full`, before more than `most` of a kind are held."""
        place = pixel, block, kind
        count, total = self.waiting.pop(place, (0, None))
        self.waiting[place] = count + 1, Register(found if total is None else total.bytes + found)
        return self.waiting[place][1]

    def widen_full(self) -> None:
        """Add kinds of which `most` wait to the sums."""
        for place, (count, _) in list(self.waiting.items()):
            if count == self.most:
                self._widen(*place)

    def pin(self) -> None:
        """Compute what waits before what follows."""
        pin([total for _, total in self.waiting.values()])

    def widen(self) -> None:
        """Add what waits to the sums."""
        for place in list(self.waiting):
            self._widen(*place)

    def _widen(self, pixel: int, block: int, kind: int) -> None:
        """Add a kind of findings to the sums."""
        (_, total), register = self.waiting.pop((pixel, block, kind)), self.sums.registers[pixel, block]
        dtype, factor = f"{self.sums.dtype}x{_HALF}", self.worths[kind]
        for first in range(0, LANES, _HALF):
            here = lanes(first, _HALF)
            worth = self._times(T.Shuffle([total.bytes], list(range(first, first + _HALF))), abs(factor))
            write(register, pinned(dtype, register[here] + worth if factor > 0 else register[here] - worth), here)

    def _times(self, half: Expr, factor: int) -> Expr:
        """The product of eight bytes and a factor, in 16 bits; LLVM would make shifts and additions of it."""
        dtype = f"{self.sums.dtype}x{_HALF}"
        if factor == 1:
            return T.Cast(dtype, half)
        worth = splat(T.uint8(factor), _HALF)
        return T.reinterpret(dtype, T.call_llvm_pure_intrin(f"uint16x{_HALF}", "llvm.aarch64.neon.umull", half, worth))
