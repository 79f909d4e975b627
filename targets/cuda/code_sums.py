"""Sums of products of codes from products of their numbers.

An input low + step * i and a weight low' + step' * j multiply to
    step * step' * i * j + step * low' * i + low * (low' + step' * j).
Where the input lies outside of the image it is `pad_value`; kernels take i = 0 there, as if it were `low`, and what
that is wrong by, (pad_value - low) times the weight, is added for the taps that lie outside. So a sum is
    step * step' * sum(i * j) + step * low' * sum(i) + (bias + low * sum of all weights)
    + (pad_value - low) * sum of weights of taps outside.
All of it is int32, exact for every network that onnxruntime runs in int32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import Codes
from qcompiler.targets.cuda.lanes import Lanes
from qcompiler.targets.cuda.windows import leaves
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.standard_op import Expr, Parameter
from qcompiler.targets.target import Array, Constants


@dataclass(frozen=True)
class CodeSums:
    """What a convolution of codes makes of sums of products of their numbers."""

    problem: Conv2d
    lanes: Lanes

    @property
    def inputs(self) -> Codes:
        """What x holds."""
        assert self.problem.x.codes is not None
        return self.problem.x.codes

    @property
    def needs_totals(self) -> bool:
        """Whether sums of the inputs' numbers are needed."""
        return self.problem.weights.low != 0

    @property
    def corrects_borders(self) -> bool:
        """Whether taps outside of the image count otherwise than as the lowest code."""
        return leaves(self.problem) and self.problem.pad_value != self.inputs.low

    @property
    def taps(self) -> int:
        """Of the window."""
        return self.problem.kernel[0] * self.problem.kernel[1]

    def constants(self) -> list[Parameter]:
        """The pointers to what `pack` makes."""
        size = self.lanes.size
        borders = [Parameter("tap_sums", "int32", self.taps * size, 64)] if self.corrects_borders else []
        return [Parameter("offsets", "int32", size, 64), *borders]

    def pack(self, constants: Constants) -> tuple[Array, ...]:
        """int32 [threads] added to every sum, and [taps, threads] added for every tap that lies outside."""
        weights = np.asarray(constants.weights, np.float64)
        bias = np.zeros(len(weights)) if constants.bias is None else constants.bias.astype(np.float64)
        offsets = self.lanes.spread((bias + self.inputs.low * weights.sum(axis=(1, 2, 3))).astype(np.int32))
        if not self.corrects_borders:
            return (offsets,)
        of_taps = weights.sum(axis=1).reshape(len(weights), -1).T
        wrong_by = (self.problem.pad_value - self.inputs.low) * of_taps
        return offsets, self.lanes.spread(wrong_by.astype(np.int32))

    def value(self, products: Expr, total: Expr | None, offset: Expr) -> Expr:
        """float32: the sum, rounded; offset: int32, all that is not products or inputs. total: the sum of numbers."""
        weights = self.problem.weights
        found = products * (self.inputs.step * weights.step) + offset
        if total is not None:
            found = found + total * (self.inputs.step * weights.low)
        return T.bind(T.Cast("float32", found))

    def numbers(self, weights: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """int64: the numbers of the weights' codes, of the same shape."""
        held = self.problem.weights
        return np.rint((weights - held.low) / held.step).astype(np.int64)
