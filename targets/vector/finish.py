"""The second part of a convolution's kernel: outputs from the registers of a tile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, i64, lanes
from qcompiler.targets.vector.epilogue import Pixel, is_threshold
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Reduction, Registers
from qcompiler.targets.vector.tile import Tile


@dataclass(frozen=True)
class Finish(ABC):
    """What becomes of registers: constants of its own, then the epilogue of the problem."""

    def start(self, frame: Frame) -> int:
        """The bits that integer registers start from."""
        return 0

    def weights(self, frame: Frame, constants: Constants) -> npt.NDArray[np.float32]:
        """The weights as the reduction sees them, OIHW."""
        assert constants.weights is not None
        return constants.weights

    def parameters(self, frame: Frame, reduction: Reduction) -> list[Parameter]:
        """Constants between registers and epilogue."""
        return []

    def pack(self, frame: Frame, reduction: Reduction, constants: Constants) -> list[Array]:
        """The arrays for `parameters`."""
        return []

    def compares(self, frame: Frame) -> bool:
        """Whether its own thresholds make all outputs, so that the constants of the epilogue are among its own."""
        return False

    @abstractmethod
    def emit(self, tile: Tile, registers: Registers) -> None:
        """Write the outputs of a tile."""


@dataclass(frozen=True)
class FloatFinish(Finish):
    """Registers of float32, which are the values already."""

    def emit(self, tile: Tile, registers: Registers) -> None:
        """Run the epilogue on each register."""
        for pixel, row in zip(tile.outputs(len(registers)), registers, strict=True):
            for b, total in enumerate(row):
                tile.epilogue.emit(pixel, tile.block + b, total[lanes(0)])


@dataclass(frozen=True)
class IntegerFinish(Finish):
    """Registers of integers of codes, whose meaning depends on the border class of their pixel.

    The last of the constants are the classes, int32 [oh + ow], where there is more than one.
    """

    @property
    def blocks(self) -> int:
        """Of channels, in a register."""
        return 1

    def compares(self, frame: Frame) -> bool:
        """Whether the epilogue is a comparison with thresholds."""
        return is_threshold(frame.problem.epilogue)

    @abstractmethod
    def register(self, tile: Tile, pixel_class: Expr, pixel: Pixel, block: Expr, value: Expr) -> None:
        """Turn one register into the outputs of its channels, from a block on, at a pixel of a border class."""

    def emit(self, tile: Tile, registers: Registers) -> None:
        """Finish registers[p][b], stack arrays of as many lanes as `blocks` have, one block of all pixels at a time."""
        (_, y, x0), frame, pixels = tile.pixel, tile.frame, tile.outputs(len(registers))
        classes = tile.finish[-1] if frame.borders.count > 1 else None
        row_class = T.bind(T.Cast("int64", classes[y])) if classes is not None else i64(0)
        pixel_classes = [row_class for _ in registers]
        if classes is not None:
            columns = [classes[x0 + (p + frame.problem.out_hw[0])] for p in range(len(registers))]
            pixel_classes = [T.bind(row_class + T.Cast("int64", column)) for column in columns]
        for b, of_pixels in enumerate(zip(*registers, strict=True)):
            for pixel, register, pixel_class in zip(pixels, of_pixels, pixel_classes, strict=True):
                value = register[lanes(0, LANES * self.blocks)]
                self.register(tile, pixel_class, pixel, tile.block + b * self.blocks, value)


def class_parameters(frame: Frame) -> list[Parameter]:
    """`classes`: int32 [oh + ow] where there is more than one border class."""
    return [Parameter("classes", "int32", sum(frame.problem.out_hw), 64)] if frame.borders.count > 1 else []


def class_tables(frame: Frame) -> list[Array]:
    """The arrays for `class_parameters`."""
    return [frame.borders.table()] if frame.borders.count > 1 else []
