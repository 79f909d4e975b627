from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.analysis.weights import weight_bits
from qcompiler.errors import InvalidData, UnsupportedModel, UsageError
from qcompiler.ir import oracle
from qcompiler.ir.ops import attach_functions
from qcompiler.ir.view import constant_of, is_op
from qcompiler.passes.editing import remove_dead
from qcompiler.posttraining import checked_labels, quantize
from qcompiler.posttraining.absorb import absorb
from qcompiler.posttraining.cost import Cost, accuracy_of, error_of
from tests.lowering.interpreter import canonical
from tests.passes.comparison import graph

NETWORK = """<ir_version: 10, opset_import: ["" : 21]>
g (float[2,3,8,8] x) => (float[2,5] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    n = BatchNormalization (a, gamma, beta, mean, var)
    r = Relu (n)
    d = Conv <group = 6, pads = [1, 1, 1, 1]> (r, w2)
    s = Add (d, n)
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (s)
    f = Flatten (p)
    y = Gemm (f, w3, b3)
}"""


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def network() -> ir.Model:
    constants = {
        "w1": normal(6, 3, 3, 3), "b1": normal(6), "gamma": normal(6), "beta": normal(6), "mean": normal(6),
        "var": np.abs(normal(6)) + 1, "w2": normal(6, 1, 3, 3), "w3": normal(96, 5) * np.float32(0.1), "b3": normal(5),
    }  # fmt: skip
    return canonical(NETWORK, constants)


def data(count: int) -> list[dict[str, Any]]:
    return [{"x": sample} for sample in normal(count, 2, 3, 8, 8)]


@pytest.mark.parametrize("bits", [8, 5, 2, 1])
def test_layers_read_codes_and_weights_of_that_width(bits: int) -> None:
    model = network()
    quantize(model, data(4), bits)
    layers = [node for node in model.graph if is_op(node, "Conv", "MatMul")]
    assert len(layers) == 3
    ranges = IntegerRanges()
    for layer in layers:
        assert weight_bits(layer, constant_of(layer.inputs[1])) in range(1, bits + 1)
        scaled = layer.inputs[0].producer()
        assert scaled is not None and is_op(scaled, "Mul")
        codes = ranges.codes(scaled.inputs[0])
        assert codes is not None and codes.bits == bits


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_outputs_stay_near(bits: int) -> None:
    # every bit less doubles what rounding takes
    most = 0.02 * 2 ** (8 - bits)
    model, samples, others = network(), data(16), data(4)
    before = [oracle.run(model, sample) for sample in others]
    cost = quantize(model, samples, bits)
    attach_functions(model)
    after = [oracle.run(model, sample) for sample in others]
    assert error_of(before, after) < most and 0 < cost.error < most
    assert (cost.bits, cost.layers, cost.samples) == (bits, 3, 16)
    assert [node.op_type for node in model.graph].count("Quantize") == 3


def test_mean_outputs_are_those_of_the_float_network() -> None:
    model, samples = network(), data(16)
    mean = np.mean([oracle.run(model, sample)["y"] for sample in samples], axis=(0, 1))
    quantize(model, samples, 3)
    attach_functions(model)
    outputs = [oracle.run(model, sample)["y"] for sample in samples]
    np.testing.assert_allclose(np.mean(outputs, axis=(0, 1)), mean, atol=1e-4)


def test_data_that_cannot_calibrate_are_refused() -> None:
    broken = data(1)
    broken[0]["x"][0, 0, 0, 0] = np.nan
    with pytest.raises(InvalidData, match="'x' hold NaN"):
        quantize(network(), broken, 8)
    text = "g (float[3] x) => (y) { y = Relu (x) }"
    with pytest.raises(UnsupportedModel, match="nothing to quantize"):
        quantize(graph(text), [{"x": normal(3)}], 8)
    for labels in (np.zeros(3, np.int64), np.zeros((4, 1), np.int64), np.zeros(4)):
        with pytest.raises(UsageError, match="expected 4 integers"):
            checked_labels(labels, data(2))


def test_quantized_layers_are_left_alone() -> None:
    body = "b = qcompiler.Binarize (x)\n c = Mul (b, s)\n h = MatMul (c, w)\n y = MatMul (h, v)"
    text = f"g (float[4, 6] x) => (y) {{ {body} }}"
    model = graph(text, w=normal(6, 8), v=normal(8, 3), s=np.float32(0.5).reshape(1))
    assert quantize(model, [{"x": normal(4, 6)}], 8).layers == 1


OPS = st.lists(st.tuples(st.sampled_from(["Mul", "Div", "Add", "Sub"]), st.booleans(), st.booleans()), max_size=4)


@settings(deadline=None, max_examples=60)
@given(OPS, st.booleans(), st.integers(0, 999))
def test_chains_behind_a_layer_become_part_of_it(ops: list[tuple[str, bool, bool]], matrix: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    shape, channels = ("5, 6", (4,)) if matrix else ("1, 6, 5, 3", (1, 4, 1, 1))
    lines, constants, value = [], {}, "a"
    for i, (op, first, scalar) in enumerate(ops):
        first = first and op != "Div"
        constants[f"c{i}"] = (random.random((1,) if scalar else channels) + 0.5).astype(np.float32)
        operands = (f"c{i}", value) if first else (value, f"c{i}")
        value = f"v{i}"
        lines.append(f"{value} = {op} ({', '.join(operands)})")
    layer = "MatMul (x, w)" if matrix else "Conv (x, w)"
    weights = random.standard_normal((6, 4) if matrix else (4, 6, 1, 1)).astype(np.float32)
    text = f"g (float[{shape}] x) => (y) {{ a = {layer}\n" + "\n".join([*lines, f"y = Identity ({value})"]) + "}"
    model = graph(text, w=weights, **constants)
    inputs = oracle.random_inputs(model, seed)
    expected = oracle.run(model, inputs)["y"]
    made = absorb(next(iter(model.graph)), 4)
    remove_dead(model.graph)
    assert [node.op_type for node in model.graph] == [made.op_type, "Add", "Identity"]
    found = oracle.run(model, inputs)["y"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_costs() -> None:
    outputs = [{"y": np.float32([[3, 1], [0, 2]])}, {"y": np.float32([[1, 5]])}]
    assert accuracy_of(outputs, np.array([0, 0, 1])) == pytest.approx(2 / 3)
    assert error_of(outputs[1:], [{"y": np.float32([[1, 4]])}]) == pytest.approx(1 / np.sqrt(26))
    assert "accuracy 90.00 % in float, 88.50 % quantized" in str(Cost(4, 3, 10, 0.1, 0.9, 0.885))
    assert str(Cost(4, 3, 10, 0.1)).endswith("outputs differ by 10 % (root mean square, 10 samples)")
