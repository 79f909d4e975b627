"""How a processor looks up, for every byte lane, what six bits of its weights make of six activations.

An activation plane's six bits choose rows of constant tables, which are added up over the planes. Entry i of a row for
the bits r is the number of bits that are set in r xor i, or in r and i, times what the plane is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.emit import Expr, lanes, splat
from qcompiler.targets.vector.planes import weight_planes

INPUTS = 6
"""Of a lookup."""

_LOW = 4
"""Of its bits that choose one of the sixteen bytes that a shuffle knows."""

SHUFFLES = {32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}
"""Tables of sixteen bytes side by side, by bytes of a vector."""

PERMUTATION = "llvm.x86.avx512.permvar.qi.512"
"""A table of 64 bytes."""


# bytes of vectors whose indices of four bits have bytes of their own, and how many all weights take in nibbles at most;
# measured
_APART, _MOST_IN_NIBBLES = 32, 1 << 18


def indices_apart(problem: Conv2d, width: int) -> bool:
    """Whether every index of four bits has a byte of its own where vectors have `width` bytes.

    That saves the instructions that take two apart. More weights are read from farther away, which takes as long, and
    would make up most of a library.
    """
    bits = prod(problem.kernel) * problem.x.c // problem.groups * problem.out_channels
    return width == _APART and bits * len(weight_planes(problem.weights).factors) <= 8 * _MOST_IN_NIBBLES


class TableLookup(Protocol):
    """A way to look up."""

    @property
    def width(self) -> int:
        """Byte lanes at once."""
        ...

    @property
    def in_loops(self) -> bool:
        """Whether lookups run in loops, which take less code, instead of one after the other."""
        ...

    def tables(self, planes: int, signs: bool) -> npt.NDArray[np.uint8]:
        """The constant tables, flat; signs: count bits that differ, else bits that are set in both."""
        ...

    def rows(self, tables: Expr, planes: list[Expr], lookup: Expr) -> tuple[Expr, ...]:
        """What is kept of a pixel, from the bits of each plane, uint64, of which a lookup takes its six."""
        ...

    def indices(self, weights: Expr) -> tuple[Expr, ...]:
        """What is kept of weights, uint8 lanes."""
        ...

    def found(self, rows: tuple[Expr, ...], indices: tuple[Expr, ...]) -> Expr:
        """uint8 lanes."""
        ...


@dataclass(frozen=True)
class WholeTables:
    """One instruction for a table of 64 bytes (AVX-512 VBMI)."""

    width: ClassVar[int] = 64
    in_loops: ClassVar[bool] = False

    def tables(self, planes: int, signs: bool) -> npt.NDArray[np.uint8]:
        """[planes, 64 rows, 64]."""
        return _tables(planes, signs, INPUTS).reshape(-1)

    def rows(self, tables: Expr, planes: list[Expr], lookup: Expr) -> tuple[Expr, ...]:
        """The sum of a row per plane."""
        return (_row(tables, _shifted(planes, lookup), INPUTS, 0, self.width),)

    def indices(self, weights: Expr) -> tuple[Expr, ...]:
        """As they are."""
        return (weights,)

    def found(self, rows: tuple[Expr, ...], indices: tuple[Expr, ...]) -> Expr:
        """One permutation."""
        return looked_up(PERMUTATION, self.width, *rows, *indices)


@dataclass(frozen=True)
class SplitTables:
    """Shuffles for tables of 16 bytes: one for four of the bits, one for the other two."""

    width: int
    in_loops: ClassVar[bool] = True

    def tables(self, planes: int, signs: bool) -> npt.NDArray[np.uint8]:
        """[planes, 16 rows, width], then [planes, 4 rows, width], both repeated every sixteen bytes."""
        parts = [_tables(planes, signs, bits) for bits in (_LOW, INPUTS - _LOW)]
        whole = [np.pad(part, [(0, 0), (0, 0), (0, 16 - part.shape[-1])]) for part in parts]
        return np.concatenate([np.tile(part, self.width // 16).reshape(-1) for part in whole])

    def rows(self, tables: Expr, planes: list[Expr], lookup: Expr) -> tuple[Expr, ...]:
        """The sums of a row per plane, of either table."""
        second, held = len(planes) * (1 << _LOW) * self.width, _shifted(planes, lookup)
        rest = [T.shift_right(bits, T.uint64(_LOW)) for bits in held]
        return (
            _row(tables, held, _LOW, 0, self.width),
            _row(tables, rest, INPUTS - _LOW, second, self.width),
        )

    def indices(self, weights: Expr) -> tuple[Expr, ...]:
        """The bits for either table."""
        low, shift = splat(T.uint8((1 << _LOW) - 1), self.width), splat(T.uint8(_LOW), self.width)
        return weights & low, T.shift_right(weights, shift)

    def found(self, rows: tuple[Expr, ...], indices: tuple[Expr, ...]) -> Expr:
        """Two shuffles and their sum."""
        low, high = (looked_up(SHUFFLES[self.width], self.width, *each) for each in zip(rows, indices, strict=True))
        return low + high


@dataclass(frozen=True)
class SelectedBits:
    """One input at a time, where nothing shuffles bytes (SSE2): its number where the weight's bit is set, or flipped.

    planes: of activations. signs: whether bits that differ are counted.
    """

    planes: int
    signs: bool

    width: ClassVar[int] = 16
    in_loops: ClassVar[bool] = True

    def tables(self, planes: int, signs: bool) -> npt.NDArray[np.uint8]:
        """[planes, 64 rows, 6 inputs, 16]: what each of the row's bits is worth, in all lanes."""
        bits = np.arange(1 << INPUTS)[:, None] >> np.arange(INPUTS) & 1
        worth = bits[None] << np.arange(planes)[:, None, None]
        return np.repeat(worth.astype(np.uint8).reshape(-1), self.width)

    def rows(self, tables: Expr, planes: list[Expr], lookup: Expr) -> tuple[Expr, ...]:
        """The numbers of six inputs, each in all lanes."""
        size, held = INPUTS * self.width, _shifted(planes, lookup)
        return tuple(_row(tables, held, INPUTS, each * self.width, self.width, size) for each in range(INPUTS))

    def indices(self, weights: Expr) -> tuple[Expr, ...]:
        """A mask of each of six bits: all bits of a number, where the weight's is set."""
        one, most = splat(T.uint8(1), self.width), splat(T.uint8(2**self.planes - 1), self.width)
        shifts = [splat(T.uint8(each), self.width) for each in range(INPUTS)]
        return tuple((T.shift_right(weights, shift) & one) * most for shift in shifts)

    def found(self, rows: tuple[Expr, ...], indices: tuple[Expr, ...]) -> Expr:
        """Six operations and sums."""
        parts = [row ^ mask if self.signs else row & mask for row, mask in zip(rows, indices, strict=True)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


def _tables(planes: int, signs: bool, bits: int) -> npt.NDArray[np.uint8]:
    """uint8 [planes, 2**bits, 2**bits]."""
    index = np.arange(1 << bits, dtype=np.uint8)
    both = index[:, None] ^ index if signs else index[:, None] & index
    return np.stack([np.bitwise_count(both) << plane for plane in range(planes)]).astype(np.uint8)


def _shifted(planes: list[Expr], lookup: Expr) -> list[Expr]:
    """The bits of each plane from those of a lookup on."""
    count = T.uint64(INPUTS * lookup) if isinstance(lookup, int) else T.Cast("uint64", lookup * INPUTS)
    return [T.bind(T.shift_right(bits, count)) for bits in planes]


def _row(tables: Expr, planes: list[Expr], bits: int, base: int, width: int, size: int = 0) -> Expr:
    """uint8 lanes: the sum over the planes of the rows that the lowest `bits` bits choose.

    size: bytes of a row, if more than the `width` that are read at `base`.
    """
    size = size or width
    found = None
    for plane, held in enumerate(planes):
        at = T.Cast("int64", held & T.uint64((1 << bits) - 1)) * size + (base + plane * (1 << bits) * size)
        values = tables[lanes(at, width)]
        found = values if found is None else found + values
    return found


def repeated_bytes(values: npt.NDArray[np.uint8], count: int) -> Expr:
    """uint8 lanes: constants, again and again; count: of lanes, a multiple of 4."""
    words = [T.uint32(int(word)) for word in np.resize(values, count).view(np.uint32)]
    return T.reinterpret(f"uint8x{count}", T.Shuffle(words, list(range(len(words)))))


def looked_up(name: str, width: int, *operands: Expr) -> Expr:
    """uint8 lanes by an instruction of signed bytes: of a table and indices."""
    signed = f"int8x{width}"
    found = T.call_llvm_pure_intrin(signed, name, *(T.reinterpret(signed, operand) for operand in operands))
    return T.reinterpret(f"uint8x{width}", found)
