"""The Cortex-M target: microcontrollers, without an operating system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.targets.cortex_m.cortex_m_kernels import KERNELS
from qcompiler.targets.cortex_m.machine import Isa, isas_for
from qcompiler.targets.vector.variant import VectorVariant

CortexMVariant = VectorVariant[Isa]


@dataclass(frozen=True)
class CortexMTarget:
    """`--target cortex-m`; see `qcompiler.targets.target.Target`."""

    name: str = "cortex-m"

    def variants(self, mcpu: Sequence[str]) -> tuple[CortexMVariant, ...]:
        """A variant for each of these --mcpu names, most demanding first; for all with floats if none is named."""
        return tuple(VectorVariant(isa, KERNELS) for isa in isas_for(mcpu))


TARGET = CortexMTarget()
"""What `--target cortex-m` names."""
