"""Which integers an array holds: one type from the analysis of a graph down to memory."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Codes:
    """The integers low, low + step, ..., high; every element of an array is among them."""

    low: int
    high: int
    step: int = 1

    @property
    def levels(self) -> int:
        """How many integers there are."""
        return (self.high - self.low) // self.step + 1

    @property
    def bits(self) -> int:
        """Bits that tell them apart, at least one."""
        return max(1, (self.levels - 1).bit_length())

    @property
    def binary(self) -> bool:
        """Exactly -1 and +1."""
        return self == BINARY

    @property
    def label(self) -> str:
        """How names of kernels and reports call them."""
        return f"{self.bits}bit"

    def within(self, other: Codes) -> bool:
        """Whether all lie between the lowest and the highest of `other`."""
        return other.low <= self.low and self.high <= other.high

    def index(self, code: float) -> int | None:
        """The position of a number among them; None if it is none of them."""
        position = (code - self.low) / self.step
        return int(position) if position == int(position) and 0 <= position < self.levels else None

    def union(self, other: Codes) -> Codes:
        """The smallest progression that holds both."""
        step = math.gcd(self.step if self.high > self.low else 0, other.step if other.high > other.low else 0)
        step = math.gcd(step, self.low - other.low)
        return Codes(min(self.low, other.low), max(self.high, other.high), step or 1)


BINARY = Codes(-1, 1, 2)
BYTE = Codes(-128, 127)
