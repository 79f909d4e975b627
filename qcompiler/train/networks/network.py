"""What every network offers, and the checks of its parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import ClassVar

from torch import nn

from qcompiler.errors import UsageError
from qcompiler.nn.grid import FLOAT_BITS, MAX_BITS, WIDEST_BITS, is_width

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""


@dataclass(frozen=True)
class Network(ABC):
    """Parameters of a network, scalars all; the defaults are the published ones.

    The widths that `w_bits` and `a_bits` name are those of the inner layers, 32 for float. A network whose first layer
    has quantized weights takes images k / 128 - 1 of 8-bit pixels k, and tells the compiler so by `input_quantizer`.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        """Check the parameters."""
        self.check()

    @property
    @abstractmethod
    def w_bits(self) -> int:
        """Width of the weights of the inner layers."""

    @property
    @abstractmethod
    def a_bits(self) -> int:
        """Width of the inner activations."""

    @abstractmethod
    def check(self) -> None:
        """Raise UsageError for a parameter out of range."""

    @abstractmethod
    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network: float32 [N, *shape] to scores float32 [N, classes]."""

    @abstractmethod
    def baseline(self) -> Network:
        """The same network in float."""

    def refuse(self, field: str, expected: str, remedy: str = "") -> UsageError:
        """The error for the value of `field`."""
        return UsageError(f"{self.name}: {field} is {getattr(self, field)!r}, expected {expected}", remedy=remedy)

    def check_at_least(self, least: int, *fields: str) -> None:
        """Every one of `fields` is an integer of at least `least`."""
        for field in fields:
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise self.refuse(field, f"an integer of at least {least}")

    def check_share(self, *fields: str) -> None:
        """Every one of `fields` is a number from 0 up to but not including 1."""
        for field in fields:
            if not 0 <= getattr(self, field) < 1:
                raise self.refuse(field, "a share from 0 up to but not including 1")

    def check_choice(self, field: str, choices: Iterable[str]) -> None:
        """`field` is one of `choices`; the error names the nearest."""
        value, known = getattr(self, field), list(choices)
        if value not in known:
            near = get_close_matches(str(value), known, 1)
            raise self.refuse(field, f"one of {', '.join(known)}", f"did you mean '{near[0]}'?" if near else "")

    def check_bits(self, field: str, least: int = 1, *, or_float: bool = False, remedy: str = "") -> None:
        """`field` is a width from `least` to 16; where `or_float` it is one of BMXNet's, to 31, or 32 for float."""
        value, most = getattr(self, field), WIDEST_BITS if or_float else MAX_BITS
        if not is_width(value, least, most) and not (or_float and value == FLOAT_BITS):
            raise self.refuse(field, f"{least} to {most}" + (" or 32 for float" if or_float else ""), remedy)

    def check_images(self, shape: Shape, classes: int, least: int = 1) -> None:
        """Images have at least `least` rows and columns, and there are at least two classes."""
        if min(shape[1:]) < least or shape[0] < 1:
            raise UsageError(f"{self.name}: images are {shape}, expected at least {least} x {least} pixels")
        if classes < 2:
            raise UsageError(f"{self.name}: {classes} classes, expected at least 2")


@dataclass(frozen=True)
class BinaryOrFloat(Network):
    """A network of binary inner layers, or with `binary` off its float twin."""

    binary: bool = True

    @property
    def w_bits(self) -> int:
        """1, or 32 for float."""
        return 1 if self.binary else FLOAT_BITS

    @property
    def a_bits(self) -> int:
        """1, or 32 for float."""
        return 1 if self.binary else FLOAT_BITS

    def baseline(self) -> Network:
        """The float twin."""
        return replace(self, binary=False)
