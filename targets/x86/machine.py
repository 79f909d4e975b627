"""What x86 machines offer: instruction-set variants and the port limits behind cost estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from qcompiler.errors import UsageError
from qcompiler.targets.architecture import X86_64, Architecture, host_features

Level = Literal["amx", "avx512vpopcntdq", "avx512bw", "avxvnni", "avx2", "baseline"]

_AVX2 = ("avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "abm")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_ICE_LAKE = (*_AVX512, "avx512_vpopcntdq", "avx512_vnni", "avx512vbmi")
_ICE_LAKE_CODE = ("+avx512vpopcntdq", "+avx512vnni", "+avx512vbmi", "-prefer-256-bit")


@dataclass(frozen=True)
class Isa:
    """One instruction-set level.

    vector_bytes: widest vector; registers: how many there are; fma: whether multiply and add fuse.
    """

    level: Level
    cpuinfo: tuple[str, ...]
    mcpu: str
    mattr: tuple[str, ...]
    vector_bytes: int
    registers: int
    fma: bool

    # bytes per nanosecond out of the caches beyond the first
    stream: ClassVar[float] = 60
    widen_counts: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The level."""
        return self.level

    @property
    def architecture(self) -> Architecture:
        """The processor family."""
        return X86_64

    @property
    def binary_rate(self) -> float:
        """One-bit multiply-adds per nanosecond by words."""
        return _LIMITS.word[self.level] * _LIMITS.ghz

    @property
    def planes_rate(self) -> float:
        """The same for codes of several bits."""
        return self.binary_rate

    @property
    def lookup_rate(self) -> float:
        """One-bit multiply-adds per nanosecond by lookups in byte lanes."""
        return _LIMITS.lookup[self.level] * _LIMITS.ghz

    @property
    def vbmi(self) -> bool:
        """Whether one instruction looks up 64 bytes in a table of 64."""
        return "avx512vbmi" in self.cpuinfo

    @property
    def table_rate(self) -> float:
        """One-bit multiply-adds per nanosecond by lookups in tables of 64, of activations of one bit."""
        return _LIMITS.tables[self.level] * _LIMITS.ghz

    @property
    def code_rate(self) -> float:
        """One-bit multiply-adds per nanosecond by lookups of whole codes, of activations of one bit."""
        return _LIMITS.codes[self.level] * _LIMITS.ghz

    @property
    def nibble_rate(self) -> float:
        """Multiply-adds with weights of one bit per nanosecond by lookups of four inputs."""
        return _LIMITS.nibbles[self.level] * _LIMITS.ghz

    @property
    def pixel_rate(self) -> float:
        """Multiply-adds of activations of one bit per nanosecond by lookups in sums of weights."""
        return _LIMITS.pixels * _LIMITS.ghz

    @property
    def vnni(self) -> bool:
        """Whether one instruction adds four products of bytes to a lane."""
        return "avx512_vnni" in self.cpuinfo or "avx_vnni" in self.cpuinfo

    @property
    def amx(self) -> bool:
        """Whether one instruction multiplies tiles of bytes."""
        return "amx_int8" in self.cpuinfo

    @property
    def tile_rate(self) -> float:
        """Multiply-adds of bytes per nanosecond by tiles."""
        return _LIMITS.tiles * _LIMITS.ghz

    @property
    def byte_rate(self) -> float:
        """Multiply-adds of bytes per nanosecond."""
        return _LIMITS.bytes[self.level] * _LIMITS.ghz

    @property
    def float_rate(self) -> float:
        """Float32 multiply-adds per nanosecond."""
        return _LIMITS.fma[self.level] * _LIMITS.ghz

    @property
    def counts(self) -> int:
        """Accumulators of the word kernels; without a vector population count it needs most of the registers itself."""
        return {64: 16, 32: 4, 16: 2}[self.vector_bytes]

    @property
    def tvm_target(self) -> Mapping[str, Any]:
        """The dict form of tvm.target.Target; 512-bit vectors are asked for, whatever the CPU model prefers."""
        # the optimiser's third level costs a third more time and makes no kernel faster
        target: dict[str, Any] = {"kind": "llvm", "mtriple": X86_64.triple, "mcpu": self.mcpu, "opt-level": 2,
                                  "vector-width": 8 * self.vector_bytes}  # fmt: skip
        return {**target, "mattr": list(self.mattr)} if self.mattr else target


ISAS: tuple[Isa, ...] = (
    Isa("amx", (*_ICE_LAKE, "amx_tile", "amx_int8"), "x86-64-v4", (*_ICE_LAKE_CODE, "+amx-tile", "+amx-int8"),
        64, 32, True),
    Isa("avx512vpopcntdq", _ICE_LAKE, "x86-64-v4", _ICE_LAKE_CODE, 64, 32, True),
    Isa("avx512bw", _AVX512, "x86-64-v4", ("-prefer-256-bit",), 64, 32, True),
    Isa("avxvnni", (*_AVX2, "avx_vnni"), "x86-64-v3", ("+avxvnni",), 32, 16, True),
    Isa("avx2", _AVX2, "x86-64-v3", (), 32, 16, True),
    Isa("baseline", (), "x86-64", (), 16, 16, False),
)  # fmt: skip

