"""Choices of a random network, each of them Hypothesis's, so that failures shrink towards the first of the options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import strategies as st

from tests.fuzz.net import Net, Rejected, Value

T = TypeVar("T")
Draw = st.DrawFn


def choice(draw: Draw, options: Sequence[T]) -> T:
    """One of `options`, the simplest first."""
    return draw(st.sampled_from(options))


def number(draw: Draw, low: int, high: int) -> int:
    """An integer between low and high, both included."""
    return draw(st.integers(low, high))


def chance(draw: Draw, one_in: int = 2) -> bool:
    """True in one of `one_in` cases."""
    return draw(st.integers(0, one_in - 1)) == one_in - 1


def a_value(draw: Draw, net: Net, fits: Callable[[Value], bool] = lambda _: True) -> Value:
    """A value to read: in half of the cases the newest that fits. Raises Rejected where none does."""
    found = [value for value in reversed(net.values) if fits(value)]
    if not found:
        raise Rejected
    return found[0] if not chance(draw) else choice(draw, found)
