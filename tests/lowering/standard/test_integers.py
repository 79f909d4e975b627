"""Div, Mod, BitShift and Pow on integers: against onnxruntime, and with values that end a C program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.lowering.region import Region, check, model

few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
pairs = st.sampled_from(
    [((), ()), ((3,), (2, 1)), ((2, 3, 4), (4,)), ((1, 3), (2, 1)), ((5,), (5,)), ((2, 1, 3), (4, 1))]
)


def between(rng: Any, shape: tuple[int, ...], dtype: str, low: int = -20) -> Any:
    return rng.integers(0 if dtype[0] == "u" else low, 20, shape).astype(dtype)


@few
@given(pairs, seeds, st.sampled_from(["int32", "int64"]), st.sampled_from(["Div", "Mod", "fmod"]))
def test_division(shapes: Any, rng: Any, dtype: str, kind: str) -> None:
    inputs = {"a": between(rng, shapes[0], dtype), "b": between(rng, shapes[1], dtype)}
    inputs["b"][inputs["b"] == 0] = -1
    flags = {"fmod": 1} if kind == "fmod" else {}
    check(model(helper.make_node(kind.replace("fm", "M"), ["a", "b"], ["y"], **flags), inputs), inputs)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("fmod", [0, 1])
def test_remainders_of_other_integers(dtype: str, fmod: int) -> None:
    rng = np.random.default_rng(fmod)
    inputs = {"a": between(rng, (4, 9), dtype), "b": between(rng, (9,), dtype)}
    inputs["b"][inputs["b"] == 0] = 3
    check(model(helper.make_node("Mod", ["a", "b"], ["y"], fmod=fmod), inputs), inputs)


def test_remainder_of_floats() -> None:
    rng = np.random.default_rng(0)
    inputs = {"a": rng.normal(0, 9, (4, 9)).astype(np.float32), "b": rng.normal(0, 3, 9).astype(np.float32)}
    check(model(helper.make_node("Mod", ["a", "b"], ["y"], fmod=1), inputs), inputs)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("kind", ["Div", "Mod"])
def test_division_by_zero_is_a_fault_and_the_smallest_number_wraps(kind: str, dtype: str) -> None:
    smallest = np.iinfo(dtype).min
    inputs = {"a": np.array([7, smallest, smallest], dtype), "b": np.array([2, -1, 1], dtype)}
    region = Region(model(helper.make_node(kind, ["a", "b"], ["y"]), inputs))
    expected = [3, smallest, smallest] if kind == "Div" else [1, 0, 0]
    np.testing.assert_array_equal(region.run(inputs)["y"], np.array(expected, dtype))
    for position in range(3):
        wrong = {**inputs, "b": inputs["b"].copy()}
        wrong["b"][position] = 0
        with pytest.raises(ZeroDivisionError):
            region.run(wrong)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts(dtype: str, direction: str) -> None:
    """Shifts by the width and more leave nothing."""
    bits = np.iinfo(dtype).bits
    inputs = {"a": np.full(5, np.iinfo(dtype).max, dtype), "b": np.array([0, 1, bits - 1, bits, 200], dtype)}
    found = Region(model(helper.make_node("BitShift", ["a", "b"], ["y"], direction=direction), inputs)).run(inputs)
    full, mask = int(np.iinfo(dtype).max), (1 << bits) - 1
    shifted = [(full << int(n) if direction == "LEFT" else full >> int(n)) & mask for n in inputs["b"]]
    np.testing.assert_array_equal(found["y"], np.array(shifted, dtype))


@few
@given(pairs, seeds, st.sampled_from(["int32", "int64", "float32"]), st.sampled_from(["int32", "int64", "float32"]))
def test_power(shapes: Any, rng: Any, base: str, exponent: str) -> None:
    a, b = rng.integers(-4, 5, shapes[0]).astype(base), rng.integers(0, 4, shapes[1]).astype(exponent)
    inputs = {"a": np.asarray(a), "b": np.asarray(b)}
    check(model(helper.make_node("Pow", ["a", "b"], ["y"]), inputs), inputs, tolerance=1e-6)
