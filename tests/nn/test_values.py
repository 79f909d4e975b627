"""Forward values of every quantizer against the published formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler import nn as q
from qcompiler.ir import numerics
from tests.nn import reference

SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=4)
ARRAYS = hnp.arrays(np.float32, SHAPES, elements=st.floats(-3, 3, width=32))
WIDTHS = range(1, 17)
SIGNED_WIDTHS = [(bits, signed) for signed in (True, False) for bits in WIDTHS if bits > 1 or not signed]
quick = settings(max_examples=10, deadline=None)


def run(quantizer: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    """The value in evaluation mode; training mode must give the same."""
    with torch.no_grad():
        value = quantizer.eval()(torch.from_numpy(x))
        assert torch.equal(quantizer.train()(torch.from_numpy(x)), value)
    return value.numpy()


def assert_rounded(actual: np.ndarray, expected: reference.Values, bits: int) -> None:
    """Equal wherever float32 cannot have crossed a tie, and at most one step away there."""
    v, value = expected
    step = np.abs(value(v + 1) - value(v))
    tolerance = 1e-5 + 5e-7 * 2**bits
    safe = np.abs(v - np.floor(v) - 0.5) > tolerance
    off = np.abs(actual - value(np.round(v)))
    assert np.all(off <= np.broadcast_to(step, off.shape) * 1.001 + 1e-6)
    assert np.all(off[safe] <= 1e-6 * np.maximum(1, np.abs(actual[safe])))


@pytest.mark.parametrize("bits", WIDTHS[1:])
@quick
@given(x=ARRAYS)
def test_moons_weight(bits: int, x: np.ndarray) -> None:
    np.testing.assert_array_equal(run(q.MoonsWeight(bits), x), reference.moons_weight(x.astype(np.float64), bits))


@pytest.mark.parametrize("bits", WIDTHS[1:])
@quick
@given(x=ARRAYS)
def test_moons_relu_is_the_published_formula(bits: int, x: np.ndarray) -> None:
    np.testing.assert_array_equal(run(q.MoonsReLU(bits), x), reference.moons_relu(x.astype(np.float64), bits))


def test_moons_on_ties_and_ends() -> None:
    x = np.array([[-1.5, -1, -0.75, -0.25, 0.25, 0.5, 0.75, 1, 9]], np.float32)
    np.testing.assert_array_equal(run(q.MoonsWeight(2), x), [[-1, -1, -1, 0, 0, 0.5, 0.5, 0.5, 0.5]])
    np.testing.assert_array_equal(run(q.MoonsReLU(2), x), [[0, 0, 0, 0, 0, 0.5, 0.5, 0.5, 0.5]])
    assert len(np.unique(run(q.MoonsReLU(4), np.linspace(-2, 2, 999, dtype=np.float32)))) == 8


@pytest.mark.parametrize("bits", WIDTHS)
@quick
@given(x=ARRAYS)
def test_dorefa_activation(bits: int, x: np.ndarray) -> None:
    assert_rounded(run(q.DoReFaActivation(bits), x), reference.dorefa_activation(x.astype(np.float64), bits), bits)


@pytest.mark.parametrize("bits", WIDTHS[1:])
@quick
@given(x=ARRAYS.filter(lambda x: np.abs(x).max() > 1e-3))
def test_dorefa_weight(bits: int, x: np.ndarray) -> None:
    actual = run(q.DoReFaWeight(bits), x)
    assert_rounded(actual, reference.dorefa_weight(x.astype(np.float64), bits), bits)
    assert np.abs(actual).max() == pytest.approx(1, abs=1e-6)


def test_dorefa_weight_of_zeros_is_finite() -> None:
    assert np.isfinite(run(q.DoReFaWeight(3), np.zeros((2, 2), np.float32))).all()


@pytest.mark.parametrize(("bits", "signed"), SIGNED_WIDTHS)
@quick
@given(x=ARRAYS, scale=st.floats(2.0**-8, 4, width=32), per_channel=st.booleans())
def test_lsq(bits: int, signed: bool, x: np.ndarray, scale: float, per_channel: bool) -> None:
    channels = x.shape[0] if per_channel else 1
    scales = np.float32(scale) * np.arange(1, channels + 1, dtype=np.float32)
    quantizer = q.LSQ(bits, signed=signed, channels=channels if per_channel else None)
    quantizer.scale.data = torch.from_numpy(scales).reshape(quantizer.scale.shape)
    quantizer.started.fill_(True)
    shaped = scales.astype(np.float64).reshape(-1, *[1] * (x.ndim - 1))
    v, value = reference.lsq(x.astype(np.float64), shaped, bits, signed)
    actual = run(quantizer, x)
    safe = np.abs(v - np.floor(v) - 0.5) > 1e-5 + 1e-6 * np.abs(v)
    expected = value(np.round(v))
    np.testing.assert_allclose(actual[safe], expected[safe], rtol=1e-6, atol=1e-7)
    assert np.all(np.abs(actual - expected) <= 1.001 * shaped)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_lsq_starts_from_the_first_training_tensor(bits: int, channels: int | None, signed: bool) -> None:
    x = torch.randn(3, 5)
    quantizer = q.LSQ(bits, signed=signed, channels=channels)
    quantizer.eval()(x)
    assert torch.equal(quantizer.scale, torch.ones_like(quantizer.scale))
    quantizer.train()(x)
    largest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    expected = 2 * np.abs(x.numpy()).mean(1 if channels else None) / np.sqrt(largest)
    np.testing.assert_allclose(quantizer.scale.detach(), expected, rtol=1e-6)
    quantizer(x * 7)
    np.testing.assert_allclose(quantizer.scale.detach(), expected, rtol=1e-6)


@pytest.mark.parametrize("bits", WIDTHS)
@quick
@given(x=ARRAYS, alpha=st.floats(0.125, 8, width=32))
def test_pact(bits: int, x: np.ndarray, alpha: float) -> None:
    expected = reference.pact(x.astype(np.float64), alpha, bits)
    v, value = expected
    actual = run(q.PACT(bits, alpha=alpha), x)
    safe = np.abs(v - np.floor(v) - 0.5) > 1e-5 + 5e-7 * 2**bits
    np.testing.assert_allclose(actual[safe], value(np.round(v))[safe], rtol=1e-6, atol=1e-6)
    assert np.all(np.abs(actual - value(np.round(v))) <= 1.001 * alpha / (2**bits - 1))


@pytest.mark.parametrize(("bits", "signed"), SIGNED_WIDTHS)
@quick
@given(x=ARRAYS, exponent=st.integers(-10, 2))
def test_fixed_point(bits: int, signed: bool, x: np.ndarray, exponent: int) -> None:
    scale = 2.0**exponent
    v, value = reference.lsq(x.astype(np.float64), np.float64(scale), bits, signed)
    np.testing.assert_array_equal(run(q.FixedPoint(bits, scale, signed=signed), x), value(np.round(v)))


def test_input_quantizer_is_the_identity_on_pixels() -> None:
    x = (np.arange(256, dtype=np.float32) / 128 - 1).reshape(16, 16)
    np.testing.assert_array_equal(run(q.input_quantizer(), x), x)


@pytest.mark.parametrize("scale", [None, "tensor", "channel"])
@pytest.mark.parametrize("estimator", ["clip", "identity", "polynomial", "swish"])
@quick
@given(x=ARRAYS)
def test_binarize(scale: str | None, estimator: str, x: np.ndarray) -> None:
    actual = run(q.Binarize(scale=scale, estimator=estimator), x)
    np.testing.assert_allclose(actual, reference.binarize(x.astype(np.float64), scale), rtol=1e-5, atol=1e-30)


def test_sign_agrees_with_the_compiler_on_special_values() -> None:
    x = np.array([[0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45]], np.float32)
    np.testing.assert_array_equal(run(q.Binarize(), x), numerics.binarize(x))


@pytest.mark.parametrize("threshold", [0.5, 0.05, "mean"])
@pytest.mark.parametrize("scale", [None, "tensor", "channel"])
@quick
@given(x=ARRAYS)
def test_ternarize(threshold: float | str, scale: str | None, x: np.ndarray) -> None:
    wide = x.astype(np.float64)
    limit = reference.ternary_threshold(wide, threshold)
    # float32 may put the threshold, and what is summed, on the other side of an element this near
    assume(np.all(np.abs(np.abs(wide) - limit) > 1e-5))
    actual = run(q.Ternarize(threshold=threshold, scale=scale), x)
    np.testing.assert_allclose(actual, reference.ternarize(wide, threshold, scale), rtol=1e-5, atol=1e-30)


def test_ternarize_at_its_threshold() -> None:
    x = np.array([[0.5, -0.5, 0.50001, -0.50001, 0.0]], np.float32)
    np.testing.assert_array_equal(run(q.Ternarize(), x), [[0, 0, 1, -1, 0]])


@pytest.mark.parametrize("scale", ["tensor", "channel"])
def test_ternarize_of_weights_below_the_threshold_is_zero(scale: str) -> None:
    np.testing.assert_array_equal(run(q.Ternarize(scale=scale), np.full((2, 3), 0.25, np.float32)), np.zeros((2, 3)))


@pytest.mark.parametrize("level", [-1.5, -1.0, -0.4, 0.0, 0.7, 1.0, 2.0])
def test_stochastic_binarization_has_the_published_probability(level: float) -> None:
    count = 20000
    quantizer = q.Binarize(stochastic=True)
    values = quantizer(torch.full((count,), level))
    assert set(values.tolist()) <= {-1.0, 1.0}
    probability = min(max((level + 1) / 2, 0), 1)
    deviation = 5 * (probability * (1 - probability) / count) ** 0.5
    assert abs(float((values > 0).float().mean()) - probability) <= deviation
    assert torch.equal(quantizer.eval()(torch.full((9,), level)), torch.full((9,), 1.0 if level >= 0 else -1.0))
