"""Sums that cancel, and layers with open and shut gates, stay as close to onnxruntime as rounding explains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import qcompiler
from qcompiler.ir import oracle
from qcompiler.lowering.standard.recurrent import GATES
from qcompiler.roundings import rounding
from qcompiler.ties import BOUND, wrong_elements
from tests.lowering.region import Region, model

STEPS, BATCH, INPUTS, HIDDEN = 4, 2, 3, 3
REGIONS: dict[str, Region] = {}


def region(kind: str) -> Region:
    """A compiled layer whose operands are all inputs."""
    if kind not in REGIONS:
        names = ["x", "w", "r", "b", "", "h", *(["c"] if kind == "LSTM" else [])]
        zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes(kind).items()}
        outputs = ["y", "yh", "yc"][: len(names) - 4]
        node = helper.make_node(kind, names, outputs, hidden_size=HIDDEN)
        REGIONS[kind] = Region(model(node, zeros))
    return REGIONS[kind]


def shapes(kind: str) -> dict[str, tuple[int, ...]]:
    rows = GATES[kind] * HIDDEN
    found = {"x": (STEPS, BATCH, INPUTS), "w": (1, rows, INPUTS), "r": (1, rows, HIDDEN), "b": (1, 2 * rows)}
    states = ("h", "c") if kind == "LSTM" else ("h",)
    return found | {name: (1, BATCH, HIDDEN) for name in states}


def excused(kind: str, inputs: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> bool:
    """Whether each output is within the bound of onnxruntime's, or its elements are within what rounding explains."""
    (node,) = ir.from_proto(region(kind).proto).graph
    allowed = rounding(node, inputs)
    for name, expected in oracle.run(region(kind).proto, inputs).items():
        wrong = wrong_elements(found[name], expected, exactly=False)
        if (wrong & (np.abs(found[name].astype(np.float64) - expected) >= allowed)).any():
            return False
    return True


def amplifies(kind: str, inputs: dict[str, np.ndarray]) -> bool:
    """Whether the feedback makes more of a difference in the gates' inputs than steps without feedback could.

    A gate's slope is at most 1/4, a candidate's 1; with |n - h| <= 2 max(1, |h0|) a step without feedback moves the
    state by at most 1.5 max(1, |h0|) times what its inputs move.
    """
    moved = 2.0**-10
    before = oracle.run(region(kind).proto, inputs)
    after = oracle.run(region(kind).proto, {**inputs, "b": inputs["b"] + np.float32(moved)})
    state = max(1.0, float(np.abs(inputs["h"]).max()))
    return any(np.abs(after[name] - before[name]).max() > 1.5 * STEPS * state * moved for name in before)


@st.composite
def operands(draw: Any, kind: str) -> dict[str, np.ndarray]:
    """Small integers, constants and numbers that shut gates."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def array(shape: tuple[int, ...]) -> np.ndarray:
        how = draw(st.sampled_from(["constant", "integers", "any", "zeros"]))
        size = draw(st.sampled_from([0.5, 1, 2, 4]))
        drawn = {
            "constant": np.full(shape, size * draw(st.sampled_from([-1, 1]))),
            "integers": random.integers(-3, 4, shape),
            "any": random.standard_normal(shape) * size,
            "zeros": np.zeros(shape),
        }
        return drawn[how].astype(np.float32)

    return {name: array(shape) for name, shape in shapes(kind).items()}


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_shut_gates(kind: str, data: st.DataObject) -> None:
    inputs = data.draw(operands(kind))
    assume(not amplifies(kind, inputs))
    assert excused(kind, inputs, region(kind).run(inputs))


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_what_is_wrong_is_not_rounding(kind: str) -> None:
    random = np.random.default_rng(0)
    inputs = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes(kind).items()}
    right = oracle.run(region(kind).proto, inputs)
    assert excused(kind, inputs, right)
    for name, array in right.items():
        assert not excused(kind, inputs, {**right, name: array + np.float32(2 * BOUND * np.abs(array).max())})


def test_only_gates_and_sums_are_excused() -> None:
    others = [
        helper.make_node("RNN", ["x", "w", "r"], ["y"], hidden_size=HIDDEN),
        helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=HIDDEN, activations=["Affine", "Tanh"]),
    ]
    for node in others:
        zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes(node.op_type).items() if name in "xwr"}
        (found,) = ir.from_proto(model(node, zeros)).graph
        assert rounding(found, {}) == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), fused=st.booleans(), subtract=st.booleans())
def test_what_is_left_of_a_sum_that_cancels(seed: int, fused: bool, subtract: bool) -> None:
    """A product less a constant next to it, rounded once or twice; twice the rounding of the product is too much."""
    rng = np.random.default_rng(seed)
    x, scale = (rng.uniform(0.1, 9, size).astype(np.float32) for size in (40, 1))
    product = x * scale
    offset = (product[:1] if subtract else -product[:1]) * np.float32(1 + 2.0**-22)
    op = "Sub" if subtract else "Add"
    terms = [helper.make_node("Mul", ["x", "s"], ["p"]), helper.make_node(op, ["p", "o"], ["y"])]
    graph = helper.make_graph(
        terms,
        "sum",
        [helper.make_tensor_value_info("x", 1, [40])],
        [helper.make_tensor_value_info("y", 1, [40])],
        [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(offset, "o")],
    )
    _, node = ir.from_proto(helper.make_model(graph)).graph
    sign = np.float32(-1 if subtract else 1)
    twice = product + sign * offset
    once = (x.astype(np.float64) * scale + sign * offset.astype(np.float64)).astype(np.float32)
    allowed = rounding(node, {"p": product, "y": twice})
    assert np.abs((once if fused else twice).astype(np.float64) - twice).max() <= allowed
    assert allowed <= 4 * np.spacing(max(np.abs(product).max(), np.abs(offset).max()))
    assert rounding(node.inputs[0].producer(), {"x": x}) == 0


def test_a_normalization_that_is_given_its_mean_compiles(tmp_path: Path) -> None:
    """Verification tries the numbers at which floats change their sign."""
    ones = np.ones(1, np.float32)
    weights = {"g": ones, "b": 0 * ones, "m": -0.08 * ones, "v": 0.84 * ones, "w": np.ones((2, 1, 3, 3), np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["n"]),
            helper.make_node("Conv", ["n", "w"], ["y"], pads=[1, 1, 1, 1]),
        ],
        "normalized",
        [helper.make_tensor_value_info("x", 1, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("y", 1, [1, 2, 8, 8])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    qcompiler.compile(path, target="x86", mcpu=["baseline"], output=tmp_path / "out")
