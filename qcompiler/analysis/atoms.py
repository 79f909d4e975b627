"""Numbers that a value takes with positive probability, per channel: points, and progressions base + i * unit.

A point is followed through elementwise ops in float32, as the reference computes it; a progression nominally, and what
the reference rounds on the way is bounded by the largest number there (`size`). Sums of two progressions are
progressions again where their units have a ratio of small integers; otherwise they are dense, and a given number is hit
by chance only. What one integer sum gives through a chain of monotone ops is not approximated but searched (`lattice`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.monotone import FloatArray, MonotoneOp
from qcompiler.analysis.ranges import Lattice
from qcompiler.analysis.sums import ROUNDING, slack_of
from qcompiler.analysis.thresholds import attains_zero, finite_at_ends

DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# progressions of a value, and divisors and ratios of units that count as small; chosen
_MOST = 16
_LARGEST_DIVISOR = 16
_LARGEST_INTEGER = 256
# a few roundings of float32, relative; chosen
_PRECISION = 2.0**-21
# beyond this ratio of units the smaller is lost in roundings; chosen
_FARTHEST = 2.0**20
# images of eight bits; see zero_mass.py
_PIXEL = 1 / 256


@dataclass(frozen=True)
class Progression:
    """base + i * unit for all integers i; float64 scalars or one per channel [C], as all three numbers are.

    unit 0 makes a point. base is NaN in channels without any. size: the largest number that was rounded on the way.
    """

    base: DoubleArray
    unit: DoubleArray
    size: DoubleArray

    @property
    def has_zero(self) -> bool:
        """True if 0 is among them in some channel, up to rounding."""
        with np.errstate(divide="ignore", invalid="ignore"):
            index = self.base / self.unit
            near = np.abs(index - np.rint(index)) <= slack_of(np.maximum(self.size, np.abs(self.base)) / self.unit)
        hit = np.where(self.unit == 0, np.abs(self.base) <= self.size * ROUNDING, near)
        return bool(hit.any())


@dataclass(frozen=True)
class Atoms:
    """anything: any number may be an atom; the progressions are then those that are likely, if any are.

    lattice: all that `ops` make of the integer sums of `origin`, each of them within `slack`. axis: the negative
    channel axis of the arrays that are no scalars.
    """

    anything: bool = False
    progressions: tuple[Progression, ...] = ()
    lattice: Lattice | None = None
    ops: tuple[MonotoneOp, ...] = ()
    origin: ir.Node | None = None
    slack: FloatArray | float = 0.0
    axis: int = -1

    @property
    def none(self) -> bool:
        """True if the value is continuous."""
        return not self.anything and not self.progressions and self.lattice is None

    @property
    def zero(self) -> bool:
        """True if 0 may be among them."""
        if self.lattice is not None:
            return not finite_at_ends(self.ops, self.lattice) or bool(self.zero_channels().any())
        return self.anything or any(progression.has_zero for progression in self.progressions)

    def zero_channels(self) -> BoolArray:
        """Where the lattice reaches 0; bool [C]."""
        assert self.lattice is not None
        return attains_zero(self.ops, self.lattice, self.slack)

    @property
    def by_channel(self) -> bool:
        """True if channels differ."""
        return any(max(np.size(p.base), np.size(p.unit)) > 1 for p in self.pieces)

    @property
    def pieces(self) -> tuple[Progression, ...]:
        """The progressions, or those that hold all that the ops make of the lattice."""
        if self.lattice is None:
            return self.progressions
        low, high = self.lattice.low.astype(np.float64), self.lattice.high.astype(np.float64)
        unit = np.where(self.lattice.count > 1, self.lattice.step, 0).astype(np.float64)
        found = [Progression(low, unit, np.maximum(np.abs(low), np.abs(high)))]
        for op in self.ops:
            found = [after for piece in found for after in _advanced(op, piece)]
        return tuple(found)


ANYTHING = Atoms(anything=True)
CONTINUOUS = Atoms()
INTEGERS = Atoms(progressions=(Progression(np.zeros(()), np.ones(()), np.zeros(())),))
PIXELS = Atoms(anything=True, progressions=(Progression(np.zeros(()), np.asarray(_PIXEL), np.ones(())),))


def point(number: npt.ArrayLike) -> Progression:
    """Atoms at `number`, a scalar or [C]."""
    return Progression(np.asarray(number, np.float64), np.zeros(()), np.zeros(()))


def limited(pieces: list[Progression], axis: int) -> Atoms:
    """Atoms of at most a few progressions; anything, if there are more."""
    present = {_key(piece): piece for piece in pieces if not np.isnan(piece.base).all()}
    return Atoms(progressions=tuple(present.values()), axis=axis) if len(present) <= _MOST else ANYTHING


def _key(piece: Progression) -> tuple[tuple[float | None, ...], ...]:
    """Equal for equal progressions; NaN as None, and one number for a channel axis of equal ones."""
    parts = []
    for part in (piece.base, piece.unit, piece.size):
        numbers = tuple(None if np.isnan(number) else float(number) for number in part.reshape(-1))
        parts.append(numbers[:1] if len(set(numbers)) == 1 else numbers)
    return tuple(parts)


def union(parts: Iterable[Atoms]) -> Atoms:
    """The atoms of values that are the one here and the other there, along one axis."""
    found = list(parts)
    if any(part.anything for part in found):
        return ANYTHING
    return limited([piece for part in found for piece in part.pieces], found[0].axis)


def after_op(op: MonotoneOp, atoms: Atoms, axis: int) -> Atoms:
    """The atoms behind an elementwise op, whose constants lie along `axis`."""
    if atoms.anything:
        if op.op == "Mul" and not op.constants[0].any():
            return limited([point(0)], axis)
        likely = limited([after for piece in atoms.progressions for after in _advanced(op, piece)], axis)
        return replace(likely, anything=True)
    if atoms.lattice is not None:
        channels = max([atoms.lattice.low.size, *(constant.size for constant in op.constants)])
        return replace(atoms, lattice=atoms.lattice.over(channels), ops=(*atoms.ops, op), axis=axis)
    pieces = [after for piece in atoms.pieces for after in _advanced(op, piece)]
    return limited([*pieces, *_lumps(op)], axis)


def _advanced(op: MonotoneOp, piece: Progression) -> list[Progression]:
    """What an op makes of one progression; bounds, which cut it short, are lumps of their own."""
    if not piece.unit.any():
        moved = op(piece.base.astype(np.float32)).astype(np.float64)
        return [Progression(moved, piece.unit, np.where(piece.size == 0, 0, np.maximum(piece.size, np.abs(moved))))]
    if op.op in ("Relu", "Clip", "Max", "Min"):
        return [piece, *_lumps(op)]
    if op.op in ("PRelu", "LeakyRelu"):
        return [piece, scaled(piece, op.constants[0].astype(np.float64))]
    if op.op in ("Mul", "Div"):
        constant = op.constants[0].astype(np.float64)
        return [scaled(piece, constant if op.op == "Mul" else 1 / constant)]
    base = op.exactly(piece.base)
    return [Progression(base, piece.unit, np.maximum(piece.size + np.abs(piece.base), np.abs(base)))]


def scaled(piece: Progression, factor: DoubleArray) -> Progression:
    """What a multiplication makes of a progression."""
    size = np.maximum(piece.size, np.abs(piece.base)) * np.abs(factor)
    return Progression(piece.base * factor, piece.unit * np.abs(factor), size)


def _lumps(op: MonotoneOp) -> list[Progression]:
    """Where an op maps a range of numbers to one."""
    if op.op == "Relu":
        return [point(0)]
    if op.op in ("Clip", "Max", "Min"):
        return [point(constant) for constant in op.constants]
    if op.op in ("Mul", "PRelu", "LeakyRelu") and (op.constants[0] == 0).any():
        return [point(np.where(op.constants[0] == 0, np.float32(0), np.float32(np.nan)))]
    return []


def sum_of(a: Atoms, b: Atoms, op: str) -> Atoms:
    """The atoms of a + b, or of a - b for op "Sub", of independent values."""
    if a.none or b.none:
        return CONTINUOUS
    if a.anything or b.anything:
        return ANYTHING
    if a.by_channel and b.by_channel and a.axis != b.axis:
        return ANYTHING
    return limited([_sum(p, q, op) for p in a.pieces for q in b.pieces], a.axis if a.by_channel else b.axis)


def _sum(p: Progression, q: Progression, op: str) -> Progression:
    base = np.asarray(p.base + q.base if op == "Add" else p.base - q.base)
    unit = common(p.unit, q.unit)
    size = np.maximum(p.size, np.abs(p.base)) + np.maximum(q.size, np.abs(q.base))
    known = ~np.isnan(unit)
    return Progression(np.where(known, base, np.nan), np.where(known, unit, 0), size)


def common(a: DoubleArray, b: DoubleArray) -> DoubleArray:
    """The greatest number that divides both units, NaN where their ratio is none of small integers."""
    small, large = np.minimum(a, b), np.maximum(a, b)
    unit = np.full_like(small + large, np.nan)
    for parts in reversed(range(1, _LARGEST_DIVISOR + 1)):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = large / small * parts
            # of large integers only exact ratios count: those of binary fractions
            tolerance = np.where(ratio <= _LARGEST_INTEGER, _PRECISION * ratio, 0)
            near = np.abs(ratio - np.rint(ratio)) <= tolerance
        unit = np.where(near & (ratio < _FARTHEST), small / parts, unit)
    return np.where(small == 0, large, unit)


def mean_of(atoms: Atoms, count: int, axis: int) -> Atoms:
    """The atoms of means of `count` such values."""
    pieces = atoms.pieces
    if len(pieces) > 1:
        return ANYTHING
    means = [Progression(p.base, p.unit / count, np.maximum(p.size, np.abs(p.base))) for p in pieces]
    return replace(limited(means, axis), anything=atoms.anything)
