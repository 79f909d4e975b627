"""What the binary convolutions share: from mismatch counts to outputs, acc = K - 2 * popcount(a xor w).

The accumulator is corrected per border class. With a threshold step everything folds into one comparison,
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
from qcompiler.targets.vector.conv import Tile
from qcompiler.targets.vector.emit import LANES, Expr, Parameter, fenced, lanes, mask_bits, splat
from qcompiler.targets.vector.epilogue import Pixel, is_threshold
from qcompiler.targets.vector.integer_conv import IntegerConv2d

_MAGIC = 2.0**24
# counts below this keep the exponent of the magic number
MOST_PRODUCTS = 2**23


@dataclass(frozen=True)
class CountingConv2d(IntegerConv2d):
    """A convolution that counts mismatching bits; a subclass says how."""

    @property
    def products(self) -> int:
        """Products per output, K."""
        return self.problem.x.c // self.problem.groups * self.problem.kernel[0] * self.problem.kernel[1]

    @property
    def _has_base(self) -> bool:
        """Whether counts are compared with, or subtracted from, more than the constant K."""
        borders = self.borders
        padded = not (borders.row_taps.all() and borders.column_taps.all())
        return padded or is_threshold(self.problem.epilogue)

    @property
    def skips_rows(self) -> bool:
        """Whether kernel rows that fall into zero padding are not counted."""
        return self.geometry.skips_rows

    @property
    def skips_columns(self) -> bool:
        """Whether kernel columns that fall into zero padding are not counted."""
        return False

    @property
    def start(self) -> int:
        """What counts start from."""
        return 0 if is_threshold(self.problem.epilogue) else int(np.float32(_MAGIC).view(np.int32))

    @property
    def _even(self) -> bool:
        """Whether all accumulators are even, so that 2^24 plus one is a float."""
        return self.problem.x.c // self.problem.groups % 2 == 0

    def finish_parameters(self) -> list[Parameter]:
        """`base` [classes, blocks * 16]: int32 limits or float32 K + correction; `classes`: int32 [oh + ow]."""
        borders, found = self.borders, []
        if self._has_base:
            dtype = "int32" if is_threshold(self.problem.epilogue) else "float32"
            found.append(Parameter("base", dtype, borders.count * self.blocks.count * LANES, 64))
        if borders.count > 1:
            found.append(Parameter("classes", "int32", sum(self.problem.out_hw), 64))
        return found

    def pack_finish(self, constants: Constants) -> list[Array]:
        """The arrays for `finish_parameters`."""
        borders, found = self.borders, list[Array]()
        weights = self.directed_weights(constants).astype(np.float64)
        total = borders.totals(weights, self.skips_rows, self.skips_columns)
        if is_threshold(self.problem.epilogue):
            assert constants.threshold is not None and constants.direction is not None
            directed = constants.threshold[0].astype(np.float64) * constants.direction
            limit = np.nan_to_num((total - directed) / 2, nan=-1, posinf=self.products, neginf=-1)
            base = self.blocks.spread(np.clip(np.floor(limit), -1, self.products).astype(np.int32), -1)
        else:
            base = self.blocks.spread((total + (_MAGIC if self._even else 0)).astype(np.float32))
        if self._has_base:
            found.append(base)
        if borders.count > 1:
            found.append(borders.table())
        return found

    def directed_weights(self, constants: Constants) -> npt.NDArray[np.float32]:
        """OIHW codes, with the channels of direction -1 negated if there is a threshold."""
        assert constants.weights is not None
        if not is_threshold(self.problem.epilogue):
            return constants.weights
        assert constants.direction is not None
        return (constants.weights * constants.direction[:, None, None, None]).astype(np.float32)

    def finish(self, tile: Tile, pixel_class: Expr, pixel: Pixel, block: Expr, register: Expr) -> None:
        """Finish one register of mismatch counts, int32x16."""
        base = splat(T.float32(self.products + (_MAGIC if self._even else 0)))
        if tile.finish:
            base = tile.finish[0][lanes((pixel_class * self.blocks.count + block) * LANES)]
        if is_threshold(self.problem.epilogue):
            target = tile.epilogue.targets[0]
            assert target is not None
            tile.epilogue.store_mask(target, pixel, block, mask_bits(register <= base), padding_clear=True)
            return
        doubled = T.reinterpret("float32x16", register)
        value = base - doubled if self._even else fenced(splat(T.float32(_MAGIC)) - doubled) + base
        tile.epilogue.emit(pixel, block, value)
