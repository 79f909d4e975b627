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


@pytest.mark.parametrize(
    ("a", "b", "product"),
    [
        ((2, 3, 4), (4, 5), SCALED),
        ((2, 3, 4), (1, 4, 5), SCALED),
        ((4,), (4, 5), SCALED),
        ((3, 4), (4, 5), "y = MatMul (x, q)"),
        ((3, 1400), (1400, 5), SCALED),
    ],
)
def test_others_stay(a, b, product):
    assert FuseIntegerProducts()(model_of(a, b, product)).rewrites == 0