# enough for every machine: the others are for CPUs that are named, and what they add is measured on few
_EVERYWHERE: tuple[Level, ...] = ("avx512vpopcntdq", "avx512bw", "avx2", "baseline")
# systems may keep the registers of tiles from a process, on CPUs that have them
_BESIDE: Mapping[Level, Level] = {"amx": "avx512vpopcntdq"}

# LLVM CPU names people use, and the best level each has
_CPUS: dict[str, Level] = {
    **dict.fromkeys(("sapphirerapids", "emeraldrapids", "graniterapids"), "amx"),
    **dict.fromkeys(("znver4", "znver5", "icelake-client", "icelake-server", "tigerlake", "rocketlake"),
                    "avx512vpopcntdq"),
    **dict.fromkeys(("x86-64-v4", "skylake-avx512", "skx", "cascadelake", "cooperlake", "cannonlake"), "avx512bw"),
    **dict.fromkeys(("alderlake", "raptorlake", "meteorlake", "arrowlake", "lunarlake", "sierraforest", "gracemont"),
                    "avxvnni"),
    **dict.fromkeys(("x86-64-v3", "haswell", "broadwell", "skylake", "znver1", "znver2", "znver3"), "avx2"),
    **dict.fromkeys(("x86-64", "x86-64-v2", "generic", "nehalem", "westmere", "sandybridge", "ivybridge",
                     "silvermont", "goldmont", "btver2"), "baseline"),
}  # fmt: skip


def _limits(vpopcntdq: float, avx512bw: float, avx2: float, baseline: float) -> dict[Level, float]:
    """By level; those of "amx" and "avxvnni" that say nothing else are those of the level below."""
    return {
        "amx": vpopcntdq,
        "avx512vpopcntdq": vpopcntdq,
        "avx512bw": avx512bw,
        "avxvnni": avx2,
        "avx2": avx2,
        "baseline": baseline,
    }


@dataclass(frozen=True)
class PortLimits:
    """What one core can do per cycle at best, per level, and its usual clock under vector load.

    word: 1-bit multiply-adds by words; lookup: by lookups in byte lanes, as reached; tables: by lookups in tables of 64
    entries, of activations of one bit (without shuffles, as many as it takes to read the weights of the others);
    nibbles: with weights of one bit by lookups of four inputs; bytes: multiply-adds of bytes, by vpmaddwd where there
    is no VNNI; fma: float32 multiply-adds; tiles: multiply-adds of bytes by AMX; pixels: of activations of one bit by
    lookups in sums of weights; codes: by lookups of whole codes, of activations of one bit.
    """

    ghz: float
    tables: Mapping[Level, float]
    nibbles: Mapping[Level, float]
    word: Mapping[Level, float]
    lookup: Mapping[Level, float]
    bytes: Mapping[Level, float]
    fma: Mapping[Level, float]
    codes: Mapping[Level, float]
    tiles: float = 1024
    pixels: float = 200


PORT_LIMITS: Mapping[str, PortLimits] = {
    "znver4": PortLimits(
        3.7,
        _limits(394, 125, 157, 30),
        _limits(182, 120, 135, 14),
        _limits(341, 68, 66, 24),
        _limits(188, 188, 145, 0),
        _limits(64, 21, 21, 11) | {"amx": 128, "avxvnni": 64},
        _limits(16, 16, 16, 8),
        # with VBMI by llvm-mca, not timed
        _limits(400, 170, 170, 0),
    ),
    "znver5": PortLimits(
        4.1,
        _limits(788, 250, 190, 30),
        _limits(364, 240, 170, 14),
        _limits(683, 202, 100, 24),
        _limits(359, 359, 172, 0),
        _limits(128, 43, 21, 11) | {"amx": 128, "avxvnni": 64},
        _limits(32, 32, 16, 8),
        _limits(800, 170, 170, 0),
        pixels=400,
    ),
}

_LIMITS = PORT_LIMITS["znver4"]

GHZ = _LIMITS.ghz
"""The clock of the machine that estimates assume."""


def supports(isa: Isa, features: frozenset[str]) -> bool:
    """Whether a CPU with these features runs the code of `isa`."""
    return features.issuperset(isa.cpuinfo)


def isas_for(mcpu: Sequence[str]) -> tuple[Isa, ...]:
    """Levels for --mcpu names, most demanding first; those that serve every machine if none is named."""
    named = {_level(name) for name in mcpu} or set(_EVERYWHERE)
    wanted = named | {_BESIDE[level] for level in named if level in _BESIDE}
    return tuple(isa for isa in ISAS if isa.level in wanted)


def _level(name: str) -> Level:
    """The level one --mcpu name stands for."""
    if name == "native":
        return next(isa.level for isa in ISAS if supports(isa, host_features()))
    for isa in ISAS:
        if isa.level == name:
            return isa.level
    if name not in _CPUS:
        known = ", ".join([*(isa.level for isa in ISAS), "native", *sorted(_CPUS)])
        raise UsageError(f"--mcpu: unknown x86 CPU '{name}', expected one of {known}")
    return _CPUS[name]
