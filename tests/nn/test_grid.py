"""Quantized values lie on the grid that the quantizer names, and its frozen twin leaves them there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler import nn as q
from qcompiler.errors import UnsupportedModel
from qcompiler.nn.grid import codes, quantize

ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.floats(-3, 3, width=32)
)
quick = settings(max_examples=25, deadline=None)

WEIGHTS: dict[str, Callable[[int, int], q.Quantizer]] = {
    "binarize": lambda bits, channels: q.Binarize(),
    "binarize_tensor": lambda bits, channels: q.Binarize(scale="tensor"),
    "binarize_channel": lambda bits, channels: q.Binarize(scale="channel"),
    "binarize_stochastic": lambda bits, channels: q.Binarize(stochastic=True),
    "ternarize": lambda bits, channels: q.Ternarize(),
    "ternarize_mean": lambda bits, channels: q.Ternarize(threshold="mean"),
    "ternarize_channel": lambda bits, channels: q.Ternarize(threshold=0.05, scale="channel"),
    "moons": lambda bits, channels: q.MoonsWeight(max(2, bits)),
    "dorefa": lambda bits, channels: q.DoReFaWeight(max(2, bits)),
    "lsq": lambda bits, channels: q.LSQ(max(2, bits)),
    "lsq_channel": lambda bits, channels: q.LSQ(max(2, bits), channels=channels),
    "fixed_point": lambda bits, channels: q.FixedPoint(max(2, bits), 0.125),
}
ACTIVATIONS: dict[str, Callable[[int], q.Quantizer]] = {
    "binarize": lambda bits: q.Binarize(),
    "binarize_stochastic": lambda bits: q.Binarize(stochastic=True),
    "ternarize": lambda bits: q.Ternarize(),
    "moons": lambda bits: q.MoonsReLU(max(2, bits)),
    "dorefa": q.DoReFaActivation,
    "lsq": lambda bits: q.LSQ(bits, signed=False),
    "lsq_signed": lambda bits: q.LSQ(max(2, bits)),
    "pact": lambda bits: q.PACT(bits, alpha=1.7),
    "fixed_point": lambda bits: q.FixedPoint(bits, 0.1, signed=False),
    "input": lambda bits: q.input_quantizer(),
}


def trained(quantizer: q.Quantizer, x: torch.Tensor) -> q.Quantizer:
    """In evaluation mode, after a learned scale was started from x."""
    quantizer.train()(x)
    return quantizer.eval()


def assert_on_grid(value: torch.Tensor, grid: q.Grid) -> None:
    scale = grid.scale.double().expand_as(value)
    # all weights of a channel are zero: its scale is too
    assert torch.all(value[scale == 0] == 0)
    found = (value.double() / scale)[scale != 0] + grid.zero_point
    low, high = grid.limits
    assert torch.all((found - found.round()).abs() <= 1e-6 * max(1, abs(low), high))
    assert torch.all((found.round() >= low) & (found.round() <= high))
    if grid.bipolar:
        assert torch.all(found.round() != 0)


@pytest.mark.parametrize("name", WEIGHTS)
@quick
@given(x=ARRAYS, bits=st.integers(1, 16))
def test_weights_lie_on_the_grid_and_freeze_there(name: str, x: np.ndarray, bits: int) -> None:
    weight = torch.from_numpy(x)
    quantizer = trained(WEIGHTS[name](bits, x.shape[0]), weight)
    with torch.no_grad():
        value = quantizer(weight)
        assert_on_grid(value, quantizer.grid(weight))
        frozen, fixed = quantizer.freeze(weight)
        assert torch.equal(frozen, value)
        assert torch.equal(fixed(frozen), frozen)
        assert fixed.bits == quantizer.grid(weight).bits
    assert torch.equal(weight, torch.from_numpy(x))


@pytest.mark.parametrize("name", ACTIVATIONS)
@quick
@given(x=ARRAYS, bits=st.integers(1, 16))
def test_activations_freeze_to_the_same_function(name: str, x: np.ndarray, bits: int) -> None:
    quantizer = trained(ACTIVATIONS[name](bits), torch.from_numpy(x))
    with torch.no_grad():
        value = quantizer(torch.from_numpy(x))
        fixed = quantizer.freeze_activation()
        assert torch.equal(fixed(torch.from_numpy(x)), value)
        assert torch.equal(fixed(value), value)
        assert_on_grid(value, fixed.grid)


@pytest.mark.parametrize(
    "quantizer",
    [
        q.DoReFaWeight(2),
        q.Binarize(scale="tensor"),
        q.Ternarize(threshold="mean"),
        q.Ternarize(threshold=0.05),
        q.Ternarize(scale="tensor"),
        q.LSQ(4, channels=3),
    ],
)
def test_activations_without_constant_grid_are_refused(quantizer: q.Quantizer) -> None:
    with pytest.raises(UnsupportedModel):
        quantizer.freeze_activation()


@pytest.mark.parametrize(
    ("grid", "limits"),
    [
        (q.Grid(torch.ones(()), 1), (-1, 1)),
        (q.Grid(torch.ones(()), 1, signed=False), (0, 1)),
        (q.Grid(torch.ones(()), 2), (-2, 1)),
        (q.Grid(torch.ones(()), 2, narrow=True), (-1, 1)),
        (q.Grid(torch.ones(()), 8), (-128, 127)),
        (q.Grid(torch.ones(()), 8, signed=False), (0, 255)),
        (q.Grid(torch.ones(()), 16, narrow=True), (-32767, 32767)),
    ],
)
def test_limits(grid: q.Grid, limits: tuple[int, int]) -> None:
    assert grid.limits == limits
    x = torch.tensor([-1e9, 1e9])
    assert codes(x, grid).tolist() == list(limits)


def test_rounding_is_half_to_even() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert codes(x, q.Grid(torch.ones(()), 8)).tolist() == [-2, -2, 0, 0, 2, 2]
    shifted = q.Grid(torch.tensor(2.0), 2, signed=False, zero_point=1.5)
    assert quantize(torch.tensor([-9.0, -1, 0, 1, 9]), shifted).tolist() == [-3, -1, 1, 1, 3]
