"""The ARM target: 64-bit and 32-bit processors with NEON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcompiler.targets.architecture import Architecture
from qcompiler.targets.arm.machine import Isa, features_of, isas_for
from qcompiler.targets.arm.select import kernels_for
from qcompiler.targets.problem import Problem
from qcompiler.targets.target import CpuFeature, Kernel


@dataclass(frozen=True)
class ArmVariant:
    """One core or instruction-set level; see `qcompiler.targets.target.Variant`."""

    isa: Isa

    @property
    def name(self) -> str:
        """The level or core."""
        return self.isa.name

    @property
    def features(self) -> tuple[CpuFeature, ...]:
        """What a CPU must have."""
        return features_of(self.isa)

    @property
    def architecture(self) -> Architecture:
        """The processor family."""
        return self.isa.architecture

    @property
    def tvm_target(self) -> Mapping[str, Any]:
        """The dict form of tvm.target.Target."""
        return self.isa.tvm_target

    def kernels(self, problem: Problem) -> Sequence[Kernel]:
        """Every kernel that computes the problem, best untuned default first."""
        return kernels_for(self.isa, problem)


@dataclass(frozen=True)
class ArmTarget:
    """`--target arm`; see `qcompiler.targets.target.Target`."""

    name: str = "arm"

    def variants(self, mcpu: Sequence[str]) -> tuple[ArmVariant, ...]:
        """Variants for these --mcpu names, most demanding first; a level with dotprod and one without for none."""
        return tuple(ArmVariant(isa) for isa in isas_for(mcpu))


TARGET = ArmTarget()
