"""Gradients of every quantizer against central finite differences of its surrogate, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from qcompiler import nn as q
from qcompiler.nn.estimators import ESTIMATORS
from tests.nn import reference

STEP = 1e-6
MARGIN = 1e-3
SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=3)
WIDTHS = st.integers(1, 16)
SEEDS = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)

Surrogate = Callable[[np.ndarray, np.ndarray], np.ndarray]


@st.composite
def tensors(draw: st.DrawFn, kinks: tuple[float, ...] = (-1.0, 0.0, 1.0)) -> tuple[np.ndarray, np.ndarray]:
    """(x, the gradient that comes from above), with every x at least MARGIN away from every kink."""
    shape = draw(SHAPES)
    x = draw(hnp.arrays(np.float64, shape, elements=st.floats(-2.5, 2.5)))
    for kink in kinks:
        x = np.where(np.abs(x - kink) < MARGIN, kink + 2 * MARGIN, x)
    above = np.random.default_rng(draw(SEEDS)).standard_normal(shape)
    return x, above


def differences(function: Callable[[np.ndarray], np.ndarray], at: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Central differences of sum(above * function(at)), element by element."""
    result = np.empty_like(at)
    for index in np.ndindex(at.shape):
        shift = np.zeros_like(at)
        shift[index] = STEP
        result[index] = np.sum(above * (function(at + shift) - function(at - shift))) / (2 * STEP)
    return result


def gradient(quantizer: nn.Module, x: np.ndarray, above: np.ndarray) -> np.ndarray:
    leaf = torch.from_numpy(x).requires_grad_()
    quantizer.double()(leaf).backward(torch.from_numpy(above))
    assert leaf.grad is not None
    return leaf.grad.numpy()


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6 * (1 + np.abs(expected).max()))


def check(quantizer: nn.Module, surrogate: Surrogate, drawn: tuple[np.ndarray, np.ndarray]) -> None:
    x, above = drawn
    assert_close(gradient(quantizer, x, above), differences(lambda each: surrogate(each, x), x, above))


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@quick
@given(drawn=tensors())
def test_derivative_of_each_estimator(name: str, drawn: tuple[np.ndarray, np.ndarray]) -> None:
    x, above = drawn
    known = reference.SIGN_SURROGATES[name]
    estimator = q.estimator(name)
    np.testing.assert_allclose(estimator.surrogate(torch.from_numpy(x)).numpy(), known(x), atol=1e-12)
    actual = (estimator.derivative(torch.from_numpy(x)).numpy() * above).astype(np.float64)
    assert_close(actual, differences(known, x, above))


@pytest.mark.parametrize(("scale", "stochastic"), [(None, False), (None, True), ("tensor", False), ("channel", False)])
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@quick
@given(drawn=tensors())
def test_binarize(name: str, scale: str | None, stochastic: bool, drawn: tuple[np.ndarray, np.ndarray]) -> None:
    quantizer = q.Binarize(scale=scale, estimator=name, stochastic=stochastic)
    if scale is None:
        check(quantizer, lambda x, _: reference.SIGN_SURROGATES[name](x), drawn)
    else:
        check(quantizer, lambda x, x0: reference.binarize_surrogate(x, x0, scale, name), drawn)


@pytest.mark.parametrize("threshold", [0.5, 0.05, "mean"])
@pytest.mark.parametrize("scale", [None, "tensor", "channel"])
@quick
@given(drawn=tensors(), name=st.sampled_from(sorted(ESTIMATORS)))
def test_ternarize(name: str, threshold: float | str, scale: str | None, drawn: tuple[np.ndarray, np.ndarray]) -> None:
    quantizer = q.Ternarize(threshold=threshold, scale=scale, estimator=name)
    limit = reference.ternary_threshold(drawn[0], threshold)
    assume(np.all(np.abs(np.abs(drawn[0]) - limit) > MARGIN))
    if scale is None:
        check(quantizer, lambda x, _: reference.SIGN_SURROGATES[name](x), drawn)
    else:
        check(quantizer, lambda x, x0: reference.ternarize_surrogate(x, x0, threshold, scale, name), drawn)


@quick
@given(bits=st.integers(2, 16), data=st.data())
def test_moons_weight(bits: int, data: st.DataObject) -> None:
    half = 2.0**-bits
    low, high = -1 - half, 1 - half
    check(q.MoonsWeight(bits), lambda x, _: np.clip(x, low, high), data.draw(tensors((low, high))))


@quick
@given(bits=st.integers(2, 16), data=st.data())
def test_moons_relu(bits: int, data: st.DataObject) -> None:
    half = 2.0**-bits
    low, high = -half, 1 - half
    check(q.MoonsReLU(bits), lambda x, _: np.clip(x, low, high), data.draw(tensors((low, high))))


@quick
@given(bits=WIDTHS, drawn=tensors())
def test_dorefa_activation(bits: int, drawn: tuple[np.ndarray, np.ndarray]) -> None:
    check(q.DoReFaActivation(bits), lambda x, _: np.clip(x, 0, 1), drawn)


@quick
@given(bits=st.integers(2, 16), drawn=tensors())
def test_dorefa_weight(bits: int, drawn: tuple[np.ndarray, np.ndarray]) -> None:
    check(q.DoReFaWeight(bits), reference.dorefa_weight_surrogate, drawn)


@quick
@given(bits=WIDTHS, signed=st.booleans(), scale=st.sampled_from([0.0625, 0.25, 0.5]), data=st.data())
def test_fixed_point(bits: int, signed: bool, scale: float, data: st.DataObject) -> None:
    bits += int(signed and bits == 1)
    low, high = (-scale * 2 ** (bits - 1), scale * (2 ** (bits - 1) - 1)) if signed else (0, scale * (2**bits - 1))
    drawn = data.draw(tensors((low, high)))
    check(q.FixedPoint(bits, scale, signed=signed), lambda x, _: np.clip(x, low, high), drawn)


