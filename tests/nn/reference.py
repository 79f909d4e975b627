"""The published formulas of the quantizers in numpy float64, written without a look at the torch code.

Values: each function gives v, the number that is rounded half to even, and the function from codes to values; a
comparison can so tell where float32 may fall on the other side of a tie. Surrogates: each is a function of (x, x0)
whose derivative by x at x = x0 is the gradient that training must see.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Values = tuple[Array, Callable[[Array], Array]]


def over_channels(x: Array) -> tuple[int, ...]:
    return tuple(range(1, x.ndim))


def moons_weight(w: Array, bits: int) -> Array:
    m = 2.0 ** (bits - 1)
    return np.clip(np.round(w * m), -m, m - 1) / m


def moons_relu(x: Array, bits: int) -> Array:
    n = 2.0**bits
    hard_sigmoid = np.clip((x + 1) / 2, 0, 1)
    return np.clip(2 * np.round(hard_sigmoid * n) / n - 1, 0, 1 - 2.0 ** (1 - bits))


def dorefa_activation(x: Array, bits: int) -> Values:
    steps = 2**bits - 1
    return np.clip(x, 0, 1) * steps, lambda q: q / steps


def dorefa_weight(w: Array, bits: int) -> Values:
    steps = 2**bits - 1
    largest = np.abs(np.tanh(w)).max()
    return (np.tanh(w) / (2 * largest) + 0.5) * steps, lambda q: 2 * q / steps - 1


def lsq(x: Array, scale: Array, bits: int, signed: bool) -> Values:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return np.clip(x / scale, low, high), lambda q: q * scale


def pact(x: Array, alpha: float, bits: int) -> Values:
    steps = 2**bits - 1
    return np.clip(x, 0, alpha) * steps / alpha, lambda q: q * alpha / steps


def binarize(x: Array, scale: str | None) -> Array:
    return np.where(x >= 0, 1.0, -1.0) * mean_magnitude(x, scale)


def mean_magnitude(x: Array, scale: str | None) -> Array:
    if scale is None:
        return np.ones(())
    return np.abs(x).mean(over_channels(x) if scale == "channel" else None, keepdims=True)


def ternary_threshold(x: Array, threshold: float | str) -> float:
    return 0.7 * float(np.abs(x).mean()) if threshold == "mean" else float(threshold)


def ternarize(x: Array, threshold: float | str, scale: str | None) -> Array:
    limit = ternary_threshold(x, threshold)
    signs = np.where(x > limit, 1.0, 0.0) - np.where(x < -limit, 1.0, 0.0)
    return signs * ternary_scale(x, signs, scale)


def ternary_scale(x: Array, signs: Array, scale: str | None) -> Array:
    if scale is None:
        return np.ones(())
    axes = over_channels(x) if scale == "channel" else None
    used = np.abs(signs).sum(axes, keepdims=True)
    return np.where(used > 0, (np.abs(x) * np.abs(signs)).sum(axes, keepdims=True) / np.maximum(used, 1), 1)


SIGN_SURROGATES: dict[str, Callable[[Array], Array]] = {
    "clip": lambda x: np.clip(x, -1, 1),
    "identity": lambda x: x,
    "polynomial": lambda x: np.select([x < -1, x < 0, x < 1], [-np.ones_like(x), 2 * x + x * x, 2 * x - x * x], 1.0),
    "swish": lambda x: 2 * _sigmoid(5 * x) * (1 + 5 * x * (1 - _sigmoid(5 * x))) - 1,
}


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))


def binarize_surrogate(x: Array, x0: Array, scale: str | None, estimator: str) -> Array:
    """Product rule of sign(x) * mean|x|, with the estimator's surrogate for sign."""
    through = SIGN_SURROGATES[estimator](x)
    return mean_magnitude(x0, scale) * through + np.where(x0 >= 0, 1.0, -1.0) * mean_magnitude(x, scale)


def ternarize_surrogate(x: Array, x0: Array, threshold: float | str, scale: str | None, estimator: str) -> Array:
    signs = np.sign(ternarize(x0, threshold, None))
    through = SIGN_SURROGATES[estimator](x)
    return ternary_scale(x0, signs, scale) * through + signs * ternary_scale(x, signs, scale)


def dorefa_weight_surrogate(w: Array, w0: Array) -> Array:
    return np.tanh(w) / np.abs(np.tanh(w0)).max()


def lsq_surrogate(x: Array, scale: Array, x0: Array, scale0: Array, bits: int, signed: bool) -> Array:
    """The clipped value plus the rounding step taken at (x0, scale0)."""
    before, _ = lsq(x0, scale0, bits, signed)
    clipped, value = lsq(x, scale, bits, signed)
    return value(clipped + np.round(before) - before)
