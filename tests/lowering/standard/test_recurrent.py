"""RNN, GRU and LSTM against onnxruntime, in all their forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from qcompiler.errors import UnsupportedModel
from qcompiler.ir import oracle
from qcompiler.lowering.standard.recurrent import DEFAULTS, GATES
from tests.lowering.region import Region, check, model

NAMES = ["Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"]
NAMES += ["Softsign", "Softplus"]
ALPHA = {"Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"}
BETA = {"Affine", "ScaledTanh", "HardSigmoid"}


@st.composite
def layers(draw: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A node, its run-time inputs, and its constants."""
    kind, rng = draw(st.sampled_from(["RNN", "GRU", "LSTM"])), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps, batch, inputs, hidden = (draw(st.integers(1, n)) for n in (5, 3, 5, 6))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    directions, rows = 2 if direction == "bidirectional" else 1, GATES[kind] * hidden

    def array(*shape: int) -> Any:
        return (rng.standard_normal(shape) * 0.6).astype(np.float32)

    given = {
        "x": array(steps, batch, inputs),
        "w": array(directions, rows, inputs),
        "r": array(directions, rows, hidden),
    }
    names = ["x", "w", "r", "", "", "", "", ""]
    optional = {"b": (3, array(directions, 2 * rows)), "h": (5, array(directions, batch, hidden))}
    optional["l"] = (4, rng.integers(0, steps + 1, batch).astype(np.int32))
    if kind == "LSTM":
        optional["c"], optional["p"] = (6, array(directions, batch, hidden)), (7, array(directions, 3 * hidden))
    for name, (position, content) in optional.items():
        if draw(st.booleans()):
            names[position], given[name] = name, content
    while not names[-1]:
        names.pop()
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if draw(st.booleans()):
        attributes["activations"] = [draw(st.sampled_from(NAMES)) for _ in DEFAULTS[kind] * directions]
        alphas = [0.7 for name in attributes["activations"] if name in ALPHA]
        betas = [0.4 for name in attributes["activations"] if name in BETA]
        attributes |= ({"activation_alpha": alphas} if alphas else {}) | ({"activation_beta": betas} if betas else {})
    if draw(st.booleans()):
        attributes["clip"] = 0.8
    if kind == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    outputs = ["y", "yh", "yc"][: draw(st.integers(1, 3 if kind == "LSTM" else 2))]
    constant = {"w", "r", "b", "p"} if draw(st.booleans()) else set()
    node = helper.make_node(kind, names, outputs, **attributes)
    return (
        node,
        {name: a for name, a in given.items() if name not in constant},
        {name: a for name, a in given.items() if name in constant},
    )


def compare(case: Any) -> None:
    """Within the error of onnxruntime's own tanh and sigmoid; layers that blow any error up say nothing."""
    node, inputs, constants = case
    proto = model(node, inputs, constants)
    assume(all(np.abs(array).max() < 100 for array in oracle.run(proto, inputs).values()))
    check(proto, inputs, tolerance=2e-5, cuts=(1, 2))


@settings(max_examples=20, deadline=None)
@given(layers())
def test_recurrent_layers(case: Any) -> None:
    compare(case)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(layers())
def test_many_recurrent_layers(case: Any) -> None:
    compare(case)


@pytest.mark.parametrize("function", NAMES)
def test_activations_at_extremes(function: str) -> None:
    """Where onnxruntime's result is finite, so is ours."""
    x = np.array([-1e4, -100, -90, -1, -1e-6, 0, 1e-6, 1, 88, 100, 1e4], np.float32).reshape(1, 11, 1)
    constants = {"w": np.ones((1, 1, 1), np.float32), "r": np.zeros((1, 1, 1), np.float32)}
    node = helper.make_node("RNN", ["x", "w", "r"], ["y"], hidden_size=1, activations=[function])
    check(model(node, {"x": x}, constants), {"x": x}, tolerance=1e-6)


@pytest.mark.parametrize(("kind", "attributes"), [("LSTM", {"input_forget": 1}), ("RNN", {"activations": ["Swish"]})])
def test_what_is_refused(kind: str, attributes: dict[str, Any]) -> None:
    inputs = {"x": np.zeros((2, 1, 3), np.float32)}
    rows = GATES[kind] * 4
    constants = {"w": np.zeros((1, rows, 3), np.float32), "r": np.zeros((1, rows, 4), np.float32)}
    node = helper.make_node(kind, ["x", "w", "r"], ["y"], "cell", hidden_size=4, **attributes)
    with pytest.raises(UnsupportedModel, match="node 'cell'"):
        Region(model(node, inputs, constants))
