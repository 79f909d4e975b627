"""The first of the two parts of a convolution's kernel: sums of products in registers.

A kernel is a walk over tiles of the output (conv.py), a reduction that fills the registers of a tile, and a finish that
makes outputs of them. A new width or instruction is a new reduction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Array
from qcompiler.targets.vector.emit import LANES, Expr, Parameter
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.tile import Tile

Registers = list[list[Expr]]
"""A stack array of sixteen lanes per pixel and channel block of a tile; or of more, where the finish knows."""


@dataclass(frozen=True)
class Reduction(ABC):
    """How the registers of a tile are filled. element: the dtype in which the input is read."""

    family: ClassVar[str]
    element: ClassVar[str] = "uint32"

    def label(self, frame: Frame) -> str:
        """The name of the kernel: family and tiling."""
        return f"{self.family}_{frame.tiling.label}"

    def skips_rows(self, frame: Frame) -> bool:
        """Whether kernel rows that fall into zero padding are left out."""
        return frame.geometry.skips_rows

    def skips_columns(self, frame: Frame) -> bool:
        """Whether kernel columns that fall into zero padding are left out."""
        return False

    @abstractmethod
    def parameters(self, frame: Frame) -> list[Parameter]:
        """Packed weights, and what else the inner loop reads."""

    @abstractmethod
    def pack(self, frame: Frame, weights: npt.NDArray[np.float32]) -> list[Array]:
        """The arrays for `parameters`; weights: float32 OIHW."""

    def around(self, frame: Frame) -> AbstractContextManager[None]:
        """What comes before and after the tiles of a work item; nothing, unless registers need it."""
        return nullcontext()

    @abstractmethod
    def fill(self, tile: Tile) -> Registers:
        """The registers of a tile, [pixels][blocks]."""

    def bases(self, problem: Conv2d, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """What the registers of each output channel lack, int64 [O]; weights: float32 OIHW."""
        return np.zeros(len(weights), np.int64)

    @abstractmethod
    def meaning(self, problem: Conv2d, patches: Array, weights: Array) -> Array:
        """What the registers of pixels hold, in numpy, if they start from 0: float64 [pixels, O].

        patches: the numbers that each pixel sees, [pixels, K]; weights: [O, K].
        """


def weight_words(frame: Frame, planes: int = 1) -> Parameter:
    """Words of weights in `planes` bit planes."""
    return Parameter("weights", "uint32", frame.blocks.count * frame.geometry.steps * planes * LANES, 64)
