"""Inputs on which to compare two graphs: random ones, and those that hit what random ones miss.

A network is wrong most easily where its numbers are special: zeros, equal elements, small integers whose sums cancel,
the limits of integers, and the numbers at which its first quantizers, signs, clips and comparisons turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir import oracle
from qcompiler.ir.critical import critical_numbers, index_limit, largest_magnitude, meaningful_range
from qcompiler.ir.file_types import file_types, representable
from qcompiler.ir.view import dtype_of, shape_of

Array = npt.NDArray[Any]
Random = np.random.Generator

RANDOM = "random"
EXTREMES = "extremes"


@dataclass(frozen=True)
class Sample:
    """One array for each input of a graph, and what is special about them."""

    kind: str
    inputs: dict[str, Array]


def samples(model: ir.Model, seed: int) -> Iterator[Sample]:
    """Samples without end, the kinds in turn; the first is `oracle.random_inputs`, apart from limited inputs.

    Their numbers are numbers of the types that the inputs have in the file.
    """
    types = file_types(model.graph)
    for sample in _samples(model, seed):
        arrays = {name: representable(array, types.get(name, "")) for name, array in sample.inputs.items()}
        yield Sample(sample.kind, arrays)


def _samples(model: ir.Model, seed: int) -> Iterator[Sample]:
    random = np.random.default_rng(seed)
    limited = [value for value in model.graph.inputs if index_limit(value) is not None or meaningful_range(value)]
    drawn = {str(value.name): _array(value, RANDOM, random) for value in limited}
    yield Sample(RANDOM, {**oracle.random_inputs(model, seed), **drawn})
    kinds = dict.fromkeys(kind for value in model.graph.inputs for kind in _kinds(value))
    while kinds:
        for kind in kinds:
            arrays = {str(value.name): _array(value, kind, random) for value in model.graph.inputs}
            yield Sample(kind, arrays)


def _kinds(value: ir.Value) -> dict[str, Callable[[Random], Array]]:
    """How each kind of array for an input is drawn, all of its shape; without those that would be empty."""
    kind = dtype_of(value).kind
    if kind == "f":
        return _float_kinds(value)
    if kind in "iu":
        return _integer_kinds(value)
    return {
        "zeros": lambda _: np.zeros(shape_of(value)),
        "constants": lambda _: np.ones(shape_of(value)),
        RANDOM: lambda random: random.integers(0, 2, shape_of(value)),
    }


def _float_kinds(value: ir.Value) -> dict[str, Callable[[Random], Array]]:
    shape = shape_of(value)
    meaningful = meaningful_range(value)
    if meaningful is not None:
        return {RANDOM: lambda random: random.uniform(*meaningful, shape)}
    levels = critical_numbers(value)
    largest = largest_magnitude(value)
    kinds: dict[str, Callable[[Random], Array]] = {
        "zeros": lambda random: random.choice([0.0, -0.0], shape),
        "levels": lambda random: random.choice(levels, shape),
        "small integers": lambda random: random.integers(-3, 4, shape),
        "constants": lambda random: np.full(shape, random.choice([1.0, -1.0, 0.5, -2.0])),
        RANDOM: lambda random: random.standard_normal(shape),
        "mostly zeros": lambda random: np.where(random.random(shape) < 0.9, 0, random.choice([-1.0, 1.0], shape)),
        EXTREMES: lambda random: random.choice([-largest, largest, 0.0], shape) * random.random(shape),
    }
    if not levels.size:
        del kinds["levels"]
    return kinds


def _integer_kinds(value: ir.Value) -> dict[str, Callable[[Random], Array]]:
    shape = shape_of(value)
    limits = np.iinfo(dtype_of(value))
    low, high = int(limits.min), int(limits.max)
    meaningful = meaningful_range(value)
    if meaningful is not None:
        first, last = max(low, int(meaningful[0])), min(high, int(meaningful[1]))
        return {RANDOM: lambda random: random.integers(first, last + 1, shape)}
    limit = index_limit(value)
    if limit is not None:
        low, high = max(low, -limit), limit - 1
    near = sorted({each for each in (-2, -1, 0, 1, 2) if low <= each <= high})
    return {
        "zeros": lambda _: np.zeros(shape),
        "small integers": lambda random: random.choice(near, shape),
        "constants": lambda random: np.full(shape, random.choice(near)),
        EXTREMES: lambda random: random.choice(np.array([low, high], limits.dtype), shape),
        RANDOM: lambda random: random.integers(max(low, -7), min(high, 7) + 1, shape),
    }


def _array(value: ir.Value, kind: str, random: Random) -> Array:
    kinds = _kinds(value)
    drawn = kinds.get(kind, kinds[RANDOM])(random)
    return np.asarray(drawn).astype(dtype_of(value))
