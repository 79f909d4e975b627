"""What weights are, against definitions that look at every element."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.analysis.weights import signs_and_scales, weight_codes
from qcompiler.ir.codes import Codes

KINDS = ("real", "signs", "ternary", "nearly equal", "integers", "multiples", "zero", "one value", "not finite")


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    """float32 of two to four axes, some of more elements along one than a first look takes in."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=2, max_size=4)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from((1e-7, 5e-7, 1e-6, 2e-6, 3e-6)))
    made = {
        "real": lambda: random.standard_normal(shape),
        "signs": lambda: random.choice([-1, 1], shape),
        "ternary": lambda: random.choice([-1, 0, 1], shape),
        "nearly equal": lambda: random.choice([-1, 1], shape) * 0.37 * (1 + spread * random.uniform(-1, 1, shape)),
        "integers": lambda: random.integers(-300, 300, shape),
        "multiples": lambda: random.integers(-4, 4, shape) * random.integers(1, 70),
        "zero": lambda: np.zeros(shape),
        "one value": lambda: np.full(shape, random.standard_normal()),
        "not finite": lambda: random.choice([0, 0, np.nan, np.inf, 1.0, -1.0], shape),
    }[draw(st.sampled_from(KINDS))]()
    if draw(st.booleans()):
        made = made * random.uniform(0.5, 2, (shape[0], *[1] * (len(shape) - 1)))
    return made.astype(np.float32)


@settings(max_examples=400, deadline=None)
@given(weights())
def test_codes_of_weights(array: np.ndarray) -> None:
    values = sorted(set(array.reshape(-1).tolist()))
    found = weight_codes(array)
    if not np.isfinite(values).all() or any(value % 1 or abs(value) >= 256 for value in values):
        assert found is None
        return
    steps = [int(after - before) for before, after in itertools.pairwise(values)]
    assert found == Codes(int(values[0]), int(values[-1]), math.gcd(*steps) or 1)


@settings(max_examples=400, deadline=None)
@given(weights(), st.integers(0, 3))
@pytest.mark.filterwarnings("ignore:invalid value")
def test_signs_and_scales_of_weights(array: np.ndarray, axis: int) -> None:
    axis %= array.ndim
    channels = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    magnitudes = [np.abs(channel[channel != 0]) for channel in channels]
    ranges = [(each.min(initial=np.inf), each.max(initial=0)) for each in magnitudes]
    found = signs_and_scales(array, axis)
    if not np.isfinite(array).all() or any(high - low > 1e-6 * high for low, high in ranges):
        assert found is None
        return
    assert found is not None
    signs, scale, spread = found
    assert signs.dtype == scale.dtype == np.float32 and signs.shape == array.shape
    np.testing.assert_allclose(scale, [np.mean(each) if each.size else 0 for each in magnitudes], rtol=2e-6)
    for of_channel, channel in zip(np.moveaxis(signs, axis, 0).reshape(channels.shape), channels, strict=True):
        expected = np.sign(channel) if channel.any() else np.ones_like(channel)
        np.testing.assert_array_equal(of_channel, expected)
    assert spread <= 1e-6
