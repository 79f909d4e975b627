"""From counts of mismatching bits to outputs: acc = K - 2 * popcount(a xor w).

The accumulator is corrected per border class. With a threshold operation everything folds into one comparison,
count <= (K + correction - threshold) / 2; a channel of direction -1 has its weights and threshold negated first, which
turns its comparison round.

A float epilogue needs no conversion: counts start at the bits of the float 2^24, where one unit in the last place is 2,
so the register read as a float is 2^24 + 2 * count, and one exact subtraction gives the accumulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.targets.target import Array, Constants
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, fenced, lanes, splat
from qcompiler.targets.vector.epilogue import Pixel, is_threshold
from qcompiler.targets.vector.finish import IntegerFinish, class_parameters, class_tables
from qcompiler.targets.vector.frame import Frame
from qcompiler.targets.vector.reduction import Reduction
from qcompiler.targets.vector.tile import Tile

_MAGIC = 2.0**24
# counts below this keep the exponent of the magic number
MOST_PRODUCTS = 2**23


@dataclass(frozen=True)
class CountFinish(IntegerFinish):
    """For weights and inputs of -1 and +1, and a threshold into such."""

    def start(self, frame: Frame) -> int:
        """What counts start from."""
        return 0 if is_threshold(frame.problem.epilogue) else int(np.float32(_MAGIC).view(np.int32))

    def weights(self, frame: Frame, constants: Constants) -> npt.NDArray[np.float32]:
        """OIHW codes, with the channels of direction -1 negated if there is a threshold."""
        assert constants.weights is not None
        if not is_threshold(frame.problem.epilogue):
            return constants.weights
        assert constants.direction is not None
        return (constants.weights * constants.direction[:, None, None, None]).astype(np.float32)

    def parameters(self, frame: Frame, reduction: Reduction) -> list[Parameter]:
        """`base` [classes, blocks * 16]: int32 limits or float32 K + correction; `classes`."""
        found = []
        if _has_base(frame):
            dtype = "int32" if is_threshold(frame.problem.epilogue) else "float32"
            found.append(Parameter("base", dtype, frame.borders.count * frame.blocks.count * LANES, 64))
        return [*found, *class_parameters(frame)]

    def pack(self, frame: Frame, reduction: Reduction, constants: Constants) -> list[Array]:
        """The arrays for `parameters`."""
        weights, products = self.weights(frame, constants).astype(np.float64), _products(frame)
        total = frame.borders.totals(weights, reduction.skips_rows(frame), reduction.skips_columns(frame))
        if is_threshold(frame.problem.epilogue):
            assert constants.threshold is not None and constants.direction is not None
            directed = constants.threshold[0].astype(np.float64) * constants.direction
            limit = np.nan_to_num((total - directed) / 2, nan=-1, posinf=products, neginf=-1)
            base = frame.blocks.spread(np.clip(np.floor(limit), -1, products).astype(np.int32), -1)
        else:
            base = frame.blocks.spread((total + (_MAGIC if _is_even(frame) else 0)).astype(np.float32))
        return [*([base] if _has_base(frame) else []), *class_tables(frame)]

    def register(self, tile: Tile, pixel_class: Expr, pixel: Pixel, block: Expr, value: Expr) -> None:
        """Finish one register of mismatch counts, int32x16."""
        frame = tile.frame
        even = _is_even(frame)
        base = splat(T.float32(_products(frame) + (_MAGIC if even else 0)))
        if tile.finish:
            base = tile.finish[0][lanes((pixel_class * frame.blocks.count + block) * LANES)]
        if is_threshold(frame.problem.epilogue):
            target = tile.epilogue.targets[0]
            assert target is not None
            tile.epilogue.store_signs(target, pixel, block, value <= base, padding_clear=True)
            return
        doubled = T.reinterpret("float32x16", value)
        found = base - doubled if even else fenced(splat(T.float32(_MAGIC)) - doubled) + base
        tile.epilogue.emit(pixel, block, found)


def _products(frame: Frame) -> int:
    """Products per output, K."""
    problem = frame.problem
    return problem.x.c // problem.groups * problem.kernel[0] * problem.kernel[1]


def _has_base(frame: Frame) -> bool:
    """Whether counts are compared with, or subtracted from, more than the constant K."""
    borders = frame.borders
    padded = not (borders.row_taps.all() and borders.column_taps.all())
    return padded or is_threshold(frame.problem.epilogue)


def _is_even(frame: Frame) -> bool:
    """Whether all accumulators are even, so that 2^24 plus one is a float."""
    return frame.problem.x.c // frame.problem.groups % 2 == 0
