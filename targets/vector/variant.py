"""A variant of a processor family: everything but its table of kernels follows from its instruction-set level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Halo, Packing
from qcompiler.targets.architecture import Architecture
from qcompiler.targets.offers import Family, offered
from qcompiler.targets.problem import Conv2d, Move2d, Operation, Problem, Scalar
from qcompiler.targets.target import CpuFeature, Kernel
from qcompiler.targets.vector.host import HOST, Host
from qcompiler.targets.vector.nibble_reduction import table_packing
from qcompiler.targets.vector.tilings import MOST_PIXELS
from qcompiler.targets.vector.walk import in_one_row

_BLOCK_BYTES = 64
"""Of the sums of a pixel and a block of channels."""


class Level(Protocol):
    """An instruction-set level; cpuinfo: the features that a CPU must have, as in /proc/cpuinfo.

    fma: whether multiply and add fuse. vector_bytes: the widest vector; registers: how many there are.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def cpuinfo(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def architecture(self) -> Architecture: ...  # noqa: D102

    @property
    def tvm_target(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def fma(self) -> bool: ...  # noqa: D102

    @property
    def vector_bytes(self) -> int: ...  # noqa: D102

    @property
    def registers(self) -> int: ...  # noqa: D102


IsaT = TypeVar("IsaT", bound=Level)


@dataclass(frozen=True)
class VectorVariant(Generic[IsaT]):
    """An instruction-set level, the table of its kernels, and what compiles them; see `targets.target.Variant`."""

    isa: IsaT
    table: tuple[Family[IsaT], ...]
    platform: Host = HOST

    @property
    def name(self) -> str:
        """The level."""
        return self.isa.name

    @property
    def features(self) -> tuple[CpuFeature, ...]:
        """What a CPU must have."""
        return tuple(CpuFeature(name) for name in self.isa.cpuinfo)

    @property
    def architecture(self) -> Architecture:
        """The processor family."""
        return self.isa.architecture

    @property
    def tvm_target(self) -> Mapping[str, Any]:
        """The dict form of tvm.target.Target."""
        return self.isa.tvm_target

    def operands(self, layer: Conv2d, codes: Codes | None) -> tuple[Buffer, ...]:
        """Planes, bytes, tables or planes by pixels where the codes are known, and floats as they lie.

        The halo serves the padding.
        """
        floats = _padded(layer, layer.x, layer.pad_value)
        if codes is None:
            return (floats,)
        fill = layer.pad_value if codes.index(layer.pad_value) is not None else float(codes.low)
        planes = _padded(layer, replace(layer.x, element=codes, order="nhwc", groups=layer.groups), fill)
        in_bytes = _in_bytes(layer, planes)
        if codes.binary and layer.weights.binary:
            # words of bits of several groups would have to be taken apart
            return (planes, in_bytes, floats) if in_bytes.groups < layer.groups else (planes, floats)
        tables = replace(planes, packing=table_packing(layer.weights))
        looked_up = (tables,) if self.kernels(replace(layer, x=tables, padding="halo")) else ()
        pixels = replace(planes, packing="pixels")
        by_pixels = (pixels,) if self.kernels(replace(layer, x=pixels, padding="halo")) else ()
        return planes, in_bytes, *looked_up, *by_pixels, floats

    @property
    def code_packing(self) -> Packing:
        """Bytes: sixteen of them are read by one instruction."""
        return "bytes"

    def writes(self, kind: str, buffer: Buffer) -> bool:
        """Every storage but tables, which pools do not write, and planes by pixels."""
        return not buffer.by_pixels and (not buffer.in_tables or kind != "pool")

    def kernels(self, problem: Problem) -> Sequence[Kernel]:
        """Every kernel that computes the problem, cheapest estimate first."""
        made = _fused(problem) if self.isa.fma else problem
        return offered(self.table, self.isa, in_one_row(made) if self._short_tiles else made)

    @property
    def _short_tiles(self) -> bool:
        """Whether registers hold no tiles of the longest kind, so that what these leave of short rows matters."""
        return self.isa.registers * self.isa.vector_bytes < MOST_PIXELS * _BLOCK_BYTES


def _fused(problem: Problem) -> Problem:
    """The problem, whose epilogue may divide by fused multiply-adds."""
    if isinstance(problem, Move2d):
        return problem
    return replace(problem, epilogue=tuple(_fused_operation(operation) for operation in problem.epilogue))


def _fused_operation(operation: Operation) -> Operation:
    if operation.op != "div" or not isinstance(operation.operand, Scalar):
        return operation
    return replace(operation, operand=replace(operation.operand, fused=True))


def _in_bytes(layer: Conv2d, planes: Buffer) -> Buffer:
    """Codes in bytes; channels that are groups of their own lie side by side."""
    alone = 1 < layer.groups == layer.x.c == layer.out_channels
    return replace(planes, packing="bytes", groups=1 if alone else layer.groups)


def _padded(layer: Conv2d, x: Buffer, value: float) -> Buffer:
    return replace(x, halo=Halo(*layer.pads), halo_value=value) if any(layer.pads) else x
