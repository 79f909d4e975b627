import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.analysis.weights import signs_and_scales
from qcompiler.ir import oracle
from qcompiler.ir.view import constant_of
from qcompiler.passes.extract_scales import ExtractScales
from tests.passes.comparison import apply, graph, normal, ops_of, rewritten, signs, the

GENERATOR = np.random.default_rng(0)
SIGNS = signs(GENERATOR, 4, 2, 3, 3)
ALPHA = np.asarray([0.5, 2, 0.25, 1], np.float32).reshape(4, 1, 1, 1)

NEGATIVE_POOL = """
    b = qcompiler.Binarize (x)
    m = Mul (b, n)
    p = MaxPool <kernel_shape = [2, 1]> (m)
    y = Conv (p, w)"""


def conv(body: str, weights, **constants):
    return graph(f"g (float[1, 2, 6, 6] x) => (y) {{ {body} }}", w=weights, **constants)


def weights_of(model, op="Conv"):
    return constant_of(the(model, op).inputs[1])


def test_weights_of_one_magnitude_per_channel_become_signs():
    model = conv("b = qcompiler.Binarize (x)\n y = Conv (b, w)", SIGNS * ALPHA)
    assert apply(ExtractScales(), model).rewrites == 1
    assert ops_of(model) == ["Binarize", "Conv", "Mul"]
    np.testing.assert_array_equal(weights_of(model), SIGNS)
    np.testing.assert_array_equal(constant_of(the(model, "Mul").inputs[1]), ALPHA.reshape(1, 4, 1, 1))


def test_a_channel_of_zeros_gets_scale_zero():
    alpha = ALPHA.copy()
    alpha[2] = 0
    model = conv("b = qcompiler.Binarize (x)\n y = Conv (b, w)", SIGNS * alpha)
    assert apply(ExtractScales(), model).rewrites == 1
    assert (np.abs(weights_of(model)) == 1).all()
    assert constant_of(the(model, "Mul").inputs[1]).reshape(-1)[2] == 0


def test_the_spread_of_straight_through_chains_is_accepted_and_noted():
    noise = 1 + 4e-7 * (GENERATOR.random(SIGNS.shape) - 0.5)
    model = conv("b = qcompiler.Binarize (x)\n y = Conv (b, w)", (SIGNS * 0.3 * noise).astype(np.float32))
    assert apply(ExtractScales(), model, exact=False).rewrites == 1
    assert "vary by" in the(model, "Conv").metadata_props["qcompiler.note"]


@pytest.mark.parametrize(
    "path",
    [
        "s = Identity (m)",
        "s = MaxPool <kernel_shape = [2, 2]> (m)",
        "s = Pad (m, pads)",
        "t = Transpose <perm = [0, 1, 3, 2]> (m)\n r = Reshape (t, shape)\n s = Reshape (r, back)",
        "s = Slice (m, one, five, axis)",
    ],
)
def test_activation_scales_move_through_layout_changes(path):
    body = f"b = qcompiler.Binarize (x)\n m = Mul (b, s0)\n {path}\n y = Conv (s, w)"
    model = conv(
        body.replace("s = Identity (m)\n y = Conv (s", "y = Conv (m"),
        SIGNS,
        s0=np.asarray([0.125], np.float32),
        pads=np.asarray([0, 0, 1, 1, 0, 0, 1, 1]),
        shape=np.asarray([1, 72]),
        back=np.asarray([1, 2, 6, 6]),
        one=np.asarray([1]),
        five=np.asarray([5]),
        axis=np.asarray([2]),
    )
    assert apply(ExtractScales(), model).rewrites == 1
    assert ops_of(model)[-2:] == ["Conv", "Mul"]
    assert "Mul" not in ops_of(model)[:-1]


def test_a_scale_with_another_reader_stays_for_it():
    body = "b = qcompiler.Binarize (x)\n m = Mul (b, s0)\n c = Conv <pads = [1, 1, 1, 1]> (m, w)\n y = Add (c, m)"
    model = conv(body, signs(GENERATOR, 2, 2, 3, 3), s0=np.asarray(0.5, np.float32))
    assert apply(ExtractScales(), model).rewrites == 1
    assert ops_of(model) == ["Binarize", "Mul", "Conv", "Mul", "Add"]


TWO_STREAMS = """
    b = qcompiler.Binarize (x)
    m = Mul (b, s0)
    n = Neg (x)
    c = qcompiler.Binarize (n)
    o = Mul (c, s1)
    k = Concat <axis = 1> (m, o)
    y = Conv (k, w)"""


def scales(first, second):
    return {"s0": np.asarray(first, np.float32), "s1": np.asarray(second, np.float32)}


@pytest.mark.parametrize(("second", "levels"), [(0.5, {-1, 1}), (0.25, {-2, -1, 1, 2}), (1.5, {-3, -1, 1, 3})])
def test_concatenated_codes_are_counted_in_the_smallest_scale(second, levels):
    model = conv(TWO_STREAMS, signs(GENERATOR, 3, 4, 3, 3), **scales(0.5, second))
    assert apply(ExtractScales(), model).rewrites == 1
    found = oracle.run(model, oracle.random_inputs(model, 0), [the(model, "Conv").inputs[0].name])
    assert set(np.unique(next(iter(found.values())))) == levels


