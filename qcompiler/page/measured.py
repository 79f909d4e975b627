"""Measured times of a bundle, as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.bundle.timing import Profile, memory_rates


@dataclass(frozen=True)
class Measured:
    """Times of a variant's steps, and how fast memory is where they were measured.

    seconds: median of every step. copies: what was copied, and bytes per second read and written; none on a device.
    """

    variant: str
    threads: int
    repeats: int
    seconds: tuple[float, ...]
    copies: tuple[tuple[str, float], ...]


def measured(profile: Profile, variant: str, *, here: bool) -> Measured:
    """A profile with the speed of memory; here: whether it was taken on this machine."""
    return Measured(
        variant,
        profile.threads,
        profile.repeats,
        tuple(step.seconds for step in profile.steps),
        memory_rates() if here else (),
    )
