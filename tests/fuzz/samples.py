"""Inputs that hit what random numbers miss: zeros, extremes, constants, many equal elements."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.fuzz.grid import Grid
from tests.fuzz.net import Array, Network

Sample = dict[str, Array]


def samples(network: Network) -> list[Sample]:
    """Five samples: any numbers of the grid, few others than zero, extremes, one number throughout, zeros."""
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in network.model.graph.input
    }
    streams = {name: _arrays(shape, network.inputs[name]) for name, shape in shapes.items()}
    return [dict(zip(streams, arrays, strict=True)) for arrays in zip(*streams.values(), strict=True)]


def _arrays(shape: list[int], grid: Grid) -> Iterator[Array]:
    random = np.random.default_rng(shape)
    largest = int(grid.steps)
    steps = random.integers(-largest, largest + 1, shape)
    yield _scaled(steps, grid)
    yield _scaled(np.where(random.random(shape) < 0.7, 0, steps), grid)
    yield _scaled(random.choice([-largest, largest], shape), grid)
    yield _scaled(np.full(shape, -1), grid)
    yield _scaled(np.zeros(shape), grid)


def _scaled(steps: Array, grid: Grid) -> Array:
    return np.asarray(steps * grid.step, np.float32)
