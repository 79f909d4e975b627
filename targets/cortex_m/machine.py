"""What Cortex-M processors offer: cores, their instruction sets, and the limits behind cost estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from qcompiler.errors import UsageError
from qcompiler.targets.architecture import CORTEX_M, Architecture


@dataclass(frozen=True)
class Isa:
    """Code for one core.

    name: a C identifier; with hyphens that of the core. triple: LLVM's. mattr: LLVM's names of what it has, or lacks.
    ghz: the clock that cost estimates assume; the figures per cycle are those of LLVM's code: words one by one, or four
    of them. vectors: whether it has those of 128 bits (MVE). floats: whether it computes with those of 32 bits.
    signals: whether it has the instructions that multiply halves of words.
    """

    name: str
    triple: str
    mattr: tuple[str, ...]
    ghz: float
    vectors: bool = False
    floats: bool = True
    signals: bool = True

    # a core is what its code was made for: there is nothing to choose by at run time
    cpuinfo: ClassVar[tuple[str, ...]] = ()
    widen_counts: ClassVar[str] = ""
    # eight vectors, or 32 floats that LLVM takes such vectors apart into
    vector_bytes: ClassVar[int] = 16
    registers: ClassVar[int] = 8

    @property
    def mcpu(self) -> str:
        """What compilers call the core."""
        return self.name.replace("_", "-")

    @property
    def architecture(self) -> Architecture:
        """One for all cores."""
        return CORTEX_M

    @property
    def fma(self) -> bool:
        """A library's fused multiply-add is slow, and need not round once."""
        return self.floats

    @property
    def counts(self) -> int:
        """Accumulators of the word kernels."""
        return 1

    @property
    def stream(self) -> float:
        """Bytes per nanosecond: a word in a cycle."""
        return 4 * self.ghz

    @property
    def binary_rate(self) -> float:
        """One-bit multiply-adds per nanosecond: 32 in some twelve instructions, or 128 in eighteen."""
        return (7 if self.vectors else 2.6) * self.ghz

    @property
    def planes_rate(self) -> float:
        """The same for codes of several bits."""
        return (5 if self.vectors else 1.8) * self.ghz

    @property
    def byte_rate(self) -> float:
        """Multiply-adds of bytes per nanosecond."""
        return (2 if self.vectors else 0.6) * self.ghz

    @property
    def float_rate(self) -> float:
        """Float32 multiply-adds per nanosecond."""
        return (2 if self.vectors else 0.4 if self.floats else 0.01) * self.ghz

    @property
    def tvm_target(self) -> Mapping[str, Any]:
        """The dict form of tvm.target.Target."""
        return {
            "kind": "llvm",
            "mtriple": self.triple,
            "mcpu": self.mcpu,
            "mattr": list(self.mattr),
            "mfloat-abi": "hard" if self.floats else "soft",
            "opt-level": 2,
            "vector-width": 8 * self.vector_bytes,
        }


# floats of 32 bits alone: chips with a Cortex-M7 need not have wider ones
ISAS: tuple[Isa, ...] = (
    Isa("cortex_m55", "thumbv8.1m.main-unknown-none-eabihf", ("+mve.fp",), 0.4, vectors=True),
    Isa("cortex_m7", "thumbv7em-unknown-none-eabihf", ("-fp64",), 0.4),
    Isa("cortex_m33", "thumbv8m.main-unknown-none-eabihf", (), 0.16),
    Isa("cortex_m4", "thumbv7em-unknown-none-eabihf", (), 0.16),
    Isa("cortex_m0", "thumbv6m-unknown-none-eabi", (), 0.05, floats=False, signals=False),
)

DEFAULT = ("cortex-m55", "cortex-m7", "cortex-m33", "cortex-m4")
# with the same instructions
_ALIASES = {"cortex-m0plus": "cortex-m0", "cortex-m0+": "cortex-m0", "cortex-m1": "cortex-m0"}


def isas_for(mcpu: Sequence[str]) -> tuple[Isa, ...]:
    """The cores of these --mcpu names, most demanding first; those with floats if none is named.

    Raises UsageError for an unknown name.
    """
    known = [isa.mcpu for isa in ISAS]
    for name in mcpu:
        if _core(name) not in known:
            raise UsageError(f"--mcpu: unknown Cortex-M '{name}', expected one of {', '.join(known)}")
    wanted = {_core(name) for name in mcpu or DEFAULT}
    return tuple(isa for isa in ISAS if isa.mcpu in wanted)


def _core(name: str) -> str:
    """Such as cortex-m4, or m4 for short."""
    name = name.replace("_", "-")
    name = name if name.startswith("cortex-") else f"cortex-{name}"
    return _ALIASES.get(name, name)
