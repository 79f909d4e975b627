"""A target that is no processor: a device with memory of its own, whose kernels run on a grid of blocks of threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qcompiler.errors import UsageError
from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Packing
from qcompiler.targets.architecture import X86_64, Architecture
from qcompiler.targets.offers import offered
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.target import CpuFeature, Kernel
from tests.targets.toy.kernels import KERNELS
from tests.targets.toy.platform import TOY, ToyPlatform

MODELS = ("toy1",)


@dataclass(frozen=True)
class ToyVariant:
    """The only device there is; see `qcompiler.targets.target.Variant`."""

    name: str = "toy1"
    features: tuple[CpuFeature, ...] = ()
    architecture: Architecture = X86_64
    platform: ToyPlatform = TOY

    @property
    def tvm_target(self) -> Mapping[str, Any]:
        """The threads of the device have the instructions of a plain processor."""
        return {"kind": "llvm", "mtriple": self.architecture.triple, "mcpu": "x86-64"}

    def operands(self, layer: Conv2d, codes: Codes | None) -> tuple[Buffer, ...]:
        """Channels-last without halo, in bit planes where the codes are known: kernels make up the padding."""
        floats = replace(layer.x, order="nhwc")
        return (floats,) if codes is None else (replace(floats, element=codes, groups=layer.groups),)

    @property
    def code_packing(self) -> Packing:
        """Bit planes, as layers have them."""
        return "planes"

    def writes(self, kind: str, buffer: Buffer) -> bool:
        """Layers and pools write channels next to each other; maps write everything."""
        return kind == "map" or buffer.packed or buffer.order == "nhwc"

    def kernels(self, problem: Problem) -> Sequence[Kernel]:
        """Every kernel that computes the problem."""
        return offered(KERNELS, self, problem)


@dataclass(frozen=True)
class ToyTarget:
    """See `qcompiler.targets.target.Target`."""

    name: str = "toy"

    def variants(self, mcpu: Sequence[str]) -> tuple[ToyVariant, ...]:
        """The one variant."""
        for name in mcpu:
            if name not in MODELS:
                raise UsageError(f"--mcpu: unknown toy '{name}', expected one of {', '.join(MODELS)}")
        return (ToyVariant(),)


TARGET = ToyTarget()
