import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir import oracle
from qcompiler.passes.fuse_wide_biases import FuseWideBiases
from tests.passes.comparison import graph, ops_of

CONV = """IntegerConv <kernel_shape = [2, 2], strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], group = 1,
    pad_value = 0.0, accumulator = "int32", low = 0.0>"""
SHAPES = {CONV: ([1, 300, 3, 3], (5, 300, 2, 2), (5, 1, 1)),
          'IntegerMatMul <accumulator = "int32", low = 0.0>': ([3, 1200], (1200, 5), (5,))}  # fmt: skip
TEXT = """g (float{shape} x) => (y) {{
    q = qcompiler.Quantize <low = 0.0, high = 255.0> (x, one, nought)
    s = qcompiler.{layer} (q, w)
    a = Add (s, small)
    b = Add (large, a)
    y = Mul (b, scale) }}"""


def model_of(layer, seed=0, **changed):
    shape, weights, bias = SHAPES[layer]
    rng = np.random.default_rng(seed)
    large = rng.integers(-(2**30), 2**30, bias).astype(np.float32)
    constants = {"one": 1, "nought": 0, "w": rng.integers(-128, 128, weights), "scale": 0.5,
                 "small": rng.integers(-64, 64, bias), "large": large} | changed  # fmt: skip
    return graph(TEXT.format(shape=shape, layer=layer), **{k: np.asarray(v, np.float32) for k, v in constants.items()})


@settings(max_examples=20, deadline=None)
@given(layer=st.sampled_from(list(SHAPES)), seed=st.integers(0, 999))
def test_a_bias_is_added_before_anything_is_rounded(layer, seed):
    """Against whole numbers of 64 bits; before, the sum was rounded twice."""
    model = model_of(layer, seed)
    weights, small, large = (_constant(model, name) for name in ("w", "small", "large"))
    assert FuseWideBiases()(model).rewrites == 1
    assert ops_of(model) == ["Quantize", layer.split()[0], "Mul"]
    x = np.random.default_rng(seed).integers(0, 256, SHAPES[layer][0])
    if x.ndim == 2:
        sums = x @ weights
    else:
        windows = np.lib.stride_tricks.sliding_window_view(x[0], (300, 2, 2))[0]
        sums = np.einsum("hwcij,ocij->ohw", windows, weights)[None]
    expected = (sums + small + large).astype(np.float32) * np.float32(0.5)
    np.testing.assert_array_equal(oracle.run(model, {"x": x.astype(np.float32)})["y"], expected)


def _constant(model, name):
    return model.graph.initializers[name].const_value.numpy().astype(np.int64)


@pytest.mark.parametrize("layer", SHAPES)
def test_fractions_stay(layer):
    assert FuseWideBiases()(model_of(layer, small=0.5)).rewrites == 0


def test_a_sum_that_does_not_fit_stays():
    assert FuseWideBiases()(model_of(CONV, large=2.0**31 - 2**8)).rewrites == 0
