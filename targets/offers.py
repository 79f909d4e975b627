"""Every kernel that can do a problem: a target lists its families of kernels in a table, and each offers its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from qcompiler.targets.problem import Problem
from qcompiler.targets.target import Kernel

Machine = TypeVar("Machine")

Family = Callable[[Machine, Problem], Iterable[Kernel]]
"""A family on one machine: its kernels for a problem on every tiling, none where it cannot do the problem."""


def offered(table: Sequence[Family[Machine]], machine: Machine, problem: Problem) -> list[Kernel]:
    """The kernels of all families of a table, cheapest first; among equals the order of the table decides."""
    found = [kernel for family in table for kernel in family(machine, problem)]
    return sorted(found, key=lambda kernel: kernel.cost)
