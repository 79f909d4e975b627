import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir.quantizing import ORDERS, ROUNDINGS
from qcompiler.ir.view import constant_of
from qcompiler.passes.decompose_batchnorm import DecomposeBatchnorm
from qcompiler.passes.fold_thresholds import FoldThresholds
from tests.passes.comparison import apply, graph, normal, ops_of, rewritten, signs, the

CONV = """
g (float[1, 3, 6, 6] x) => (float[1, 4, 6, 6] y) {{
    b = qcompiler.Binarize (x)
    acc = qcompiler.IntegerConv <kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1], dilations = [1, 1],
                                group = 1, pad_value = 0.0> (b, w)
    {0}
}}
"""


def conv(body: str, **constants):
    weights = signs(np.random.default_rng(0), 4, 3, 3, 3)
    return graph(CONV.format(body), w=weights, **constants)


def statistics(gamma, beta, mean, var):
    return {name: np.asarray(a, np.float32) for name, a in zip("gbmv", (gamma, beta, mean, var), strict=True)}


NUMBERS = st.floats(-4, 4, width=32)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from([0.0, -1.0, 1.0]), NUMBERS), min_size=4, max_size=4),
    st.lists(NUMBERS, min_size=4, max_size=4),
    st.lists(st.one_of(st.integers(-5, 5).map(float), NUMBERS), min_size=4, max_size=4),
    st.lists(st.floats(2**-6, 8, width=32), min_size=4, max_size=4),
    st.integers(0, 3),
)
def test_any_batch_norm_folds_exactly(gamma, beta, mean, var, seed):
    body = "n = BatchNormalization (acc, g, b1, m, v)\n y = qcompiler.Binarize (n)"
    numbers = statistics(gamma, beta, mean, var)
    model = conv(body, b1=numbers.pop("b"), **numbers)
    apply(DecomposeBatchnorm(), model)
    assert apply(FoldThresholds(), model, seed).rewrites == 1
    assert ops_of(model) == ["Binarize", "IntegerConv", "Threshold"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-12, 12), min_size=4, max_size=4), st.sampled_from([-1.0, 1.0]), st.integers(0, 3))
def test_a_root_exactly_on_an_integer(roots, gamma, seed):
    """BN(root) is exactly 0, and sign(0) = +1 on both sides of it."""
    body = "s = Sub (acc, mean)\n m = Mul (s, gamma)\n y = qcompiler.Binarize (m)"
    means = np.asarray(roots, np.float32).reshape(1, 4, 1, 1)
    model = conv(body, mean=means, gamma=np.asarray([gamma], np.float32))
    assert apply(FoldThresholds(), model, seed).rewrites == 1
    threshold = the(model, "Threshold")
    np.testing.assert_array_equal(constant_of(threshold.inputs[1])[0], means)
    np.testing.assert_array_equal(constant_of(threshold.inputs[2]), np.full_like(means, gamma))


def test_gamma_zero_is_a_constant_outside_the_reach():
    body = "m = Mul (acc, gamma)\n a = Add (m, beta)\n y = qcompiler.Binarize (a)"
    beta = np.asarray([-0.5, 0.0, 0.5, 0.0], np.float32).reshape(4, 1, 1)
    model = conv(body, gamma=np.zeros((4, 1, 1), np.float32), beta=beta)
    apply(FoldThresholds(), model)
    threshold = constant_of(the(model, "Threshold").inputs[1])
    np.testing.assert_array_equal(threshold.reshape(-1), [28, -27, -27, -27])


@pytest.mark.parametrize("zero", [1.0, -1.0])
def test_both_conventions_of_sign_zero_fold(zero):
    model = conv(f"y = qcompiler.Binarize <zero = {zero}> (acc)")
    apply(FoldThresholds(), model)
    threshold = constant_of(the(model, "Threshold").inputs[1])
    assert (np.ceil(threshold) == (0 if zero == 1 else 1)).all()


