"""Facts about values are proven: what onnxruntime computes always satisfies them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir import oracle
from qcompiler.ir.annotations import ValueFacts, analyse
from qcompiler.ir.ops import attach_functions


def parsed(body: str, signature: str = "float[2, 3, 6, 6] x", **constants: np.ndarray) -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["": 21, "qcompiler": 1]> g ({signature}) => (float[N] y) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    model = ir.from_proto(proto)
    attach_functions(model)
    return ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model)))


def check(model: ir.Model, seed: int = 0) -> dict[str, ValueFacts]:
    """The facts, after comparing them with the values of a run."""
    facts = dict(analyse(model))
    names = [value.name for node in model.graph for value in node.outputs if value.name in facts]
    inputs = oracle.random_inputs(model, seed)
    for name, array in oracle.run(model, inputs, names).items():
        fact = facts[name]
        numbers = np.ldexp(array.astype(np.float64), -fact.exponent)
        assert np.array_equal(numbers, np.rint(numbers)), name
        assert fact.low <= numbers.min() and numbers.max() <= fact.high, (name, fact, numbers.min(), numbers.max())
        assert not ((numbers - fact.low) % fact.step).any(), (name, fact)
    return facts


def codes(seed: int, *shape: int) -> np.ndarray:
    return np.sign(np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


F = np.float32
CASES = {
    "binarize": ("y = qcompiler.Binarize (x)", {}, ValueFacts(-1, 1, 2)),
    "ternary": ("y = qcompiler.Binarize <zero = 0.0> (x)", {}, ValueFacts(-1, 1, 1)),
    "conv": ("b = qcompiler.Binarize (x) y = Conv (b, w)", {"w": codes(0, 4, 3, 3, 3)}, ValueFacts(-27, 27, 2)),
    "conv-padded": (
        "b = qcompiler.Binarize (x) y = Conv <pads = [1, 1, 1, 1]> (b, w)",
        {"w": codes(1, 4, 3, 3, 3)},
        ValueFacts(-27, 27, 1),
    ),
    "conv-live": (
        "b = qcompiler.Binarize (x) v = qcompiler.Binarize (w) y = Conv (b, v)",
        {"w": codes(2, 4, 3, 3, 3)},
        ValueFacts(-27, 27, 2),
    ),
    "conv-scaled": (
        "b = qcompiler.Binarize (x) y = Conv (b, w)",
        {"w": codes(3, 4, 3, 3, 3) * F(0.25)},
        ValueFacts(-27, 27, 2, -2),
    ),
    "binary-conv": (
        "b = qcompiler.Binarize (x) y = qcompiler.BinaryConv <kernel_shape = [3, 3], strides = [1, 1], "
        "pads = [1, 1, 1, 1], dilations = [1, 1], group = 1, pad_value = -1.0> (b, w)",
        {"w": codes(4, 4, 3, 3, 3)},
        ValueFacts(-27, 27, 2),
    ),
    "matmul": ("b = qcompiler.Binarize (x) y = MatMul (b, w)", {"w": codes(5, 6, 5)}, ValueFacts(-6, 6, 2)),
    "quantizer": (
        "d = Div (x, s) c = Clip (d, l, h) r = Round (c) y = Mul (r, s)",
        {"s": F(0.5), "l": F(-4), "h": F(3)},
        ValueFacts(-4, 3, 1, -1),
    ),
    "threshold": (
        "b = qcompiler.Binarize (x) a = MatMul (b, w) y = qcompiler.Threshold (a, t, d)",
        {"w": codes(6, 6, 5), "t": F(2), "d": F(-1)},
        ValueFacts(-1, 1, 2),
    ),
    "concat": ("b = qcompiler.Binarize (x) n = Neg (b) y = Concat <axis = 1> (b, n)", {}, ValueFacts(-1, 1, 2)),
    "pad": (
        "b = qcompiler.Binarize (x) y = Pad (b, p)",
        {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
        ValueFacts(-1, 1, 1),
    ),
    "pad-minus": (
        "b = qcompiler.Binarize (x) y = Pad (b, p, v)",
        {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "v": F(-1)},
        ValueFacts(-1, 1, 2),
    ),
    "pool": ("b = qcompiler.Binarize (x) y = MaxPool <kernel_shape = [2, 2]> (b)", {}, ValueFacts(-1, 1, 2)),
    "sum": ("b = qcompiler.Binarize (x) a = Add (b, b) y = Sub (a, one)", {"one": F(1)}, ValueFacts(-3, 1, 2)),
    "affine": (
        "b = qcompiler.Binarize (x) a = Add (b, one) y = Mul (a, half)",
        {"one": F(1), "half": F(0.5)},
        ValueFacts(0, 2, 2, -1),
    ),
    "product": ("b = qcompiler.Binarize (x) c = Neg (b) y = Mul (b, c)", {}, ValueFacts(-1, 1, 2)),
    "reduce": (
        "b = qcompiler.Binarize (x) y = ReduceSum <keepdims = 0> (b, a)",
        {"a": np.array([2, 3])},
        ValueFacts(-36, 36, 2),
    ),
    "quantized": (
        "q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z)",
        {"s": F(0.125), "z": np.int8(3)},
        ValueFacts(-131, 124, 1, -3),
    ),
    "relu": ("b = Sign (x) y = Relu (b)", {}, ValueFacts(0, 1, 1)),
    "floor": ("b = qcompiler.Binarize (x) m = Mul (b, h) y = Floor (m)", {"h": F(1.5)}, ValueFacts(-2, 2, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_facts_of_one_value(case: str) -> None:
    body, constants, expected = CASES[case]
    assert check(parsed(body, **constants))["y"] == expected


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = Relu (x)", {}),
        ("c = Clip (x, l, h) y = Mul (c, c)", {"l": F(-1), "h": F(1)}),
        ("b = qcompiler.Binarize (x) y = AveragePool <kernel_shape = [3, 3]> (b)", {}),
        ("b = qcompiler.Binarize (x) y = Clip (b, l, h)", {"l": F(-0.3), "h": F(1)}),
        ("b = qcompiler.Binarize (x) y = MatMul (b, w)", {"w": np.full((6, 5), 3e6, np.float32)}),
        ("b = qcompiler.Binarize (x) y = Gemm <alpha = 0.3> (f, w)", {"f": codes(7, 2, 6), "w": codes(8, 6, 5)}),
        ("r = Round (x) y = Neg (r)", {}),
        ("b = qcompiler.Binarize (x) y = Div (b, s)", {"s": F(0.3)}),
    ],
)
def test_what_is_not_proven_has_no_facts(body: str, constants: dict[str, np.ndarray]) -> None:
    assert "y" not in check(parsed(body, **constants))


def test_indices_of_a_pool_are_no_codes() -> None:
    model = parsed("b = qcompiler.Binarize (x) y, i = MaxPool <kernel_shape = [2, 2]> (b)")
    facts = check(model)
    assert facts["y"].binary and "i" not in facts


def test_bound_of_exact_integers() -> None:
    for magnitude, known in ((2**20 - 1, True), (2**20, False)):
        weights = np.full((16, 1), magnitude, np.float32)
        facts = check(parsed("b = qcompiler.Binarize (x) y = MatMul (b, w)", "float[1, 16] x", w=weights))
        assert ("y" in facts) is known


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    bits=st.integers(1, 6),
    exponent=st.integers(-3, 3),
    tail=st.lists(st.sampled_from(["Neg", "Relu", "Add", "Sub", "Mul", "Clip", "Concat", "Round", "Div"]), max_size=6),
)
def test_chains_of_operators_satisfy_their_facts(seed: int, bits: int, exponent: int, tail: list[str]) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (6, 5)).astype(np.float32) * F(2.0**exponent)
    body, last = "b = qcompiler.Binarize (x) v0 = MatMul (b, w) ", "v0"
    for index, op in enumerate(tail):
        name = f"v{index + 1}"
        operands = {"Clip": f"{last}, l, h", "Concat": f"{last}, v0", "Div": f"{last}, four"}.get(op, last)
        if op in ("Add", "Sub", "Mul"):
            operands = f"{last}, k"
        axis = "<axis = 0>" if op == "Concat" else ""
        body += f"{name} = {op} {axis} ({operands}) "
        last = name
    constants = {"w": weights, "k": F(generator.integers(-3, 4)), "l": F(-3), "h": F(5), "four": F(4)}
    facts = check(parsed(f"{body} y = Identity ({last})", "float[4, 6] x", **constants), seed)
    assert facts["v0"].integer or exponent < 0
