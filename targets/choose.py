"""Which of the kernels that can do a problem is taken, and what it is expected to take."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.targets.measured import shipped
from qcompiler.targets.problem import Problem
from qcompiler.targets.target import Kernel, Variant
from qcompiler.targets.tuned import UNTUNED, Tuned


@dataclass(frozen=True)
class Choice:
    """A kernel, and what it takes by the best that is known."""

    kernel: Kernel
    nanoseconds: float


def nanoseconds(variant: Variant, problem: Problem, kernel: Kernel) -> float:
    """What a kernel takes on a machine of the variant: its estimate, and what was measured of kernels like it."""
    return kernel.cost * shipped().ratio(variant.name, problem, kernel.name)


def choices(variant: Variant, problem: Problem) -> list[Choice]:
    """All kernels of a variant for a problem, and what is expected of them, in the order of the variant."""
    return [Choice(kernel, nanoseconds(variant, problem, kernel)) for kernel in variant.kernels(problem)]


def chosen(variant: Variant, problem: Problem, tuned: Tuned = UNTUNED) -> Choice | None:
    """The fastest kernel of a variant for a problem, the first of equal ones; None where it has none.

    The fastest of those that were measured for the problem, where any was.
    """
    found = choices(variant, problem)
    times = tuned.nanoseconds(variant.name, problem, (choice.kernel.name for choice in found))
    measured = [Choice(each.kernel, times[each.kernel.name]) for each in found if each.kernel.name in times]
    return min(measured or found, key=lambda choice: choice.nanoseconds, default=None)