def test_scale_bias_relu_and_clip_fold_and_keep_their_names():
    body = """
        m = Mul (acc, scale)
        a = Add (m, bias)
        r = Relu (a)
        s = Add (r, shift)
        c = Clip (s, low, high)
        y = qcompiler.Binarize (c)"""
    generator = np.random.default_rng(1)
    constants = {name: normal(generator, 4, 1, 1) for name in ("scale", "bias", "shift")}
    model = conv(body, low=np.asarray(-1, np.float32), high=np.asarray(1, np.float32), **constants)
    assert apply(FoldThresholds(), model).rewrites == 1
    assert ops_of(model) == ["Binarize", "IntegerConv", "Threshold"]
    sources = the(model, "Threshold").metadata_props["qcompiler.source"]
    assert sources == "Mul_m,Add_a,Relu_r,Add_s,Clip_c,Binarize_y"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("m = Mul (acc, scale)\n b2 = qcompiler.Binarize (m)\n y = Add (b2, m)", "read by more than one node"),
        (
            "k = ReduceMean (x, axes)\n m = Mul (acc, k)\n y = qcompiler.Binarize (m)",
            "not a constant",
        ),
        ("m = Mul (acc, spatial)\n y = qcompiler.Binarize (m)", "varies within a channel"),
        ("m = PRelu (acc, slope)\n y = qcompiler.Binarize (m)", "negative slope"),
        ("y = qcompiler.Binarize <zero = 0.0> (acc)", "can be 0"),
        ("m = Mul (acc, huge)\n n = Mul (m, huge)\n o = Mul (n, huge)\n y = qcompiler.Binarize (o)", "overflows"),
    ],
    ids=["fork", "run-time factor", "factor per pixel", "not monotone", "ternary sign", "overflow"],
)
def test_refusals_leave_the_float_epilogue(body, reason):
    constants = {
        "scale": np.full(1, 0.3, np.float32),
        "axes": np.asarray([1]),
        "spatial": normal(np.random.default_rng(0), 6, 6),
        "slope": np.full((4, 1, 1), -0.5, np.float32),
        "huge": np.full(1, 1e30, np.float32),
    }
    model = conv(body, **constants)
    before = ops_of(model)
    result = apply(FoldThresholds(), model)
    assert (result.rewrites, ops_of(model)) == (0, before)
    (refusal,) = result.refusals
    assert refusal.node == "IntegerConv_acc" and reason in refusal.reason


def test_nothing_thresholds_behind_volumes():
    text = """g (float[1, 2, 4, 4, 4] x) => (float[1, 3, 3, 3, 3] y) {
        b = qcompiler.Binarize (x)
        acc = Conv (b, w)
        a = Add (acc, bias)
        y = qcompiler.Binarize (a) }"""
    bias = np.full((3, 1, 1, 1), 0.5, np.float32)
    model = graph(text, w=signs(np.random.default_rng(0), 3, 2, 2, 2, 2), bias=bias)
    before = ops_of(model)
    (refusal,) = apply(FoldThresholds(), model).refusals
    assert ops_of(model) == before and "more than two axes" in refusal.reason


def test_a_matrix_product_has_its_channels_last():
    text = """g (float[5, 7] x) => (float[5, 3] y) {
        b = qcompiler.Binarize (x)
        acc = qcompiler.IntegerMatMul (b, w)
        a = Add (acc, bias)
        y = qcompiler.Binarize (a) }"""
    model = graph(text, w=signs(np.random.default_rng(0), 7, 3), bias=np.asarray([0.5, -3, 9], np.float32))
    assert apply(FoldThresholds(), model).rewrites == 1
    np.testing.assert_array_equal(constant_of(the(model, "Threshold").inputs[1]), [[[-0.5, 3, -7]]])


def test_an_integer_first_layer_folds_too():
    text = """g (float[1, 2, 5, 5] x) => (float[1, 3, 3, 3] y) {
        c = Clip (x, low, high)
        r = Round (c)
        acc = Conv (r, w)
        m = Mul (acc, scale)
        a = Add (m, bias)
        y = qcompiler.Binarize (a) }"""
    generator = np.random.default_rng(3)
    model = graph(
        text,
        w=signs(generator, 3, 2, 3, 3),
        low=np.asarray(-128, np.float32),
        high=np.asarray(127, np.float32),
        scale=normal(generator, 1, 3, 1, 1),
        bias=normal(generator, 1, 3, 1, 1),
    )
    assert apply(FoldThresholds(), model).rewrites == 1
    assert ops_of(model) == ["Clip", "Round", "Conv", "Threshold"]


def test_real_sums_do_not_fold():
    text = "g (float[1, 4] x) => (float[1, 2] y) { acc = MatMul (x, w)\n y = qcompiler.Binarize (acc) }"
    model = graph(text, w=signs(np.random.default_rng(0), 4, 2))
    result = apply(FoldThresholds(), model)
    assert (result.rewrites, result.refusals) == (0, ())


