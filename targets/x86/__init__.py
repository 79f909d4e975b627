"""The x86 target: its variants, and one module per kernel family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.targets.vector.variant import VectorVariant
from qcompiler.targets.x86.machine import Isa, isas_for
from qcompiler.targets.x86.x86_kernels import KERNELS

X86Variant = VectorVariant[Isa]


@dataclass(frozen=True)
class X86Target:
    """`--target x86`; see `qcompiler.targets.target.Target`."""

    name: str = "x86"

    def variants(self, mcpu: Sequence[str]) -> tuple[X86Variant, ...]:
        """Variants for these --mcpu names, most demanding first; all of them for none."""
        return tuple(VectorVariant(isa, KERNELS) for isa in isas_for(mcpu))


TARGET = X86Target()
