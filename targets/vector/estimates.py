"""What kernels take, by the limits of a machine: arithmetic, or bytes through the caches."""

from __future__ import annotations

from typing import Protocol

from qcompiler.ir.numerics import WORD_BITS, WORD_BYTES
from qcompiler.targets.problem import Conv2d, Map2d, Move2d, Pool2d, outputs_of
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.direct import Geometry
from qcompiler.targets.vector.emit import LANES
from qcompiler.targets.vector.planes import plane_pairs, weight_planes
from qcompiler.targets.vector.tilings import Ranked, unit_weights

# one lane after the other instead of a broadcast
_GATHER_SLOWDOWN = 10
# operations that a threshold takes, as measured on x86
_COMPARING = 1.5
# nanoseconds of a call; chosen
_CALL = 500


class VectorMachine(Protocol):
    """What estimates and the families that all processors share must know of an instruction-set level."""

    @property
    def stream(self) -> float:
        """Bytes per nanosecond out of the caches beyond the first."""
        ...

    @property
    def binary_rate(self) -> float:
        """One-bit multiply-adds per nanosecond by words."""
        ...

    @property
    def planes_rate(self) -> float:
        """One-bit multiply-adds per nanosecond of codes of several bits."""
        ...

    @property
    def byte_rate(self) -> float:
        """Multiply-adds of bytes per nanosecond."""
        ...

    @property
    def float_rate(self) -> float:
        """Float32 multiply-adds per nanosecond."""
        ...

    @property
    def counts(self) -> int:
        """Accumulators of sixteen lanes that the word kernels may have."""
        ...

    @property
    def widen_counts(self) -> str:
        """The LLVM intrinsic that adds up neighbouring lanes, where LLVM counts bits of bytes alone; else empty."""
        ...

    @property
    def vector_bytes(self) -> int:
        """The widest vector."""
        ...

    @property
    def registers(self) -> int:
        """How many vector registers there are."""
        ...

    @property
    def fma(self) -> bool:
        """Whether multiply and add fuse."""
        ...


def compute_ns(
    machine: VectorMachine, problem: Conv2d, blocks: Blocks, macs_per_ns: float, ranked: Ranked, share: float = 1
) -> float:
    """Arithmetic or weight streaming, whichever is slower, then operations and traffic of the epilogue.

    share: of the bytes of the weights that is stored.
    """
    outputs = problem.pixels * blocks.count * LANES
    steps = Geometry(problem, blocks).steps
    arithmetic = outputs * steps * _products(problem) / macs_per_ns * ranked.slowdown
    if gathers(problem, blocks):
        arithmetic *= _GATHER_SLOWDOWN
    streaming = blocks.count * LANES * steps * unit_weights(problem) * share / machine.stream
    epilogue = outputs * _operations(problem) / machine.float_rate
    return max(arithmetic, streaming) + epilogue + sum(b.nbytes for b in outputs_of(problem)) / machine.stream


def _operations(problem: Conv2d) -> float:
    """Of the epilogue on an output, each as long as a multiply-add; to store them is traffic."""
    into = problem.epilogue[-1].into
    if problem.epilogue[0].op == "threshold" and into is not None and into.codes is not None:
        return _COMPARING * (into.codes.levels - 1)
    return sum(operation.op != "store" for operation in problem.epilogue)


def _products(problem: Conv2d) -> int:
    """Multiply-adds, of one bit by one where codes are in planes, of a unit of input and one of weights."""
    if not problem.x.packed or problem.by_channel:
        return 1
    if problem.x.in_tables:
        return len(weight_planes(problem.weights).factors)
    return WORD_BYTES if problem.x.in_bytes else WORD_BITS * plane_pairs(problem)


def memory_ns(machine: VectorMachine, problem: Pool2d | Map2d | Move2d) -> float:
    """Reading and writing out of the second-level cache, and the call."""
    return _CALL + (problem.x.nbytes + sum(b.nbytes for b in outputs_of(problem))) / machine.stream


def gathers(problem: Conv2d, blocks: Blocks) -> bool:
    """Whether the lanes of a block read from scattered places."""
    geometry = Geometry(problem, blocks)
    return not geometry.uniform(1) and not geometry.depthwise
