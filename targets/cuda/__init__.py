"""The CUDA target: bit planes multiplied by population counts or tensor cores, on NVIDIA's devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Packing
from qcompiler.targets.architecture import Architecture
from qcompiler.targets.cuda.cuda_kernels import offers
from qcompiler.targets.cuda.device import DEVICE, Device
from qcompiler.targets.cuda.machine import Gpu, gpus_for
from qcompiler.targets.problem import Conv2d, Problem
from qcompiler.targets.target import CpuFeature, Kernel


@dataclass(frozen=True)
class CudaVariant:
    """Code for one architecture; see `qcompiler.targets.target.Variant`."""

    gpu: Gpu
    platform: Device = DEVICE

    @property
    def name(self) -> str:
        """As nvcc has it."""
        return self.gpu.name

    @property
    def features(self) -> tuple[CpuFeature, ...]:
        """What the device must be."""
        return tuple(CpuFeature(name) for name in self.gpu.features)

    @property
    def architecture(self) -> Architecture:
        """Of the host."""
        return self.gpu.architecture

    @property
    def tvm_target(self) -> Mapping[str, Any]:
        """The dict form of tvm.target.Target."""
        return self.gpu.tvm_target

    def operands(self, layer: Conv2d, codes: Codes | None) -> tuple[Buffer, ...]:
        """Bit planes or bytes where the codes are known, else floats as they lie; kernels make up the padding."""
        if codes is None:
            return (layer.x,)
        floats = replace(layer.x, order="nhwc")
        planes = replace(floats, element=codes, groups=layer.groups)
        return planes, replace(planes, packing="bytes"), floats

    @property
    def code_packing(self) -> Packing:
        """Bit planes, as layers read them."""
        return "planes"

    def writes(self, kind: str, buffer: Buffer) -> bool:
        """Every storage but tables."""
        return not buffer.in_tables

    def kernels(self, problem: Problem) -> Sequence[Kernel]:
        """Every kernel that computes the problem, cheapest estimate first."""
        return offers(self.gpu, problem)


@dataclass(frozen=True)
class CudaTarget:
    """`--target cuda`; see `qcompiler.targets.target.Target`."""

    name: str = "cuda"

    def variants(self, mcpu: Sequence[str]) -> tuple[CudaVariant, ...]:
        """Variants for these --mcpu names, latest first; all architectures for none."""
        return tuple(CudaVariant(gpu) for gpu in gpus_for(mcpu))


TARGET = CudaTarget()
"""What `--target cuda` names."""
