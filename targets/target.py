"""The interface of a machine: what a target folder must offer, and nothing else.

A target offers instruction-set variants; a variant turns a problem into kernels. Lowering takes the kernel with the
lowest estimated cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler.targets.architecture import Architecture
from qcompiler.targets.problem import Problem

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Constants:
    """Logical constants of one kernel call, before packing.

    weights: float32 OIHW for Conv2d. For a "threshold" step, threshold: integers as float32 [levels - 1, O], and
    direction: float32 [O] of -1/+1.
    channels: one float32 [c] per `Channel` operand, in epilogue order. flip: float32 [c] for Pool2d "codes".
    """

    weights: npt.NDArray[np.float32] | None = None
    threshold: npt.NDArray[np.float32] | None = None
    direction: npt.NDArray[np.float32] | None = None
    channels: tuple[npt.NDArray[np.float32], ...] = ()
    flip: npt.NDArray[np.float32] | None = None


class Kernel(Protocol):
    """One way to compute one problem on one variant: a frozen dataclass (problem, tiling) with three faces.

    The built function has the signature
        int32 f(x, *packed constants, *run-time tensors, *outputs, int32 begin, int32 end)
    where every pointer is a T.handle, packed constants come in the order of `pack`, run-time tensors in the order of
    the `Tensor` operands of the epilogue, outputs in the order of its stores. It computes the work items
    [begin, end) of range(items); disjoint ranges may run at the same time on several threads. It returns 0.
    It allocates nothing outside the stack and calls nothing.
    """

    @property
    def name(self) -> str:
        """Short and unique per kernel family and tiling, such as "xnor_conv2d_p7b2"."""
        ...

    @property
    def items(self) -> int:
        """Number of independent work items (rows x channel blocks, say)."""
        ...

    @property
    def cost(self) -> float:
        """Estimated nanoseconds on one thread of this machine kind."""
        ...

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """Constants in the memory layout of the kernel; each array is placed 64-byte aligned in read-only data."""
        ...

    def build(self, name: str) -> Any:
        """The tvm.tirx.PrimFunc, with C calling convention and global symbol `name`."""
        ...


@dataclass(frozen=True)
class CpuFeature:
    """A CPU feature as the dispatcher tests it: its name as in /proc/cpuinfo."""

    name: str


class Variant(Protocol):
    """One instruction-set level of a target."""

    @property
    def name(self) -> str:
        """A C identifier, such as "avx512vpopcntdq"; part of symbol names."""
        ...

    @property
    def features(self) -> tuple[CpuFeature, ...]:
        """All of these must be present at run time."""
        ...

    @property
    def architecture(self) -> Architecture:
        """Of the processor that runs the network, or that drives the device which does."""
        ...

    @property
    def tvm_target(self) -> Mapping[str, Any]:
        """The dict form of tvm.target.Target."""
        ...

    def kernels(self, problem: Problem) -> Sequence[Kernel]:
        """Every kernel (all tilings) that computes the problem, best untuned default first; empty if none can."""
        ...


class Target(Protocol):
    """A machine family that `--target` names."""

    name: str

    def variants(self, mcpu: Sequence[str]) -> tuple[Variant, ...]:
        """The variants of a bundle, most demanding first, for these --mcpu names (none: all of them).

        Raises UsageError for an unknown name, listing the known ones.
        """
        ...
