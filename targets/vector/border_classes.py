"""Exact zero padding for binary convolutions: border classes and per-class thresholds or corrections.

The halo of a zero-padded input holds -1, so the raw accumulator of a border pixel has -w for every padded tap; the true
one has 0. true = raw + sum of the weights of the padded taps, which depends only on which kernel rows and columns fall
into the padding: output rows and columns with equal sets form a class. A kernel may leave out padded rows or columns
altogether; then they add nothing to either side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.targets.problem import Conv2d

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Borders:
    """Classes of one convolution.

    row_taps: bool [row classes, kh], column_taps: bool [column classes, kw]: taps inside the image.
    row_class: int64 [oh]; column_class: int64 [ow].
    """

    row_taps: BoolArray
    column_taps: BoolArray
    row_class: npt.NDArray[np.int64]
    column_class: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of classes; class (r, c) is number r * column classes + c."""
        return len(self.row_taps) * len(self.column_taps)

    def table(self) -> npt.NDArray[np.int32]:
        """int32 [oh + ow]: class offsets, so that the class of (y, x) is table[y] + table[oh + x]."""
        rows = self.row_class * len(self.column_taps)
        return np.concatenate([rows, self.column_class]).astype(np.int32)

    def totals(self, weights: FloatArray, skips_rows: bool, skips_columns: bool) -> FloatArray:
        """What 2 * count is subtracted from, [classes, O]: products counted plus the weights of padded taps counted.

        weights: OIHW. skips_rows, skips_columns: whether padded kernel rows or columns are not counted.
        """
        taps, per_tap = weights.sum(axis=1), weights.shape[1]
        rows, columns = self.row_taps.astype(float), self.column_taps.astype(float)
        counted_rows = rows if skips_rows else np.ones(rows.shape)
        counted_columns = columns if skips_columns else np.ones(columns.shape)
        counted = np.einsum("ohw,rh,cw->rco", taps, counted_rows, counted_columns)
        padded = counted - np.einsum("ohw,rh,cw->rco", taps, rows, columns)
        products = counted_rows.sum(axis=1)[:, None] * counted_columns.sum(axis=1)[None, :] * per_tap
        totals: FloatArray = (padded + products[:, :, None]).reshape(self.count, -1)
        return totals


def borders_of(problem: Conv2d) -> Borders:
    """Border classes of a problem; a single class where the accumulator needs no correction."""
    oh, ow = problem.out_hw
    top, left, _, _ = problem.pads
    if not problem.x.packed or problem.pad_value == problem.x.halo_value:
        rows, columns = np.ones((oh, problem.kernel[0]), bool), np.ones((ow, problem.kernel[1]), bool)
    else:
        rows = _taps(oh, problem.kernel[0], problem.strides[0], problem.dilations[0], top, problem.x.h)
        columns = _taps(ow, problem.kernel[1], problem.strides[1], problem.dilations[1], left, problem.x.w)
    row_taps, row_class = np.unique(rows, axis=0, return_inverse=True)
    column_taps, column_class = np.unique(columns, axis=0, return_inverse=True)
    return Borders(row_taps, column_taps, row_class.reshape(-1), column_class.reshape(-1))


def _taps(outputs: int, kernel: int, stride: int, dilation: int, pad: int, size: int) -> BoolArray:
    """Bool [outputs, kernel]: which taps of each output position lie inside [0, size)."""
    position = np.arange(outputs)[:, None] * stride + np.arange(kernel)[None, :] * dilation - pad
    return (position >= 0) & (position < size)
