import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir.view import constant_of
from qcompiler.passes.sink_pools import SinkPools
from tests.passes.comparison import apply, graph, normal, ops_of, rewritten, the

BIT = st.sampled_from([0, 1])
TEXT = """g (float[2, 3, 7, 7] x) => (y) {{
    p = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [{pad}, 0, {pad}, 1], ceil_mode = {ceil}> (x)
    m = Mul (p, gamma)
    a = Add (m, beta)
    y = qcompiler.Binarize (a) }}"""


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([-1.5, -0.3, 0.0, 0.4, 2.0]), min_size=3, max_size=3), BIT, BIT)
def test_batch_norm_of_any_sign_between_pool_and_sign(gamma, pad, ceil):
    constants = {
        "gamma": np.asarray(gamma, np.float32).reshape(1, 3, 1, 1),
        "beta": np.asarray([0.5, -0.5, 0.1], np.float32).reshape(1, 3, 1, 1),
    }
    model = graph(TEXT.format(pad=pad, ceil=ceil), **constants)
    assert apply(SinkPools(), model).rewrites == 1
    assert ops_of(model) == ["Mul", "Add", "Binarize", "IntegerMaxPool"]
    flip = constant_of(the(model, "IntegerMaxPool").inputs[1])
    assert flip.shape == (3, 1, 1)
    np.testing.assert_array_equal(flip.reshape(-1), np.where(np.asarray(gamma) < 0, -1, 1))


def test_a_pool_of_codes_becomes_binary():
    text = """g (float[1, 3, 6, 6] x) => (y) {
        b = qcompiler.Binarize (x)
        y = MaxPool <kernel_shape = [3, 3], strides = [3, 3], pads = [1, 1, 1, 1]> (b) }"""
    model = graph(text)
    assert apply(SinkPools(), model).rewrites == 1
    assert ops_of(model) == ["Binarize", "IntegerMaxPool"]


QUANTIZED = """g (float[1, 3, 6, 6] x) => (y) {{
    {0}
    y = qcompiler.IntegerConv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1],
                               group = 1> (q, w) }}"""
POOL = "MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 0, 1, 1]>"
LIMITS = {"low": np.asarray(0, np.float32), "high": np.asarray(3, np.float32)}


def test_a_pool_moves_behind_a_quantizer_of_few_levels():
    text = QUANTIZED.format(f"p = {POOL} (x)\n m = Mul (p, gamma)\n r = Round (m)\n q = Clip (r, low, high)")
    gamma = np.asarray([-1.5, 0.4, 2], np.float32).reshape(1, 3, 1, 1)
    model = graph(text, gamma=gamma, w=np.ones((2, 3, 1, 1), np.float32), **LIMITS)
    assert apply(SinkPools(), model).rewrites == 1
    assert ops_of(model) == ["Mul", "Round", "Clip", "IntegerMaxPool", "IntegerConv"]
    assert constant_of(the(model, "IntegerMaxPool").inputs[1]).reshape(-1).tolist() == [-1, 1, 1]


@pytest.mark.parametrize(("scale", "zero"), [([0.5], [0.0]), ([0.5, -0.25, 2.0], [1.0, 0.0, 2.0])])
def test_a_pool_moves_behind_a_canonical_quantizer(scale, zero):
    text = QUANTIZED.format(f"p = {POOL} (x)\n q = qcompiler.Quantize <low = 0.0, high = 3.0> (p, scale, zero)")
    constants = {name: np.asarray(v, np.float32).reshape(-1, 1, 1) for name, v in (("scale", scale), ("zero", zero))}
    model = graph(text, w=np.ones((2, 3, 1, 1), np.float32), **constants)
    assert apply(SinkPools(), model).rewrites == 1
    assert ops_of(model) == ["Quantize", "IntegerMaxPool", "IntegerConv"]
    flip = np.broadcast_to(constant_of(the(model, "IntegerMaxPool").inputs[1]).reshape(-1), 3)
    assert flip.tolist() == [1, np.sign(scale)[1 % len(scale)], 1]


@pytest.mark.parametrize(("high", "pooled"), [(15, "IntegerMaxPool"), (255, "IntegerMaxPool"), (256, "MaxPool")])
def test_a_pool_of_stored_codes_pools_codes(high, pooled):
    text = QUANTIZED.format(f"r = Round (x)\n k = Clip (r, low, high)\n q = {POOL} (k)")
    limits = {**LIMITS, "high": np.asarray(high, np.float32)}
    model = graph(text, w=np.ones((2, 3, 1, 1), np.float32), **limits)
    apply(SinkPools(), model)
    assert ops_of(model) == ["Round", "Clip", pooled, "IntegerConv"]


def test_codes_for_the_caller_stay_floats():
    text = f"""g (float[1, 3, 6, 6] x) => (y) {{
        r = Round (x)
        k = Clip (r, low, high)
        y = {POOL} (k) }}"""
    model = graph(text, **LIMITS)
    assert apply(SinkPools(), model).rewrites == 0
    assert ops_of(model) == ["Round", "Clip", "MaxPool"]


@pytest.mark.parametrize(
    "body",
    [
        "b = qcompiler.Binarize (p)\n y = Add (b, p)",
        "y = Relu (p)",
        "y = qcompiler.Binarize <zero = 0.0> (p)",
        "k = Abs (p)\n m = Mul (p, k)\n y = qcompiler.Binarize (m)",
    ],
    ids=["fork", "no sign", "ternary sign", "run-time factor"],
)
def test_refusals(body):
    text = "g (float[1, 3, 6, 6] x) => (y) {{ p = MaxPool <kernel_shape = [2, 2], pads = [0, 0, 0, 0]> (x)\n {0} }}"
    model = graph(text.format(body))
    before = ops_of(model)
    result = apply(SinkPools(), model)
    assert (result.rewrites, ops_of(model), len(result.refusals)) == (0, before, 1)


def test_constants_of_any_rank_survive_the_move():
    text = """g (float[1, 3, 6, 6] x) => (y) {
        p = MaxPool <kernel_shape = [2, 2], pads = [0, 0, 0, 0]> (x)
        a = Sub (c, p)
        r = PRelu (a, slope)
        k = Clip (r, low, high)
        y = qcompiler.Binarize (k) }"""
    constants = {
        "c": normal(np.random.default_rng(0), 3, 1, 1),
        "slope": np.full((3, 1, 1), 0.25, np.float32),
        "low": np.asarray(-1, np.float32),
        "high": np.asarray(0.5, np.float32),
    }
    model = graph(text, **constants)
    assert apply(SinkPools(), model).rewrites == 1
    assert constant_of(the(model, "IntegerMaxPool").inputs[1]).reshape(-1).tolist() == [-1, -1, -1]


def test_before_and_after():
    constants = {
        "scale": np.float32([2, -2]).reshape(1, 2, 1, 1),
    }
    before = """g (float[1, 2, 4, 4] x) => (y) {
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0]> (x)
    a = Mul (p, scale)
    y = qcompiler.Binarize (a) }"""
    after = """
    Mul_a.mul = Mul (x, [[[[2]], [[-2]]]])
    Binarize_y.binarize = qcompiler.Binarize <zero = 1> (Mul_a.mul)
    y = qcompiler.IntegerMaxPool <kernel_shape = [2, 2], strides = [2, 2]> (Binarize_y.binarize, [[[1]], [[-1]]])"""
    assert rewritten(SinkPools(), before, **constants) == after
