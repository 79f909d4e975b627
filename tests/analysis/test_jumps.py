from __future__ import annotations

import time

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from qcompiler.analysis.jumps import Exactness, jumping_operands, sources
from qcompiler.ir import oracle

HEAD = "<ir_version: 10, opset_import: ['' : 21, 'qcompiler' : 1]>"


def parsed(body: str, result: str = "float[1,4] y", constants: str = "") -> ir.Model:
    text = f"{HEAD} g (float[1,4] x, float[1,4] z) => ({result}) {constants} {{ {body} }}"
    model = onnx.parser.parse_model(text.replace("'", '"'))
    typed = onnx.shape_inference.infer_shapes(model)
    graph = ir.from_proto(typed)
    for node in graph.graph:
        for value in node.outputs:
            if value.dtype is None:
                value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape((1, 4))
    return graph


# fmt: off
UNARY = (
    "Abs", "Asinh", "Atan", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "Identity", "LeakyRelu", "Max", "Mean", "Min", "Mish", "Neg", "Relu", "Round", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sum", "Tanh", "ThresholdedRelu",
)
# fmt: on


@pytest.mark.parametrize("op", UNARY)
def test_an_op_jumps_if_its_results_do(op: str) -> None:
    count = 4001
    text = f"<ir_version: 10, opset_import: ['' : 21]> g (float[{count}] x) => (float[{count}] y) {{ y = {op}(x) }}"
    model = onnx.parser.parse_model(text.replace("'", '"'))
    x = np.linspace(-4, 4, count, dtype=np.float32)
    y = oracle.run(model, {"x": x})["y"].astype(np.float64)
    # no continuous one of them is as steep as 100
    jumps = bool((np.abs(np.diff(y)) > 100 * 8 / (count - 1)).any())
    (node,) = ir.from_proto(model).graph
    assert bool(jumping_operands(node)) == jumps


@pytest.mark.parametrize(
    ("body", "result", "operands"),
    [
        ("y = qcompiler.Binarize(x)", "float[1,4] y", ["x"]),
        ("y = qcompiler.Threshold(x, t, t)", "float[1,4] y", ["x"]),
        ("y = Mod <fmod = 1> (x, z)", "float[1,4] y", ["x", "z"]),
        ("y = Greater(x, z)", "bool[1,4] y", ["x", "z"]),
        ("y = LessOrEqual(x, t)", "bool[1,4] y", ["x"]),
        ("y = Equal(x, z)", "bool[1,4] y", ["x", "z"]),
        ("y = Cast <to = 6> (x)", "int32[1,4] y", ["x"]),
        ("y = Cast <to = 9> (x)", "bool[1,4] y", ["x"]),
        ("y = Cast <to = 11> (x)", "double[1,4] y", []),
        ("y = ArgMax <axis = 1> (x)", "int64[1,1] y", ["x"]),
        ("y = Hardmax(x)", "float[1,4] y", ["x"]),
        ("v, y = TopK(x, one)", "int64[1,1] y", ["x"]),
        ("y = QuantizeLinear(x, t)", "uint8[1,4] y", ["x"]),
        ("y, s, p = DynamicQuantizeLinear(x)", "uint8[1,4] y", ["x"]),
        ("y = Softmax(x)", "float[1,4] y", []),
    ],
)
def test_where_ops_jump(body: str, result: str, operands: list[str]) -> None:
    model = parsed(body, result, "<float t = {0.5}, int64[1] one = {1}>")
    assert [value.name for value in jumping_operands(model.graph[0])] == operands


def test_only_sums_of_real_numbers_are_undecided() -> None:
    model = parsed(
        "a = Round(x) b = Mul(a, t) c = Sub(b, z) d = Sign(c) e = Softmax(d) f = Mul(e, t) k = Sign(f) y = Floor(k)",
        constants="<float t = {0.1}>",
    )
    assert list(sources(model.graph, exact=False)) == ["f"]
    assert list(sources(model.graph, exact=True)) == ["x", "c", "f", "k"]


@pytest.mark.parametrize(
    ("weights", "undecided"), [("{1, -1, 1, 1}", []), ("{1, -2, 0, 3}", []), ("{0.1, -1, 1, 1}", ["s"])]
)
def test_integer_sums_are_exact(weights: str, undecided: list[str]) -> None:
    body = "b = qcompiler.Binarize(x) s = MatMul(b, w) y = Sign(s)"
    model = parsed(body, "float[1,1] y", f"<float[4,1] w = {weights}>")
    assert list(sources(model.graph, exact=False)) == undecided


@pytest.mark.parametrize("op", ["Softmax", "Exp", "Erf", "Tanh", "GlobalAveragePool"])
def test_what_libraries_compute_in_their_own_way_is_not_exact(op: str) -> None:
    model = parsed(f"y = {op}(x)")
    assert not Exactness().holds(model.graph[0].outputs[0])


def test_shared_values_are_seen_once() -> None:
    doubled = " ".join(f"v{i + 1} = Add(v{i}, v{i})" for i in range(2000))
    model = parsed(f"v0 = Softmax(x) {doubled} y = Sign(v2000)")
    start = time.monotonic()
    assert list(sources(model.graph, exact=False)) == ["v2000"]
    assert time.monotonic() - start < 5
