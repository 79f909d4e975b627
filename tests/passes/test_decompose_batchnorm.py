import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qcompiler.passes.decompose_batchnorm import DecomposeBatchnorm
from tests.passes.comparison import apply, graph, ops_of, rewritten

NUMBERS = arrays(np.float32, 3, elements=st.floats(-100, 100, width=32))
VARIANCES = arrays(np.float32, 3, elements=st.floats(0, 1000, width=32))


@settings(max_examples=60, deadline=None)
@given(
    NUMBERS, NUMBERS, NUMBERS, VARIANCES, st.sampled_from(["2, 3", "2, 3, 5", "2, 3, 4, 4"]),
    st.sampled_from([1e-5, 1e-4, 1e-3]),
)  # fmt: skip
def test_bit_exact(gamma, beta, mean, var, shape, epsilon):
    text = f"g (float[{shape}] x) => (y) {{ y = BatchNormalization <epsilon = {epsilon}> (x, a, b, m, v) }}"
    model = graph(text, a=gamma, b=beta, m=mean, v=var)
    assert apply(DecomposeBatchnorm(), model).rewrites == 1
    assert ops_of(model) == ["Mul", "Add"]


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("y = BatchNormalization (x, a, a, a, run)", "not float32 constants"),
        ("y, m, v = BatchNormalization <training_mode = 1> (x, a, a, a, a)", "training_mode"),
    ],
)
def test_refusals(node, reason):
    model = graph(f"g (float[2, 3] x, float[3] run) => (y) {{ {node} }}", a=np.ones(3, np.float32))
    result = DecomposeBatchnorm()(model)
    assert ops_of(model) == ["BatchNormalization"]
    assert reason in result.refusals[0].reason


def test_before_and_after():
    constants = {
        "gamma": np.float32([2, 3]),
        "beta": np.float32([1, 0]),
        "mean": np.float32([4, 0]),
        "var": np.float32([4, 1]),
    }
    before = """g (float[1, 2, 4, 4] x) => (y) {
    y = BatchNormalization <epsilon = 0.0> (x, gamma, beta, mean, var) }"""
    after = """
    BatchNormalization_y.mul = Mul (x, [[[[1]], [[3]]]])
    y = Add (BatchNormalization_y.mul, [[[[-3]], [[0]]]])"""
    assert rewritten(DecomposeBatchnorm(), before, **constants) == after