def test_concatenated_codes_of_unrelated_scales_are_two_layers():
    model = conv(TWO_STREAMS, signs(GENERATOR, 3, 4, 3, 3), **scales(0.5, 0.3137))
    assert apply(ExtractScales(), model, exact=False).rewrites == 1
    assert ops_of(model) == ["Binarize", "Neg", "Binarize", "Conv", "Mul", "Conv", "Mul", "Add"]


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = Conv (x, w)", SIGNS * ALPHA),
        ("b = qcompiler.Binarize (x)\n y = Conv (b, w)", normal(GENERATOR, 4, 2, 3, 3)),
        ("b = qcompiler.Binarize (x)\n y = Conv (b, w)", np.where(SIGNS > 0, SIGNS, 0)),
        ("b = qcompiler.Binarize (x)\n m = Mul (b, n)\n p = Pad (m, pads, v)\n y = Conv (p, w)", SIGNS),
        ("b = qcompiler.Binarize (x)\n m = Mul (b, n)\n p = Clip (m, v, h)\n y = Conv (p, w)", SIGNS),
    ],
    ids=["real input", "real weights", "0 and 1", "border", "clip"],
)  # fmt: skip
def test_nothing_to_extract(body, weights):
    constants = {
        "n": np.asarray(-0.5, np.float32),
        "pads": np.asarray([0, 0, 1, 1, 0, 0, 1, 1]),
        "v": np.asarray(0.3, np.float32),
        "h": np.asarray(0.4, np.float32),
    }
    assert apply(ExtractScales(), conv(body, weights, **constants)).rewrites == 0


def test_the_largest_of_falling_numbers_are_the_smallest_codes():
    model = conv(NEGATIVE_POOL, SIGNS, n=np.asarray(-0.5, np.float32))
    assert apply(ExtractScales(), model).rewrites == 1
    assert ops_of(model) == ["Binarize", "Neg", "MaxPool", "Conv", "Mul"]


def test_many_unrelated_scales_of_channels_stay_with_a_reason():
    scale = GENERATOR.uniform(0.1, 1, (1, 8)).astype(np.float32)
    text = "g (float[3, 8] x) => (y) { b = qcompiler.Binarize (x)\n m = Mul (b, c)\n y = MatMul (m, w) }"
    result = apply(ExtractScales(), graph(text, c=scale, w=signs(GENERATOR, 8, 4)))
    assert result.rewrites == 0 and "too many scales" in result.refusals[0].reason


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.floats(2**-10, 8, width=32), st.integers(0, 2**32 - 1))
def test_any_matrix_product_within_a_few_ulp(inner, outer, scale, seed):
    generator = np.random.default_rng(seed)
    alpha = np.abs(normal(generator, outer))
    text = f"g (float[3, {inner}] x) => (y) {{ b = qcompiler.Binarize (x)\n m = Mul (b, s)\n y = MatMul (m, w) }}"
    weights = signs(generator, inner, outer) * alpha
    model = graph(text, w=weights, s=np.asarray([scale], np.float32))
    assert apply(ExtractScales(), model, seed, exact=False).rewrites == 1
    assert (np.abs(weights_of(model, "MatMul")) == 1).all()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 8),
    st.lists(st.floats(2**-10, 0.96875, width=32), min_size=4, max_size=4),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_integers_of_any_width_times_a_scale_per_channel(bits, scales, odd, seed):
    drawn = np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), SIGNS.shape)
    integers = (2 * drawn + 1 if odd else drawn).astype(np.float32)
    integers[:, 0, 0, :2] = (1, 2 if not odd else 3)
    factors = np.asarray(scales, np.float32).reshape(4, 1, 1, 1)
    model = conv("b = qcompiler.Binarize (x)\n y = Conv (b, w)", integers * factors)
    assert apply(ExtractScales(), model, exact=False).rewrites == 1
    found = weights_of(model)
    np.testing.assert_array_equal(found, np.rint(found))
    assert np.abs(found).max() < 2**8
    ratio = integers / np.where(found == 0, 1, found)
    assert all(np.unique(channel[channel != 0]).size == 1 for channel in ratio)


def test_real_weights_are_no_integers():
    model = conv("b = qcompiler.Binarize (x)\n y = Conv (b, w)", normal(GENERATOR, 4, 2, 3, 3))
    assert apply(ExtractScales(), model).rewrites == 0


def test_signs_and_scales_reject_what_is_not_constant_per_channel():
    assert signs_and_scales(np.asarray([[1, -1], [1, -1.00001]], np.float32), 0) is None
    assert signs_and_scales(np.asarray([[np.inf, -np.inf]], np.float32), 0) is None
    assert signs_and_scales(np.ones(3, np.float32), 0) is None


def test_before_and_after():
    constants = {
        "w": np.float32([[2, -3], [2, 3]]),
    }
    before = """g (float[2, 2] x) => (y) {
    s = qcompiler.Binarize (x)
    y = MatMul (s, w) }"""
    after = """
    s = qcompiler.Binarize (x)
    MatMul_y.matmul = MatMul (s, [[1, -1], [1, 1]])
    y = Mul (MatMul_y.matmul, [2, 3])"""
    assert rewritten(ExtractScales(), before, exact=False, **constants) == after
