import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.analysis.monotone import MonotoneOp, monotone_op, run_chain
from qcompiler.ir import oracle
from tests.passes.comparison import graph, normal

CONSTANTS = {
    "Mul": "Mul (x, c)",
    "Add": "Add (c, x)",
    "Sub": "Sub (c, x)",
    "Div": "Div (x, c)",
    "PRelu": "PRelu (x, p)",
    "Max": "Max (x, c)",
    "Min": "Min (c, x)",
    "Clip": "Clip (x, low, high)",
    "Relu": "Relu (x)",
    "LeakyRelu": "LeakyRelu <alpha = 0.3> (x)",
    "Neg": "Neg (x)",
}


@given(st.lists(st.sampled_from(sorted(CONSTANTS)), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_a_chain_gives_the_bits_of_onnxruntime(names, seed):
    generator = np.random.default_rng(seed)
    body = "\n".join(
        f"v{i + 1} = {CONSTANTS[name].replace('(x', f'(v{i}').replace(', x)', f', v{i})')}"
        for i, name in enumerate(names)
    )
    text = f"g (float[2, 5, 3, 3] v0) => (float[2, 5, 3, 3] v{len(names)}) {{ {body} }}"
    constants = {"c": normal(generator, 5, 1, 1), "p": np.abs(normal(generator, 1, 5, 1, 1))}
    bounds = {"low": np.float32(-0.7).reshape(()), "high": np.float32(0.4).reshape(())}
    model = graph(text, **constants, **bounds)
    ops = []
    for node in model.graph:
        read = monotone_op(node, next(value for value in node.inputs if value.name.startswith("v")), 1)
        assert isinstance(read, MonotoneOp), read
        ops.append(read)
    inputs = oracle.random_inputs(model, seed)
    channels_last = run_chain(tuple(ops), np.moveaxis(inputs["v0"], 1, -1))
    expected = oracle.run(model, inputs)[f"v{len(names)}"]
    np.testing.assert_array_equal(np.moveaxis(channels_last, -1, 1), expected)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = PRelu (x, c)", "negative slope"),
        ("y = Div (x, nought)", "by zero"),
        ("y = Div (c, x)", "the value itself"),
        ("y = Mul (x, map)", "varies within a channel"),
        ("y = Mul (x, x)", "not a constant"),
        ("y = Tanh (x)", "keeps order"),
        ("y = Add (x, wide)", "changes the shape"),
        ("y = Mul (x, infinite)", "not finite"),
    ],
)
def test_what_is_no_step_says_why(body, reason):
    constants = {
        "c": np.asarray([-1, 1], np.float32).reshape(2, 1, 1),
        "nought": np.zeros(1, np.float32),
        "map": np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3),
        "wide": np.ones((4, 1, 1, 1), np.float32),
        "infinite": np.full(1, np.inf, np.float32),
    }
    model = graph(f"g (float[1, 2, 3, 3] x) => (y) {{ {body} }}", **constants)
    read = monotone_op(model.graph[0], model.graph.inputs[0], 1)
    assert isinstance(read, str) and reason in read
