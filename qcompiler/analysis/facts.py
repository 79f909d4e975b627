"""What is known of the values of a graph, each from what is known of the operands of its node, when it is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import onnx_ir as ir

T = TypeVar("T")


class Facts(ABC, Generic[T]):
    """Lazily computed facts about the values of one graph; `forget` after changing it."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, T] = {}

    def forget(self) -> None:
        """Drop what is known; the graph has changed."""
        self._known.clear()

    def of(self, value: ir.Value) -> T:
        """The fact about `value`; without recursion, since networks are deep."""
        pending = [value]
        while pending:
            current = pending[-1]
            missing = [i for i in self._operands(current) if i not in self._known]
            if current in self._known or not missing:
                pending.pop()
                if current not in self._known:
                    self._known[current] = self._computed(current)
            else:
                pending.extend(missing)
        return self._known[value]

    @abstractmethod
    def _operands(self, value: ir.Value) -> list[ir.Value]:
        """The values whose facts are needed for that of `value`."""

    @abstractmethod
    def _computed(self, value: ir.Value) -> T:
        """The fact about `value`, from those of its operands in `self._known`."""
