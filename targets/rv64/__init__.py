"""The RISC-V target: 64-bit processors with Linux."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.targets.rv64.machine import Isa, isas_for
from qcompiler.targets.rv64.rv64_kernels import KERNELS
from qcompiler.targets.vector.variant import VectorVariant

Rv64Variant = VectorVariant[Isa]


@dataclass(frozen=True)
class Rv64Target:
    """`--target rv64`; see `qcompiler.targets.target.Target`."""

    name: str = "rv64"

    def variants(self, mcpu: Sequence[str]) -> tuple[Rv64Variant, ...]:
        """Variants for these --mcpu names, most demanding first; all levels for none."""
        return tuple(VectorVariant(isa, KERNELS) for isa in isas_for(mcpu))


TARGET = Rv64Target()
"""What `--target rv64` names."""
