"""The ARM target: 64-bit and 32-bit processors with NEON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.targets.arm.arm_kernels import KERNELS
from qcompiler.targets.arm.machine import Isa, isas_for
from qcompiler.targets.vector.variant import VectorVariant

ArmVariant = VectorVariant[Isa]


@dataclass(frozen=True)
class ArmTarget:
    """`--target arm`; see `qcompiler.targets.target.Target`."""

    name: str = "arm"

    def variants(self, mcpu: Sequence[str]) -> tuple[ArmVariant, ...]:
        """Variants for these --mcpu names, most demanding first; a level with dotprod and one without for none."""
        return tuple(VectorVariant(isa, KERNELS) for isa in isas_for(mcpu))


TARGET = ArmTarget()
