"""What 64-bit RISC-V processors offer: vectors, a population count, or neither, and the limits behind estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from qcompiler.errors import UsageError
from qcompiler.targets.architecture import RISCV64, Architecture


@dataclass(frozen=True)
class Isa:
    """One level of the instruction set.

    cpuinfo: what a processor must have beyond RV64GC. binary, byte, real: multiply-adds per cycle, by what LLVM makes.
    """

    name: str
    cpuinfo: tuple[str, ...]
    binary: float
    byte: float
    real: float

    ghz: ClassVar[float] = 1.5
    stream: ClassVar[float] = 6
    # V has at least these; without, LLVM takes vectors apart
    vector_bytes: ClassVar[int] = 16
    registers: ClassVar[int] = 32
    counts: ClassVar[int] = 1
    fma: ClassVar[bool] = True
    widen_counts: ClassVar[str] = ""

    @property
    def architecture(self) -> Architecture:
        """RISC-V."""
        return RISCV64

    @property
    def vectors(self) -> bool:
        """Whether there are registers of 128 bits or more."""
        return "v" in self.cpuinfo

    @property
    def counts_bits(self) -> bool:
        """Whether an instruction counts the bits of a word."""
        return "zbb" in self.cpuinfo

    @property
    def binary_rate(self) -> float:
        """One-bit multiply-adds per nanosecond."""
        return self.binary * self.ghz

    @property
    def planes_rate(self) -> float:
        """The same for codes of several bits."""
        return self.binary_rate * 0.7

    @property
    def byte_rate(self) -> float:
        """Multiply-adds of bytes per nanosecond."""
        return self.byte * self.ghz

    @property
    def float_rate(self) -> float:
        """Float32 multiply-adds per nanosecond."""
        return self.real * self.ghz

    @property
    def tvm_target(self) -> Mapping[str, Any]:
        """The dict form of tvm.target.Target."""
        mattr = [f"+{name}" for name in ("m", "a", "f", "d", "c", *self.cpuinfo)]
        target = {"kind": "llvm", "mtriple": RISCV64.triple, "mcpu": "generic-rv64", "mattr": mattr, "mabi": "lp64d"}
        return {**target, "opt-level": 2, "vector-width": 8 * self.vector_bytes}


ISAS: tuple[Isa, ...] = (
    Isa("v", ("v",), 7, 2, 2),
    Isa("zbb", ("zbb",), 6, 0.7, 0.5),
    Isa("rv64gc", (), 2.6, 0.7, 0.5),
)


def isas_for(mcpu: Sequence[str]) -> tuple[Isa, ...]:
    """Levels for --mcpu names, most demanding first; all of them if none is named. Raises UsageError for another."""
    names = [isa.name for isa in ISAS]
    for name in mcpu:
        if name not in names:
            raise UsageError(f"--mcpu: unknown RISC-V level '{name}', expected one of {', '.join(names)}")
    return tuple(isa for isa in ISAS if not mcpu or isa.name in mcpu)
