import numpy as np
import pytest

from qcompiler.ir.view import constant_of
from qcompiler.passes.split_biases import SplitBiases
from tests.passes.comparison import apply, graph, normal, ops_of, rewritten, the

GENERATOR = np.random.default_rng(0)
CONSTANTS = {
    "w": normal(GENERATOR, 7, 3),
    "wt": normal(GENERATOR, 3, 7),
    "row": normal(GENERATOR, 3),
    "row2": normal(GENERATOR, 1, 3),
    "full": normal(GENERATOR, 5, 3),
    "nothing": np.zeros(3, np.float32),
}


@pytest.mark.parametrize(
    ("gemm", "expected"),
    [
        ("Gemm (x, w)", ["MatMul"]),
        ("Gemm (x, w, row)", ["MatMul", "Add"]),
        ("Gemm (x, w, row2)", ["MatMul", "Add"]),
        ("Gemm (x, w, full)", ["MatMul", "Add"]),
        ("Gemm (x, w, nothing)", ["MatMul"]),
        ("Gemm <transB = 1> (x, wt, row)", ["MatMul", "Add"]),
        ("Gemm <alpha = 0.5, beta = 2.0> (x, w, row)", ["MatMul", "Mul", "Add"]),
        ("Gemm <beta = 0.0> (x, w, row)", ["MatMul"]),
        ("Gemm <transA = 1> (t, w)", ["Transpose", "MatMul"]),
        ("Gemm <transB = 1> (x, v)", ["Transpose", "MatMul"]),
        ("Gemm <beta = 3.0> (x, w, bias)", ["MatMul", "Mul", "Add"]),
    ],
)
def test_gemm(gemm, expected):
    text = f"g (float[5, 7] x, float[7, 5] t, float[3, 7] v, float[3] bias) => (float[5, 3] y) {{ y = {gemm} }}"
    model = graph(text, **CONSTANTS)
    assert apply(SplitBiases(), model, exact=False).rewrites == 1
    assert ops_of(model) == expected


def test_a_bias_row_is_one_number_per_column():
    model = graph("g (float[5, 7] x) => (float[5, 3] y) { y = Gemm (x, w, row2) }", **CONSTANTS)
    SplitBiases()(model)
    assert constant_of(the(model, "Add").inputs[1]).shape == (3,)


def test_conv_keeps_its_attributes_and_gives_up_its_bias():
    text = "g (float[1, 2, 6, 6] x) => (y) { y = Conv <strides = [2, 2], pads = [1, 0, 1, 0], group = 2> (x, w, b) }"
    model = graph(text, w=normal(GENERATOR, 4, 1, 3, 3), b=normal(GENERATOR, 4))
    assert apply(SplitBiases(), model, exact=False).rewrites == 1
    assert ops_of(model) == ["Conv", "Add"]
    assert constant_of(the(model, "Add").inputs[1]).shape == (1, 4, 1, 1)


def test_a_run_time_bias_is_refused():
    text = "g (float[1, 2, 6, 6] x, float[4] b) => (y) { y = Conv (x, w, b) }"
    result = apply(SplitBiases(), graph(text, w=normal(GENERATOR, 4, 2, 3, 3)))
    assert result.refusals[0].reason == "the bias is not a constant"


def test_before_and_after():
    constants = {
        "w": np.float32([[1, 2, 3]]),
        "b": np.float32([4]),
    }
    before = """g (float[2, 3] x) => (y) {
    y = Gemm <alpha = 0.5, transB = 1> (x, w, b) }"""
    after = """
    Gemm_y.matmul = MatMul (x, [[1], [2], [3]])
    Gemm_y.mul = Mul (Gemm_y.matmul, [0.5])
    y = Add (Gemm_y.mul, [4])"""
    assert rewritten(SplitBiases(), before, exact=False, **constants) == after