QUANTIZED = """
    n = Mul (acc, scale)
    m = Add (n, bias)
    q = qcompiler.Quantize <low = {low}, high = {high}, rounding = "{rounding}", order = "{order}"> (m, step, zero)
    y = qcompiler.IntegerConv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1],
                               group = 1, pad_value = 0.0> (q, w2)"""


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_quantizer_of_few_codes_folds_exactly(data):
    """Every rounding and order, per tensor and per channel, with sums that land on halves."""
    low, levels = data.draw(st.integers(-4, 2)), data.draw(st.integers(1, 15))
    kind = {"rounding": data.draw(st.sampled_from(sorted(ROUNDINGS))), "order": data.draw(st.sampled_from(ORDERS))}
    body = QUANTIZED.format(low=float(low), high=float(low + levels), **kind)

    def channels(kind, size=4):
        drawn = data.draw(st.lists(kind, min_size=size, max_size=size))
        return np.asarray(drawn, np.float32).reshape(-1, 1, 1)

    steps = st.sampled_from([0.5, 1.0, 2.0, 0.37, 4.0])
    model = conv(
        body,
        scale=channels(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 0.3])),
        bias=channels(st.sampled_from([0.0, 0.5, -0.25, 1.7])),
        step=channels(steps, data.draw(st.sampled_from([1, 4]))),
        zero=channels(st.integers(-3, 3), data.draw(st.sampled_from([1, 4]))),
        w2=signs(np.random.default_rng(1), 4, 4, 1, 1),
    )
    assert apply(FoldThresholds(), model, data.draw(st.integers(0, 99))).rewrites == 1
    folded = ops_of(model)[2:-1]
    assert folded == ["Threshold"] or (levels > 3 and folded == ["Mul", "Add", "Round", "Clip"])
    if folded == ["Threshold"]:
        assert len(constant_of(the(model, "Threshold").inputs[1])) == levels


@pytest.mark.parametrize("levels", [4, 15, 16, 100, 255])
def test_many_levels_become_a_scale_and_an_offset(levels):
    """Where the sums of 27 signs tell the levels apart, and where they do not."""
    body = QUANTIZED.format(low=0.0, high=float(levels), rounding="ROUND", order="SHIFT_ROUND")
    model = conv(
        body,
        scale=np.float32([0.37, -0.5, 0.0, 0.031]).reshape(4, 1, 1),
        bias=np.float32([3.1, 1.7, 2.5, -0.25]).reshape(4, 1, 1),
        step=np.float32([0.071]),
        zero=np.float32([0.0]),
        w2=signs(np.random.default_rng(1), 4, 4, 1, 1),
    )
    assert apply(FoldThresholds(), model).rewrites == 1
    assert ops_of(model) == ["Binarize", "IntegerConv", "Mul", "Add", "Round", "Clip", "IntegerConv"]


def test_levels_on_no_line_are_compared_or_stay():
    """A bend of LeakyRelu in the middle of the levels."""
    for levels, folded in ((15, ["Threshold"]), (99, None)):
        body = QUANTIZED.format(low=-5.0, high=levels - 5.0, rounding="ROUND", order="SHIFT_ROUND")
        model = conv(
            body.replace("n = Mul (acc, scale)", "r = LeakyRelu <alpha = 0.1> (acc)\n    n = Mul (r, scale)"),
            scale=np.ones((4, 1, 1), np.float32),
            bias=np.zeros((4, 1, 1), np.float32),
            step=np.float32([0.5]),
            zero=np.float32([0.0]),
            w2=signs(np.random.default_rng(1), 4, 4, 1, 1),
        )
        result = apply(FoldThresholds(), model)
        if folded is None:
            assert result.rewrites == 0 and "no scale and offset" in result.refusals[0].reason
        else:
            assert ops_of(model)[2:-1] == folded


@pytest.mark.parametrize(
    ("operands", "reason"),
    [("(acc, spatial, zero)", "varies within a channel"), ("(acc, mean, zero)", "is not a constant")],
)
def test_quantizers_that_stay_say_why(operands, reason):
    body = f"""
    mean = ReduceMean (x)
    q = qcompiler.Quantize <low = 0.0, high = 3.0> {operands}
    y = qcompiler.IntegerConv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1],
                               group = 1, pad_value = 0.0> (q, w2)"""
    constants = {"spatial": np.abs(normal(np.random.default_rng(0), 6, 6)), "zero": np.asarray(0, np.float32)}
    model = conv(body, w2=signs(np.random.default_rng(1), 4, 4, 1, 1), **constants)
    result = apply(FoldThresholds(), model)
    assert result.rewrites == 0 and reason in result.refusals[0].reason


def test_before_and_after():
    constants = {
        "w": np.ones((8, 2), np.float32),
        "scale": np.float32([0.5, -0.5]),
        "shift": np.float32([1.25, 1.25]),
    }
    before = """g (float[2, 8] x) => (y) {
    s = qcompiler.Binarize (x)
    m = qcompiler.IntegerMatMul (s, w)
    a = Mul (m, scale)
    b = Add (a, shift)
    y = qcompiler.Binarize (b) }"""
    after = """
    s = qcompiler.Binarize (x)
    m = qcompiler.IntegerMatMul (s, w)
    y = qcompiler.Threshold <low = -1, step = 2> (m, [[[-2.5, 2.5]]], [[1, -1]])"""
    assert rewritten(FoldThresholds(), before, **constants) == after
