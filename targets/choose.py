"""Which of the kernels that can do a problem is taken, and what it is expected to take."""

from __future__ import annotations

from qcompiler.targets.problem import Problem
from qcompiler.targets.target import Kernel, Variant


def nanoseconds(variant: Variant, problem: Problem, kernel: Kernel) -> float:
    """What a kernel takes on a machine of the variant: the one place that says so, today by the kernel's estimate."""
    return kernel.cost


def chosen(variant: Variant, problem: Problem) -> Kernel | None:
    """The fastest kernel of a variant for a problem, the first of equal ones; None where it has none."""
    kernels = variant.kernels(problem)
    return min(kernels, key=lambda kernel: nanoseconds(variant, problem, kernel), default=None)
