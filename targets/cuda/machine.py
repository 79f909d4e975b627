"""GPU architectures: which instructions multiply codes, how much memory a block shares, and the rates behind estimates.

Rates are per clock of one multiprocessor, from NVIDIA's tuning guides and programming guide; none was measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qcompiler.errors import UsageError
from qcompiler.targets.architecture import X86_64_CUDA, Architecture

KIB = 1024
CACHE_BYTES = 64
"""What a multiprocessor reads from the cache of the device per clock; chosen, published rates of all parts are near."""

Bits = Literal["and", "xor", ""]
"""How tensor cores multiply single bits; "": they do not."""


@dataclass(frozen=True)
class Gpu:
    """One architecture.

    name: as nvcc's `code=`. capability: major and minor compute capability. bits: which instruction of the tensor cores
    there is on single bits (b1 `mma.sync`), and from where that is known. bit_rate: such multiply-adds per clock.
    nibble_rate: of codes of four bits, 0 where the tensor cores do not multiply them. byte_rate: of bytes.
    popc_rate: population counts per clock. dot_rate: products of four bytes per clock. fma_rate: float multiply-adds
    per clock. shared_bytes: the most that a block may share. processors: of the largest part. ghz: its clock.
    """

    name: str
    capability: tuple[int, int]
    bits: Bits
    bits_source: str
    bit_rate: int
    nibble_rate: int
    byte_rate: int
    popc_rate: int
    fma_rate: int
    dot_rate: int
    shared_bytes: int
    processors: int
    ghz: float

    @property
    def architecture(self) -> Architecture:
        """Of the host that drives the device."""
        return X86_64_CUDA

    @property
    def features(self) -> tuple[str, ...]:
        """What the device must be: code of one minor version runs on later ones of the same major version."""
        return (self.name,)

    @property
    def tvm_target(self) -> Mapping[str, Any]:
        """The dict form of tvm.target.Target."""
        return {"kind": "cuda", "arch": self.name}

    @property
    def wide_bits(self) -> bool:
        """Whether four warps multiply bits together (b1 `wgmma`): ptxas 13.0 assembles it to BGMMA for sm_90a alone."""
        return self.name == "sm_90a"


_NATIVE = "ptxas 13.0 assembles it to BMMA"
_EMULATED = "ptxas 13.0 makes eight IMMA of it"
_XOR = "ptxas 13.0 assembles XOR (m8n8k128) to BMMA, and refuses AND"
# codes of four bits: twice the rate of bytes by NVIDIA's papers on the architectures up to sm_89 (T4: 260 to 130 TOPS,
# A100: 1248 to 624); ptxas 13.0 calls a function that emulates them from sm_90 on
# later parts first: the most demanding variant is taken where several run
GPUS: tuple[Gpu, ...] = (
    Gpu("sm_120", (12, 0), "", _EMULATED, 0, 0, 1024, 16, 128, 64, 99 * KIB, 170, 2.4),
    Gpu("sm_100", (10, 0), "", _EMULATED, 0, 0, 2048, 16, 128, 64, 227 * KIB, 148, 1.9),
    # 17.7 thousand multiply-adds per clock: published for GH200
    Gpu("sm_90a", (9, 0), "and", _NATIVE, 17700, 0, 2048, 16, 128, 64, 227 * KIB, 132, 1.8),
    Gpu("sm_89", (8, 9), "and", _NATIVE, 8192, 2048, 1024, 16, 128, 64, 99 * KIB, 128, 2.5),
    Gpu("sm_86", (8, 6), "and", _NATIVE, 8192, 2048, 1024, 16, 128, 64, 99 * KIB, 84, 1.7),
    # 2.96 Pop/s on 108 processors at 1.41 GHz: published for A100
    Gpu("sm_80", (8, 0), "and", _NATIVE, 9700, 4096, 2048, 16, 64, 64, 163 * KIB, 108, 1.4),
    # four times the rate of bytes: chosen, as that of sm_80 is nearly five times
    Gpu("sm_75", (7, 5), "xor", _XOR, 4096, 2048, 1024, 16, 64, 64, 64 * KIB, 72, 1.7),
)


def gpus_for(mcpu: Sequence[str]) -> tuple[Gpu, ...]:
    """Architectures for --mcpu names, latest first; all of them if none is named. Raises UsageError for another."""
    names = [gpu.name for gpu in GPUS]
    for name in mcpu:
        if name not in names:
            raise UsageError(f"--mcpu: unknown CUDA architecture '{name}', expected one of {', '.join(names[::-1])}")
    return tuple(gpu for gpu in GPUS if not mcpu or gpu.name in mcpu)
