"""What a pass is, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import onnx_ir as ir


@dataclass(frozen=True)
class Refusal:
    """A node that a pass could have rewritten but did not, and why."""

    node: str
    reason: str


@dataclass(frozen=True)
class PassResult:
    """How many rewrites a pass made, and what it refused."""

    name: str
    rewrites: int
    refusals: tuple[Refusal, ...] = ()


class Pass(Protocol):
    """A rewrite of the whole graph, in place; applying it twice is the same as applying it once.

    `bound` is 0 where the rewritten graph equals the original bit for bit; otherwise the largest difference of any
    value that feeds a discontinuous op (or a graph output), relative to the largest magnitude in that tensor.
    """

    @property
    def name(self) -> str:
        """The name on the command line, such as "fold-thresholds"."""
        ...

    @property
    def bound(self) -> float:
        """0.0 for exact."""
        ...

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite `model` in place."""
        ...
