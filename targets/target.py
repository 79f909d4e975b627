"""The interface of a machine: what a target folder must offer, and nothing else.

A target offers instruction-set variants. A variant says in which storage its kernels read and write, and offers kernels
for a problem, of which one is chosen (`choose.py`). Its platform schedules standard operators and compiles functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler.ir.codes import Codes
from qcompiler.ir.program import Launch
from qcompiler.ir.storage import Buffer, Packing
from qcompiler.targets.architecture import Architecture
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.standard_op import Scheduled, StandardOp

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Constants:
    """Logical constants of one kernel call, before packing.

    weights: float32 OIHW for Conv2d. For a "threshold" operation, threshold: integers as float32 [levels - 1, O], and
    direction: float32 [O] of -1/+1.
    bias: int64 [O], added to sums of codes before they are rounded to float32.
    channels: one float32 [c] per `Channel` operand, in epilogue order. flip: float32 [c] for Pool2d "codes".
    """

    weights: npt.NDArray[np.float32] | None = None
    threshold: npt.NDArray[np.float32] | None = None
    direction: npt.NDArray[np.float32] | None = None
    channels: tuple[npt.NDArray[np.float32], ...] = ()
    flip: npt.NDArray[np.float32] | None = None
    bias: npt.NDArray[np.int64] | None = None


class Kernel(Protocol):
    """One way to compute one problem on one variant: a frozen dataclass (problem, tiling).

    The built function takes pointers: x, packed constants in the order of `pack`, run-time tensors in the order of the
    `Tensor` operands of the epilogue, outputs in the order of its stores. What else it takes is for its launch to say.
    Launched by `Items` it is
        int32 f(x, *packed constants, *run-time tensors, *outputs, int32 begin, int32 end)
    and computes the work items [begin, end); disjoint ranges may run at the same time on several threads. It returns 0.
    It allocates nothing outside the stack and calls nothing.
    """

    @property
    def name(self) -> str:
        """Short and unique per kernel family and tiling, such as "xnor_conv2d_p7b2"."""
        ...

    @property
    def launch(self) -> Launch:
        """Ranges of independent work items (rows x channel blocks, say), or a grid of blocks of threads."""
        ...

    @property
    def reads(self) -> tuple[Buffer, ...]:
        """The storage of x and of the run-time tensors, as the code reads it."""
        ...

    @property
    def writes(self) -> tuple[Buffer, ...]:
        """The storage of the outputs, as the code writes it."""
        ...

    @property
    def cost(self) -> float:
        """Estimated nanoseconds on one thread of this machine kind."""
        ...

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """Constants in the memory layout of the kernel; each array is placed 64-byte aligned in read-only data."""
        ...

    def build(self, name: str) -> Any:
        """What the platform compiles; for processors a PrimFunc with C calling convention and global symbol `name`."""
        ...


class Platform(Protocol):
    """How code runs on machines of a kind, whatever their instruction set; one for all variants of a bundle."""

    @property
    def own_memory(self) -> bool:
        """Whether kernels reach only memory of a device, to and from which the host copies."""
        ...

    @property
    def code_format(self) -> str:
        """What `compile` makes; see `ir.program.VariantCode`."""
        ...

    def schedule(self, op: StandardOp) -> Scheduled:
        """A standard operator as code; any exception refuses a function of TVM's, with its first line as the reason."""
        ...

    def compile(self, functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> bytes:
        """One object or module of all functions, by symbol."""
        ...

    def source(self, function: Any) -> str:
        """A function to read, before it is compiled."""
        ...

    def assembly(self, functions: Mapping[str, Any], tvm_target: Mapping[str, Any]) -> str:
        """What `compile` makes, to read."""
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

    @property
    def platform(self) -> Platform:
        """How its code runs."""
        ...

    def operands(self, layer: Conv2d, codes: Codes | None) -> Sequence[Buffer]:
        """Every storage in which kernels of a layer read x, halo included; among equally fast ones the first is taken.

        layer: x float32 without halo, as it lies if nobody asks for more: as in ONNX where the caller of the network
        owns it, else channels-last; one float32 store; its weights are those of codes, if they are known to be any.
        codes: what x holds, where x and weights are known to be codes.
        """
        ...

    @property
    def code_packing(self) -> Packing:
        """How codes lie that no layer reads, but pools, moves and elementwise chains."""
        ...

    def writes(self, kind: str, buffer: Buffer) -> bool:
        """Whether kernels of a kind ("conv", "pool" or "map") write this storage themselves; else a `Map2d` makes it.

        Everything else must be written: channels-last without halo, floats and codes.
        """
        ...

    def kernels(self, problem: Problem) -> Sequence[Kernel]:
        """Every kernel (all tilings) that computes the problem, cheapest estimate first; empty if none can."""
        ...


class Target(Protocol):
    """A machine family that `--target` names."""

    name: str

    def variants(self, mcpu: Sequence[str]) -> tuple[Variant, ...]:
        """The variants of a bundle, most demanding first, for these --mcpu names (none: all of them).

        Raises UsageError for an unknown name, listing the known ones.
        """
        ...
