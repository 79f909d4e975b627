from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.posttraining.ranges import Grid, Histogram, best_grid, grid_between
from qcompiler.posttraining.weights import quantized


def histogram(values: np.ndarray) -> Histogram:
    found = Histogram(float(min(values.min(), 0)), float(max(values.max(), 0)))
    found.add(values)
    return found


def error(grid: Grid, values: np.ndarray) -> float:
    return float(((grid.rounded(values) - values) ** 2).sum())


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.floats(-4, 4), st.floats(0.01, 10), st.integers(0, 99))
def test_no_range_that_ends_at_the_extremes_is_better(bits: int, mean: float, width: float, seed: int) -> None:
    values = mean + width * np.random.default_rng(seed).standard_normal(5000)
    found, seen = best_grid(histogram(values), bits), histogram(values)
    whole = grid_between(seen.low, seen.high, bits)
    # a bin is a number to the histogram
    assert error(found, values) <= error(whole, values) * 1.02 + 5000 * ((seen.high - seen.low) / 2048) ** 2
    assert found.scale > 0 and 0 <= found.zero < 2**bits
    assert found.rounded(np.zeros(1)) == 0


def test_outliers_are_cut_off() -> None:
    values = np.concatenate([np.random.default_rng(0).standard_normal(300_000), [100.0]])
    grid = best_grid(histogram(values), 4)
    assert grid.scale * 15 < 12


def test_what_is_always_0_has_a_grid() -> None:
    assert best_grid(Histogram(0.0, 0.0), 3) == Grid(1.0, 0, 3)


def test_positive_numbers_take_all_codes() -> None:
    grid = best_grid(histogram(np.linspace(0, 6, 1000)), 3)
    assert grid.zero == 0 and abs(grid.scale * 7 - 6) < 0.7


@given(st.integers(2, 8), st.integers(1, 5), st.integers(1, 40), st.integers(0, 99))
def test_weights_are_integers_times_a_scale(bits: int, channels: int, products: int, seed: int) -> None:
    weights = np.random.default_rng(seed).standard_normal((channels, products)).astype(np.float32)
    integers, scale = quantized(weights, bits)
    most = 2 ** (bits - 1) - 1
    assert (integers == np.rint(integers)).all() and np.abs(integers).max() <= most and (scale > 0).all()
    largest = np.abs(weights).max(1, keepdims=True) / most
    covered = ((np.rint(weights / largest) * largest - weights) ** 2).sum(1)
    assert ((((integers * scale[:, None]) - weights) ** 2).sum(1) <= covered * (1 + 1e-5) + 1e-12).all()


def test_weights_of_one_bit_are_signs() -> None:
    integers, scale = quantized(np.float32([[1, -3], [0, 0]]), 1)
    assert integers.tolist() == [[1, -1], [1, 1]] and scale.tolist() == [2, 1]
