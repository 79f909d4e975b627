"""What WebAssembly engines offer: vectors of 128 bits, or none, and the limits behind cost estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from qcompiler.errors import UsageError
from qcompiler.targets.architecture import WASM32, Architecture

SIMD = "simd128"


@dataclass(frozen=True)
class Isa:
    """One level of the instruction set.

    cpuinfo: what an engine must have. mattr: LLVM's names of it. counts: accumulators of the word kernels.

    The rates are those of an engine on a processor with vectors of 128 bits, sixteen registers and no vector population
    count, which is what most browsers run on: a count of sixteen bytes takes it eight instructions.
    """

    name: str
    cpuinfo: tuple[str, ...]
    mattr: tuple[str, ...]
    counts: int
    binary_per_cycle: float
    byte_per_cycle: float
    float_per_cycle: float

    ghz: ClassVar[float] = 3.0
    # bytes per nanosecond out of the caches beyond the first
    stream: ClassVar[float] = 30
    vector_bytes: ClassVar[int] = 16
    registers: ClassVar[int] = 16
    # multiply and add round on their own: there is no fused instruction that all engines have
    fma: ClassVar[bool] = False

    @property
    def architecture(self) -> Architecture:
        """WebAssembly."""
        return WASM32

    @property
    def simd(self) -> bool:
        """Whether there are vectors."""
        return SIMD in self.cpuinfo

    @property
    def widen_counts(self) -> str:
        """Vectors count bits of bytes; LLVM takes longer lanes apart for that."""
        return "llvm.wasm.extadd.pairwise.unsigned" if self.simd else ""

    @property
    def binary_rate(self) -> float:
        """One-bit multiply-adds per nanosecond."""
        return self.binary_per_cycle * self.ghz

    @property
    def planes_rate(self) -> float:
        """The same for codes of several bits, whose counts are widened at every step."""
        return self.binary_rate * (0.75 if self.simd else 1)

    @property
    def byte_rate(self) -> float:
        """Multiply-adds of bytes per nanosecond."""
        return self.byte_per_cycle * self.ghz

    @property
    def float_rate(self) -> float:
        """Float32 multiply-adds per nanosecond."""
        return self.float_per_cycle * self.ghz

    @property
    def tvm_target(self) -> Mapping[str, Any]:
        """The dict form of tvm.target.Target; of the generic CPU, as later ones may have what engines lack."""
        target = {"kind": "llvm", "mtriple": WASM32.triple, "mcpu": "mvp", "mattr": list(self.mattr), "opt-level": 2}
        return {**target, "vector-width": 8 * self.vector_bytes}


# every engine with vectors has the other three
ISAS: tuple[Isa, ...] = (
    Isa(SIMD, (SIMD,), ("+simd128", "+sign-ext", "+nontrapping-fptoint", "+mutable-globals"), 2, 32, 8, 6),
    Isa("plain", (), ("+mutable-globals",), 1, 20, 0.7, 1),
)


def isas_for(mcpu: Sequence[str]) -> tuple[Isa, ...]:
    """Levels for --mcpu names, most demanding first; all of them if none is named. Raises UsageError for another."""
    names = [isa.name for isa in ISAS]
    for name in mcpu:
        if name not in names:
            raise UsageError(f"--mcpu: unknown WebAssembly level '{name}', expected one of {', '.join(names)}")
    return tuple(isa for isa in ISAS if not mcpu or isa.name in mcpu)