@quick
@given(bits=WIDTHS, alpha=st.floats(0.5, 2), data=st.data())
def test_pact_of_input_and_alpha(bits: int, alpha: float, data: st.DataObject) -> None:
    quantizer = q.PACT(bits, alpha=alpha).double()
    alpha = quantizer.alpha.item()
    x, above = data.draw(tensors((0.0, alpha)))
    check(quantizer, lambda each, _: np.clip(each, 0, alpha), (x, above))
    assert quantizer.alpha.grad is not None
    expected = differences(lambda limit: np.clip(x, 0, limit), np.array(alpha), above)
    assert_close(quantizer.alpha.grad.numpy(), expected)


@quick
@given(bits=WIDTHS, signed=st.booleans(), per_channel=st.booleans(), drawn=tensors(), step=st.floats(0.03, 1.5))
def test_lsq_of_input_and_scale(
    bits: int, signed: bool, per_channel: bool, drawn: tuple[np.ndarray, np.ndarray], step: float
) -> None:
    bits += int(signed and bits == 1)
    x, above = drawn
    quantizer = q.LSQ(bits, signed=signed, channels=x.shape[0] if per_channel else None).double()
    quantizer.started.fill_(True)
    scale = step * np.arange(1, x.shape[0] + 1, dtype=np.float64) if per_channel else np.array(step)
    shaped = scale.reshape(-1, *[1] * (x.ndim - 1))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    v = x / shaped
    fraction = np.abs(v - np.floor(v) - 0.5)
    assume(min(np.abs(v - low).min(), np.abs(v - high).min(), fraction.min()) > MARGIN)
    quantizer.scale.data = torch.from_numpy(scale)

    def surrogate(at: np.ndarray, by: np.ndarray) -> np.ndarray:
        return reference.lsq_surrogate(at, by.reshape(-1, *[1] * (x.ndim - 1)), x, shaped, bits, signed)

    check(quantizer, lambda each, _: surrogate(each, scale), (x, above))
    assert quantizer.scale.grad is not None
    # section 2.2 of the paper: N is the number of weights, or of features of one example
    count = x.size if signed else x.size / x.shape[0]
    expected = differences(lambda by: surrogate(x, by), scale, above) / np.sqrt(count * high)
    assert_close(quantizer.scale.grad.numpy(), expected.reshape(quantizer.scale.shape))


@pytest.mark.parametrize("channels", [None, 4])
def test_lsq_scale_gradient_is_the_published_one(channels: int | None) -> None:
    x = torch.tensor([[0.3, 0.9, -9.0, 9.0]] * 4)
    quantizer = q.LSQ(3, channels=channels)
    quantizer.started.fill_(True)
    quantizer.scale.data.fill_(0.5)
    quantizer(x).sum().backward()
    # v = .6, 1.8, -18, 18: inside round(v) - v, outside the limit; Qn = 4, Qp = 3, N = 16
    per_row = (1 - 0.6) + (2 - 1.8) - 4 + 3
    expected = np.full(4, per_row) if channels else np.array(4 * per_row)
    np.testing.assert_allclose(quantizer.scale.grad, expected / np.sqrt(16 * 3), rtol=1e-5)


def test_no_gradient_outside_the_clip_range_and_one_inside() -> None:
    x = torch.tensor([-1.5, -0.9, 0.0, 0.9, 1.5], requires_grad=True)
    q.Binarize()(x).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 1, 1, 1, 0])
    edges = torch.tensor([-1.0, 1.0], requires_grad=True)
    q.Binarize()(edges).sum().backward()
    np.testing.assert_array_equal(edges.grad, [1, 1])


@pytest.mark.parametrize("count", [1, 64])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_codes_that_are_binary_already_keep_their_gradient(dtype: torch.dtype, count: int) -> None:
    """-1 and +1 lie on the edge of the range; under autocast they come in 16 bits."""
    for quantizer in (q.Binarize(), q.Binarize(estimator="identity")):
        x = torch.tensor([-1.0, 1.0] * count, dtype=dtype, requires_grad=True)
        quantizer(x).sum().backward()
        assert x.grad is not None and torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize(
    "quantizer",
    [q.Binarize(scale="channel"), q.Ternarize(), q.MoonsWeight(4), q.DoReFaWeight(4), q.LSQ(4), q.PACT(4)],
    ids=lambda each: type(each).__name__,
)
def test_gradients_in_float32_are_those_in_float64(quantizer: nn.Module) -> None:
    x = torch.randn(5, 7)
    above = torch.randn(5, 7)
    leaf = x.clone().requires_grad_()
    quantizer.train()(leaf).backward(above)
    assert leaf.grad is not None and leaf.grad.dtype == torch.float32
    expected = gradient(quantizer, x.double().numpy(), above.double().numpy())
    np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_an_estimator_is_given_by_name_or_itself() -> None:
    x = torch.tensor([-0.5, 0.25, 2.0])
    own = q.Estimator("double", lambda x: 2 * x, lambda x: torch.full_like(x, 2))
    for make in (q.Binarize, q.Ternarize):
        for itself, named in ((q.POLYNOMIAL, "polynomial"), (q.CLIP, "clip")):
            found = [_gradient(make(estimator=each), x) for each in (itself, named)]
            assert torch.equal(*found)
        assert torch.equal(_gradient(make(estimator=own), x), torch.full_like(x, 2))


def _gradient(quantizer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    quantizer(x).sum().backward()
    assert x.grad is not None
    return x.grad
