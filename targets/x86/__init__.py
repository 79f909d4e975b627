"""The x86 target: its variants, and one module per kernel family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcompiler.targets.architecture import X86_64, Architecture
from qcompiler.targets.problem import Problem
from qcompiler.targets.target import CpuFeature, Kernel
from qcompiler.targets.x86.machine import Isa, features_of, isas_for
from qcompiler.targets.x86.select import kernels_for


@dataclass(frozen=True)
class X86Variant:
    """One instruction-set level; see `qcompiler.targets.target.Variant`."""

    isa: Isa

    @property
    def name(self) -> str:
        """The level."""
        return self.isa.level

    @property
    def features(self) -> tuple[CpuFeature, ...]:
        """What a CPU must have."""
        return features_of(self.isa)

    @property
    def architecture(self) -> Architecture:
        """The processor family."""
        return X86_64

    @property
    def tvm_target(self) -> Mapping[str, Any]:
        """The dict form of tvm.target.Target."""
        return self.isa.tvm_target

    def kernels(self, problem: Problem) -> Sequence[Kernel]:
        """Every kernel that computes the problem, best untuned default first."""
        return kernels_for(self.isa, problem)


@dataclass(frozen=True)
class X86Target:
    """`--target x86`; see `qcompiler.targets.target.Target`."""

    name: str = "x86"

    def variants(self, mcpu: Sequence[str]) -> tuple[X86Variant, ...]:
        """Variants for these --mcpu names, most demanding first; all of them for none."""
        return tuple(X86Variant(isa) for isa in isas_for(mcpu))


TARGET = X86Target()
