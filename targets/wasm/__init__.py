"""The WebAssembly target: modules for browsers and Node, with vectors and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.targets.vector.variant import VectorVariant
from qcompiler.targets.wasm.machine import Isa, isas_for
from qcompiler.targets.wasm.wasm_kernels import KERNELS

WasmVariant = VectorVariant[Isa]


@dataclass(frozen=True)
class WasmTarget:
    """`--target wasm`; see `qcompiler.targets.target.Target`."""

    name: str = "wasm"

    def variants(self, mcpu: Sequence[str]) -> tuple[WasmVariant, ...]:
        """Variants for these --mcpu names, most demanding first; with vectors and without for none."""
        return tuple(VectorVariant(isa, KERNELS) for isa in isas_for(mcpu))


TARGET = WasmTarget()
"""What `--target wasm` names."""
