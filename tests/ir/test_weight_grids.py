"""Grids of quantized weights are found again in the numbers that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir.weight_grids import WeightGrid, in_blocks, on_grid


def restored(found) -> np.ndarray:
    block = np.arange(found.index.shape[1]) // found.grid.size
    return found.low[:, block] + found.index * found.step[:, block]


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([1, 2, 4, 8]),
    size=st.sampled_from([16, 32, 64, 128, 10**4]),
    inputs=st.integers(70, 400),
    zero=st.sampled_from(["middle", "any", "fraction", "none"]),
    half=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_was_quantized_is_on_a_grid(bits, size, inputs, zero, half, seed) -> None:
    rng = np.random.default_rng(seed)
    rows, size = 60, min(size, inputs)
    block = np.arange(inputs) // size
    shape = (rows, block[-1] + 1)
    scales = (rng.random(shape) * 0.1 + 1e-3).astype(np.float16 if half else np.float32).astype(np.float32)
    points = {"middle": np.full(shape, 2.0 ** (bits - 1)), "any": rng.integers(0, 2**bits, shape),
              "fraction": rng.random(shape) * 7, "none": np.zeros(shape)}[zero].astype(np.float32)  # fmt: skip
    codes = rng.integers(0, 2**bits, (rows, inputs)).astype(np.float32)
    weights = (codes - points[:, block]) * scales[:, block]
    found = on_grid(weights)
    if bits == 8 and (size < 64 or inputs % size):
        return  # grids of few among many levels take more bytes, or cannot be told
    assert found is not None and found.grid.bits <= bits
    largest = np.abs(weights).max()
    np.testing.assert_allclose(restored(found), weights, rtol=0, atol=2.0**-20 * largest)


def test_floats_are_on_none() -> None:
    assert on_grid(np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32)) is None


def test_few_weights_are_left_alone() -> None:
    assert on_grid(np.ones((8, 16), np.float32)) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_on_none(value: float) -> None:
    weights = np.ones((64, 128), np.float32)
    weights[3, 5] = value
    assert on_grid(weights) is None


def test_the_fewest_bytes_are_taken() -> None:
    """Blocks of steps 1 and 2 are on one grid of more bits, too."""
    index = np.random.default_rng(0).integers(0, 16, (64, 256)).astype(np.float32)
    index[:, ::32], index[:, 1::32] = 0, 15
    weights = index * np.tile(np.repeat([1.0, 2.0], 32), 4).astype(np.float32)
    found = on_grid(weights)
    assert found is not None and found.grid == WeightGrid(4, 32)


@given(
    bits=st.sampled_from([2, 4, 8]), size=st.sampled_from([16, 32, 128]), inputs=st.integers(1, 300),
    zero=st.integers(0, 255), used=st.integers(1, 256), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_blocks_of_known_size_have_the_index_of_zero(
    bits: int, size: int, inputs: int, zero: int, used: int, seed: int
) -> None:
    """Whichever of the levels a block holds, be it one of them."""
    rng = np.random.default_rng(seed)
    levels, block = 2**bits, np.arange(inputs) // size
    zero %= levels
    held = rng.choice(levels, size=min(used, levels), replace=False)
    codes = rng.choice(held, size=(5, inputs))
    scales = rng.uniform(0.001, 1, (5, block[-1] + 1)).astype(np.float32)
    weights = (codes - zero).astype(np.float32) * scales[:, block]
    found = in_blocks(weights, size)
    assert found is not None and found.grid.bits <= bits and found.grid.size == size
    back = found.low[:, block] + found.index * found.step[:, block]
    np.testing.assert_allclose(back, weights, rtol=0, atol=2.0**-20 * np.abs(weights).max())
    if found.grid.bits == bits:
        assert found.grid.zero is not None
        np.testing.assert_array_equal(found.low, -np.float32(found.grid.zero) * found.step)


def test_no_index_stands_for_zero_where_it_lies_between_two() -> None:
    weights = (np.arange(64, dtype=np.float32).reshape(2, 32) % 4 + np.float32(0.4142)).astype(np.float32)
    found = in_blocks(weights, 32)
    assert found is not None and found.grid == WeightGrid(2, 32, None)
