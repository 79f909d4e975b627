"""The frame of kernels without weights: one work item is one row, with an epilogue on its pixels."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from qcompiler.targets.problem import Map2d, Pool2d
from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.by_items import ByItems
from qcompiler.targets.vector.emit import Expr, Parameter, prim_func
from qcompiler.targets.vector.epilogue import BoundEpilogue, channel_parameters, memory_parameters, pack_channels


@dataclass(frozen=True)
class RowKernel(ByItems):
    """Channel constants, run-time operands and stores around `emit_item`; see `qcompiler.targets.target.Kernel`."""

    problem: Pool2d | Map2d
    blocks: Blocks
    cost: float

    @property
    def source(self) -> Parameter:
        """How the input is read."""
        return Parameter("x", "float32", self.problem.x.nbytes // 4, 4)

    @abstractmethod
    def emit_item(self, x: Expr, epilogue: BoundEpilogue, item: Expr) -> None:
        """Compute row `item` from the flat input `x`."""

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """Channel constants of the epilogue."""
        return tuple(pack_channels(self.problem.epilogue, constants, self.blocks))

    def build(self, name: str) -> Any:
        """The PrimFunc."""
        channels = channel_parameters(self.problem.epilogue, self.blocks)

        def body(buffers: list[Expr], item: Expr) -> None:
            split_at = 1 + len(channels)
            epilogue = BoundEpilogue.bind(self.problem, self.blocks, buffers[1:split_at], buffers[split_at:])
            self.emit_item(buffers[0], epilogue, item)

        return prim_func(name, [self.source, *channels, *memory_parameters(self.problem)], body)
