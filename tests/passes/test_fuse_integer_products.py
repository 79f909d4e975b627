import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir import oracle
from qcompiler.passes.fuse_integer_products import FuseIntegerProducts
from tests.passes.comparison import graph

TEXT = """g (float[{a}] x, float[{b}] w) => (y) {{
    p = qcompiler.Quantize <low = {low}, high = {high}, order = "ROUND_SHIFT"> (x, one, nought)
    q = qcompiler.Quantize <low = -100.0, high = 27.0, order = "ROUND_SHIFT"> (w, one, nought)
    {product} }}"""
SCALED = "a = Mul (p, s) b = Mul (t, q) y = MatMul (a, b)"


def model_of(a, b, product=SCALED, low=-128, high=127):
    text = TEXT.format(a=str(list(a))[1:-1], b=str(list(b))[1:-1], product=product, low=float(low), high=float(high))
    return graph(text, one=np.float32(1), nought=np.float32(0), s=np.float32(0.5), t=np.float32(0.25))


@settings(max_examples=30, deadline=None)
@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    sizes=st.tuples(*[st.integers(1, 40)] * 3),
    low=st.sampled_from([-128, -255, 0]),
    scaled=st.booleans(),
    seed=st.integers(0, 99),
)
def test_products_are_equal(lead, sizes, low, scaled, seed):
    """Scales are powers of two: even the last bit is the same."""
    m, k, n = sizes
    a, b = (*lead, m, k), (*lead, k, n)
    product = SCALED if scaled else "y = MatMul (p, q)"
    before, after = (model_of(a, b, product, low, low + 255) for _ in range(2))
    assert FuseIntegerProducts()(after).rewrites == 1
    generator = np.random.default_rng(seed)
    inputs = {"x": generator.normal(size=a) * 99, "w": generator.normal(size=b) * 99}
    inputs = {name: array.astype(np.float32) for name, array in inputs.items()}
    np.testing.assert_array_equal(*(oracle.run(model, inputs)["y"] for model in (before, after)))


def test_sums_beyond_floats_are_rounded_once():
    a, b = (3, 8000), (8000, 5)
    model = model_of(a, b, "y = MatMul (p, q)")
    assert FuseIntegerProducts()(model).rewrites == 1
    generator = np.random.default_rng(0)
    x, w = generator.integers(-128, 128, a), generator.integers(-100, 28, b)
    x[0], w[:, 0] = -128 + np.arange(8000) % 2, -100
    found = oracle.run(model, {"x": x.astype(np.float32), "w": w.astype(np.float32)})["y"]
    assert np.abs(x @ w).max() > 2**26
    np.testing.assert_array_equal(found, (x @ w).astype(np.float32))


@pytest.mark.parametrize(
    ("a", "b", "product"),
    [
        ((2, 3, 4), (4, 5), SCALED),
        ((2, 3, 4), (1, 4, 5), SCALED),
        ((4,), (4, 5), SCALED),
        ((3, 4), (4, 5), "y = MatMul (x, q)"),
        ((1, 8800), (8800, 2), SCALED),
    ],
)
def test_others_stay(a, b, product):
    assert FuseIntegerProducts()(model_of(a, b, product)).rewrites == 0
