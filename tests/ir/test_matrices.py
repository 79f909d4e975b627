"""Matrices in memory."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir.matrices import transposed


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (15, 33), (16, 2), (37, 16), (64, 0)])
def test_transposed(shape: tuple[int, int]) -> None:
    matrix = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    found = transposed(matrix)
    assert found.flags.c_contiguous and found.dtype == np.float32
    assert np.array_equal(found, matrix.T)
