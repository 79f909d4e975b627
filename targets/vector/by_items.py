"""What every kernel for processors says of itself: ranges of work items over the buffers of its problem."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from qcompiler.ir.program import Items
from qcompiler.ir.storage import Buffer
from qcompiler.targets.problem import Problem, outputs_of, tensors_of


class ByItems(ABC):
    """A kernel that computes ranges of items; see `qcompiler.targets.target.Kernel`."""

    if TYPE_CHECKING:
        # a field of most subclasses, which must find no default here
        @property
        def problem(self) -> Problem:
            """What it computes."""

    @property
    @abstractmethod
    def items(self) -> int:
        """Number of independent work items."""

    @property
    def launch(self) -> Items:
        """All items."""
        return Items(self.items)

    @property
    def reads(self) -> tuple[Buffer, ...]:
        """The buffers that the problem reads."""
        return (self.problem.x, *tensors_of(self.problem))

    @property
    def writes(self) -> tuple[Buffer, ...]:
        """The buffers that the problem writes."""
        return outputs_of(self.problem)
