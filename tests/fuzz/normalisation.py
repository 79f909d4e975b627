"""BatchNormalization whose results are exact, or clear of zero where a sign follows; and the others."""

from __future__ import annotations

from math import prod

import numpy as np

from tests.fuzz.draws import Draw, a_value, chance, choice
from tests.fuzz.grid import mean, of_array, product, total
from tests.fuzz.net import Array, Net, Rejected, Value

# variance + epsilon is a power of four, so that the reciprocal of its root is a power of two
_EPSILON = 2.0**-10
_FINEST_CLEAR = 4096


def batch_norm(draw: Draw, net: Net, source: Value | None = None) -> Value:
    """BatchNormalization along axis 1: exact in half of the cases, else clear of zero."""
    x = source or a_value(draw, net, lambda value: value.rank in (2, 3, 4) and value.grid is not None)
    if x.grid is None:
        raise Rejected
    if chance(draw) and x.grid.steps <= _FINEST_CLEAR:
        return _clear(net, x)
    return _exact(net, x)


def scale_and_shift(draw: Draw, net: Net) -> Value:
    """BatchNormalization split into a product and a sum along axis 1 or the last, as some exporters leave it."""
    x = a_value(draw, net, lambda value: value.rank >= 2)
    axis = choice(draw, (1, x.rank - 1))
    shape = tuple(size if position == axis else 1 for position, size in enumerate(x.shape))
    shape = shape[axis:] if chance(draw, 3) else shape
    random = net.random(*shape)
    scale = random.choice(np.float32([1, -1, 0.5, 2]), shape)
    shift = random.integers(-4, 5, shape).astype(np.float32) / 2
    grid = product(x.grid, of_array(scale))
    scaled = net.add("Mul", *((x, scale) if chance(draw) else (scale, x)), grid=grid)
    return net.add(choice(draw, ("Add", "Sub")), scaled, shift, grid=total(grid, of_array(shift)))


def layer_norm(draw: Draw, net: Net) -> Value:
    """LayerNormalization over the last axis; its result is rounded."""
    x = a_value(draw, net, lambda value: value.rank >= 2 and _has_exact_moments(value, value.shape[-1]))
    if net.opset < 17:
        raise Rejected
    size = x.shape[-1]
    scale = net.random(size).choice(np.float32([1, -1, 0.5]), size)
    return net.add("LayerNormalization", x, scale, np.zeros(size, np.float32), grid=None, epsilon=0.01)


def instance_norm(draw: Draw, net: Net) -> Value:
    """InstanceNormalization; its result is rounded."""
    x = a_value(draw, net, lambda value: value.rank in (3, 4) and _has_exact_moments(value, prod(value.shape[2:])))
    size = x.shape[1]
    scale = net.random(size).choice(np.float32([1, -1, 0.5]), size)
    return net.add("InstanceNormalization", x, scale, np.zeros(size, np.float32), grid=None, epsilon=0.01)


def _has_exact_moments(x: Value, count: int) -> bool:
    """Whether mean and variance of `count` elements are exact: else equal elements give noise instead of zeros."""
    centred = mean(x.grid, count)
    return count > 1 and mean(product(total(x.grid, centred), centred), count) is not None


def _exact(net: Net, x: Value) -> Value:
    channels = x.shape[1]
    random = net.random(channels)
    scales = random.choice([2.0, 1.0, 0.5], channels)
    variance = (1 / scales**2 - _EPSILON).astype(np.float32)
    gamma = random.choice(np.float32([1, -1, 0.5, 2, 0]), channels, p=[0.4, 0.25, 0.15, 0.1, 0.1])
    beta = random.integers(-3, 4, channels).astype(np.float32) / 2
    mean = random.integers(-3, 4, channels).astype(np.float32) / 2
    moved = total(x.grid, of_array(mean))
    grid = total(product(moved, of_array(gamma * scales.astype(np.float32))), of_array(beta))
    return net.add("BatchNormalization", x, gamma, beta, mean, variance, grid=grid, epsilon=_EPSILON)


def _clear(net: Net, x: Value) -> Value:
    """Any gamma, mean and variance; beta puts the change of sign between two numbers that the input can hold."""
    assert x.grid is not None
    channels = x.shape[1]
    random = net.random(channels, 5)
    gamma, mean = random.normal(size=channels), random.normal(size=channels) * 2
    gamma[random.random(channels) < 0.15] = 0
    gamma = np.sign(gamma) * np.maximum(np.abs(gamma), 0.1)
    variance = random.uniform(0.3, 3, channels)
    slope = gamma / np.sqrt(variance + 1e-5)
    limit = int(min(x.grid.steps, 6))
    crossing = (random.integers(-limit - 1, limit + 1, channels) + 0.5) * x.grid.step
    beta = np.where(gamma == 0, random.choice([-0.7, 0.7], channels), slope * (mean - crossing))
    operands: list[Array] = [array.astype(np.float32) for array in (gamma, beta, mean, variance)]
    return net.add("BatchNormalization", x, *operands, grid=None, clear=True)
