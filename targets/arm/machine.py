"""What ARM machines offer: cores and instruction-set levels, and the limits behind cost estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from qcompiler.errors import UsageError
from qcompiler.targets.architecture import AARCH64, ARM, IOS, Architecture

DOTPROD = "asimddp"
I8MM = "i8mm"


@dataclass(frozen=True)
class Isa:
    """Code for one core or instruction-set level.

    name: a C identifier. cpuinfo: features that must be present, as in /proc/cpuinfo. registers: vector registers of
    16 bytes. ghz: the clock that cost estimates assume. pipes: vector instructions per cycle.
    """

    name: str
    architecture: Architecture
    mcpu: str
    mattr: tuple[str, ...]
    cpuinfo: tuple[str, ...]
    registers: int = 32
    ghz: float = 1.5
    pipes: int = 2

    # bytes per nanosecond out of the caches beyond the first; a vector; counts of sixteen lanes, four registers each
    stream: ClassVar[float] = 6
    vector_bytes: ClassVar[int] = 16
    counts: ClassVar[int] = 4
    fma: ClassVar[bool] = True
    widen_counts: ClassVar[str] = ""

    @property
    def binary_rate(self) -> float:
        """One-bit multiply-adds per nanosecond: 128 in three instructions."""
        return 128 / 3 * self.pipes * self.ghz

    @property
    def planes_rate(self) -> float:
        """The same for codes of several bits; cores in order wait for loads and broadcasts."""
        return self.binary_rate * (0.7 if self.in_order else 0.95)

    @property
    def byte_rate(self) -> float:
        """Multiply-adds of bytes per nanosecond: sixteen an instruction, or in four; in order, less."""
        each = (10 if self.in_order else 16) if self.dotprod else 4
        return each * self.pipes * self.ghz

    @property
    def matrix_rate(self) -> float:
        """The same by smmla: 32 an instruction, less what loads of halves of registers take."""
        return 32 * self.pipes * self.ghz * 0.8

    @property
    def lookup_slots(self) -> int:
        """Slots of vector pipes that a tbl takes: three on Cortex-A72 and its likes."""
        return 3 if self.pipes > 1 and not self.dotprod else 1

    @property
    def nibble_rate(self) -> float:
        """Multiply-adds of a plane of weights per nanosecond: 64 by a tbl and an addition."""
        return 64 / (self.lookup_slots + 1) * self.pipes * self.ghz

    @property
    def in_order(self) -> bool:
        """Whether instructions wait for those before them, as those of single pipes do."""
        return self.pipes == 1

    @property
    def float_rate(self) -> float:
        """Float32 multiply-adds per nanosecond: four an instruction."""
        return 4 * self.pipes * self.ghz

    @property
    def wide(self) -> bool:
        """Whether this is 64-bit code."""
        return self.architecture.wide

    @property
    def dotprod(self) -> bool:
        """Whether udot adds four bytes to a 32-bit lane."""
        return DOTPROD in self.cpuinfo

    @property
    def i8mm(self) -> bool:
        """Whether smmla multiplies two rows of eight bytes by two columns."""
        return I8MM in self.cpuinfo

    @property
    def unroll(self) -> int:
        """Steps that inner loops may unroll; sixteen registers hold the operands of one."""
        return 6 if self.registers > 16 else 1

    @property
    def widen(self) -> str:
        """The LLVM intrinsic that adds up neighbouring lanes into lanes of twice the size."""
        return "llvm.aarch64.neon.uaddlp" if self.wide else "llvm.arm.neon.vpaddlu"

    @property
    def tvm_target(self) -> Mapping[str, Any]:
        """The dict form of tvm.target.Target."""
        target = {
            "kind": "llvm",
            "mtriple": self.architecture.triple,
            "mcpu": self.mcpu,
            "mattr": list(self.mattr),
            "opt-level": 2,
        }
        return target if self.wide else {**target, "mfloat-abi": "hard"}


IOS_NAME = "ios"
_V8 = ("asimd",)
_V82 = ("asimd", DOTPROD)
_V86 = ("asimd", DOTPROD, I8MM)
_V7 = ("neon", "vfpv4")
# LLVM's features of instructions, and one of tuning: no pairs of loads of 16 bytes, which keep the load unit of
# Cortex-A55 for six cycles, and are three operations at once on Neoverse N1 and N2 (llvm-mca's models)
_DOTS = ("+neon", "+dotprod", "+slow-paired-128")
_MATRICES = (*_DOTS, "+i8mm")

# most demanding first; a level runs on every core with its features. LLVM's generic order is the best for Cortex-A53
# and A55; code in the order for A72 and A76 takes three times as long there
ISAS: tuple[Isa, ...] = (
    Isa("i8mm", AARCH64, "generic", _MATRICES, _V86, ghz=2.4),
    Isa("cortex_a76", AARCH64, "cortex-a76", _DOTS, _V82, ghz=2.4),
    Isa("cortex_a55", AARCH64, "generic", _DOTS, _V82, ghz=1.8, pipes=1),
    Isa("dotprod", AARCH64, "generic", _DOTS, _V82, ghz=2.0),
    Isa("cortex_a72", AARCH64, "cortex-a72", ("+neon",), _V8, ghz=1.5),
    Isa("cortex_a53", AARCH64, "generic", ("+neon",), _V8, ghz=1.2, pipes=1),
    Isa("generic", AARCH64, "generic", ("+neon",), _V8, ghz=1.5),
    Isa("armv7", ARM, "cortex-a7", ("+neon", "+vfp4", "+thumb2"), _V7, registers=16, ghz=1.2, pipes=1),
)
DEFAULT = ("dotprod", "generic")
# the same code, in objects of another format and for the calls of another system
IOS_ISAS = tuple(replace(isa, architecture=IOS) for isa in ISAS if isa.name in DEFAULT)

# other names that people use, and the entry that serves them
_ALIASES: Mapping[str, str] = {
    "aarch64": "generic",
    "armv8-a": "generic",
    "armv8.2-a": "dotprod",
    "armv7-a": "armv7",
    **dict.fromkeys(("cortex-a35",), "cortex-a53"),
    **dict.fromkeys(("cortex-a57", "cortex-a73"), "cortex-a72"),
    **dict.fromkeys(("cortex-a510", "cortex-a520"), "cortex-a55"),
    **dict.fromkeys(
        ("cortex-a75", "cortex-a77", "cortex-a78", "cortex-a710", "cortex-a715", "cortex-a720", "cortex-x1",
         "cortex-x2", "cortex-x3", "cortex-x4", "neoverse-n1", "neoverse-n2", "neoverse-v1", "neoverse-v2", "apple-m1"),
        "cortex-a76",
    ),
    **dict.fromkeys(("cortex-a7", "cortex-a15"), "armv7"),
}  # fmt: skip


def isas_for(mcpu: Sequence[str]) -> tuple[Isa, ...]:
    """The entries for --mcpu names, most demanding first; the default bundle's if none is named.

    Raises UsageError for an unknown name, and where code for several systems would share a bundle.
    """
    if IOS_NAME in mcpu:
        if set(mcpu) > {IOS_NAME}:
            raise UsageError(f"--mcpu {IOS_NAME} shares no bundle with others", remedy="make two bundles")
        return IOS_ISAS
    wanted = {_entry(name) for name in mcpu or DEFAULT}
    found = tuple(isa for isa in ISAS if isa.name in wanted)
    if len({isa.architecture for isa in found}) > 1:
        names = ", ".join(isa.name for isa in found)
        raise UsageError(f"--mcpu: 32-bit and 64-bit code cannot share a bundle ({names})", remedy="make two bundles")
    return found


def _entry(name: str) -> str:
    """The entry that one --mcpu name stands for."""
    entry = _ALIASES.get(name, name).replace("-", "_")
    if entry not in {isa.name for isa in ISAS}:
        known = ", ".join(sorted({IOS_NAME, *_ALIASES, *(isa.name.replace("_", "-") for isa in ISAS)}))
        raise UsageError(f"--mcpu: unknown ARM CPU '{name}', expected one of {known}")
    return entry
