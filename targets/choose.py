"""Which of the kernels that can do a problem is taken, and what it is expected to take."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.targets.measured import ratio, shipped
from qcompiler.targets.problem import Problem
from qcompiler.targets.target import Kernel, Variant


@dataclass(frozen=True)
class Choice:
    """A kernel, and what it takes by the best that is known."""

    kernel: Kernel
    nanoseconds: float


def nanoseconds(variant: Variant, problem: Problem, kernel: Kernel) -> float:
    """What a kernel takes on a machine of the variant: its estimate, and what was measured of kernels like it."""
    return kernel.cost * ratio(shipped(), variant.name, problem, kernel.name)


def chosen(variant: Variant, problem: Problem) -> Choice | None:
    """The fastest kernel of a variant for a problem, the first of equal ones; None where it has none."""
    found = [Choice(kernel, nanoseconds(variant, problem, kernel)) for kernel in variant.kernels(problem)]
    return min(found, key=lambda choice: choice.nanoseconds, default=None)
