import numpy as np
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.analysis.moves import moves_elements
from qcompiler.frontend.dialects.plain.idioms import recognize_binarization
from qcompiler.frontend.load import load
from qcompiler.ir import oracle
from qcompiler.ir.view import number
from qcompiler.passes import DEFAULT
from qcompiler.passes.resolve_sign_zero import ResolveSignZero
from qcompiler.passes.runner import run_passes
from tests.frontend.files import write
from tests.passes.chains import Chain
from tests.passes.comparison import apply, graph, normal, ops_of, rewritten, signs, the

GENERATOR = np.random.default_rng(0)
CONSTANTS = {
    "w": normal(GENERATOR, 2, 2, 3, 3),
    "dead": np.stack([normal(GENERATOR, 2, 3, 3), np.zeros((2, 3, 3), np.float32)]),
    "signs": signs(GENERATOR, 2, 2, 3, 3),
    "signs2": signs(GENERATOR, 2, 2, 3, 3),
    "three": np.full((1, 2, 1, 1), 3, np.float32),
    "odd": signs(GENERATOR, 2, 2, 3, 3)[:, :1, :, :],
    "gamma": np.asarray([0.7, -0.3], np.float32).reshape(1, 2, 1, 1),
    "beta": np.asarray([0.2, 0.1], np.float32).reshape(1, 2, 1, 1),
    "half": np.asarray([0.2, 0.0], np.float32).reshape(1, 2, 1, 1),
    "nought": np.zeros((1, 2, 1, 1), np.float32),
    "one": np.ones((1, 2, 1, 1), np.float32),
    "low": np.asarray(-1, np.float32),
    "high": np.asarray(1, np.float32),
    "zero": np.asarray(0, np.float32),
}
SIGN = "y = qcompiler.Binarize <zero = 0.0> (v)"


def network(body: str):
    return graph(f"g (float[1, 2, 6, 6] x) => (y) {{ {body}\n {SIGN} }}", **CONSTANTS)


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv (x, w)\n v = Add (c, beta)",
        "c = Conv (x, w)\n n = Add (c, beta)\n v = Clip (n, low, high)",
        "c = Conv (x, w)\n n = Add (c, beta)\n r = Relu (n)\n m = Mul (r, gamma)\n v = Add (m, beta)",
        "c = Conv (x, w)\n n = Add (c, beta)\n p = MaxPool <kernel_shape = [2, 2]> (n)\n v = Add (p, half)",
        "c = Conv (x, w)\n n = Add (c, beta)\n d = Conv <pads = [1, 1, 1, 1]> (n, w)\n v = Add (d, n)",
    ],
    ids=["bias", "hardtanh", "relu then batch norm", "pool", "residual"],
)
def test_real_values_are_zero_only_by_rounding(body):
    model = network(body)
    assert apply(ResolveSignZero(), model).rewrites == 1
    sign = the(model, "Binarize")
    assert number(sign, "zero", 0) == 1
    assert "rounding" in sign.metadata_props["qcompiler.note"]


@pytest.mark.parametrize(
    "body",
    [
        "v = Identity (x)",
        "m = Mul (x, gamma)\n v = Add (m, beta)",
        "c = Conv (x, w)\n v = Mul (c, gamma)",
        "c = Conv (x, w)\n n = Add (c, beta)\n v = Relu (n)",
        "c = Conv (x, w)\n n = Add (c, beta)\n r = Relu (n)\n v = MaxPool <kernel_shape = [2, 2]> (r)",
        "c = Conv (x, w)\n n = Add (c, beta)\n v = Clip (n, zero, high)",
        "c = Conv (x, w)\n n = Add (c, beta)\n v = Round (n)",
        "c = Conv (x, w)\n n = Add (c, beta)\n m = Mul (n, nought)\n v = Add (m, half)",
        "b = qcompiler.Binarize (x)\n c = Conv (b, w)\n m = Mul (c, nought)\n v = Add (m, half)",
        "c = Conv (x, dead)\n v = Add (c, half)",
        "c = Conv (x, w)\n n = Add (c, beta)\n k = Clip (n, low, high)\n v = Add (k, one)",
        "c = Conv (x, w)\n n = Add (c, beta)\n r = Relu (n)\n v = GlobalAveragePool (r)",
    ],
    ids=[
        "graph input", "scaled graph input", "blank image without bias", "relu", "pooled relu", "clip at 0", "round",
        "gamma and beta 0", "gamma 0 of a continuous value", "dead channel", "clip bound moved to 0", "average of relu",
    ],
)  # fmt: skip
def test_where_zero_has_a_probability_the_sign_stays_ternary(body):
    model = network(body)
    result = apply(ResolveSignZero(), model)
    assert (result.rewrites, len(result.refusals)) == (0, 1)
    assert ops_of(model)[-1] == "Sign"
    assert "sign(0) = 0" in the(model, "Sign").metadata_props["qcompiler.reason"]
    assert model.graph.outputs[0].name == "y"


def integers(epilogue: str, weights: str = "signs", pads: str = "0, 0, 0, 0"):
    body = f"b = qcompiler.Binarize (x)\n acc = Conv <pads = [{pads}]> (b, {weights})\n {epilogue}"
    return network(body)


@pytest.mark.parametrize(
    ("epilogue", "resolved"),
    [
        ("v = Identity (acc)", False),
        ("v = Add (acc, one)", True),
        ("v = Add (acc, beta)", True),
        ("v = Add (acc, half)", False),
        ("m = Mul (acc, gamma)\n v = Add (m, beta)", True),
        ("p = MaxPool <kernel_shape = [2, 2]> (acc)\n v = Add (p, one)", True),
        ("p = MaxPool <kernel_shape = [2, 2]> (acc)\n v = Mul (p, gamma)", False),
    ],
)
def test_integer_sums_are_searched(epilogue, resolved):
    """The sums of 18 codes are even: 0 is attained, and an odd shift makes it unattainable."""
    model = integers(epilogue)
    result = apply(ResolveSignZero(), model)
    assert result.rewrites == int(resolved)
    assert ("Sign" in ops_of(model)) is not resolved
    if not resolved:
        assert "the sums of Conv 'Conv_acc' reach 0" in result.refusals[0].reason


@pytest.mark.parametrize(
    ("left", "right", "resolved"),
    [
        ("Identity (acc)", "Identity (acc2)", False),
        ("Add (acc, one)", "Add (acc2, three)", False),
        ("Mul (acc, gamma)", "Mul (acc2, beta)", False),
        ("Add (acc, beta)", "Add (acc2, half)", True),
        ("Add (acc, beta)", "Identity (real)", True),
    ],
    ids=["both reach 0", "odd and odd", "both scaled", "trained offsets", "real residual"],
)
def test_a_sum_of_sums_is_zero_where_coincidence_is_likely(left, right, resolved):
    body = f"""b = qcompiler.Binarize (x)
        acc = Conv (b, signs)
        acc2 = Conv (b, signs2)
        real = Conv (b, w)
        l = {left}
        r = {right}
        v = Add (l, r)"""
    assert apply(ResolveSignZero(), network(body)).rewrites == int(resolved)


def test_an_odd_fan_in_never_sums_to_zero_unless_zeros_pad_it():
    text = """g (float[1, 1, 6, 6] x) => (y) {{
        b = qcompiler.Binarize (x)
        v = Conv <pads = [{0}]> (b, odd)
        y = qcompiler.Binarize <zero = 0.0> (v) }}"""
    assert apply(ResolveSignZero(), graph(text.format("0, 0, 0, 0"), **CONSTANTS)).rewrites == 1
    assert apply(ResolveSignZero(), graph(text.format("1, 1, 1, 1"), **CONSTANTS)).rewrites == 0


def test_a_decision_uses_those_before_it():
    """The second sum is odd only because the first sign was found to be binary."""
    text = """g (float[1, 2, 6, 6] x) => (y) {
        c = Conv (x, w)
        n = Add (c, beta)
        a = qcompiler.Binarize <zero = 0.0> (n)
        p = Conv (a, signs)
        v = Add (p, one)
        y = qcompiler.Binarize <zero = 0.0> (v) }"""
    assert apply(ResolveSignZero(), graph(text, **CONSTANTS)).rewrites == 2


def test_other_conventions_are_left_alone():
    model = graph("g (float[4] x) => (y) { y = qcompiler.Binarize (x) }")
    assert apply(ResolveSignZero(), model).rewrites == 0
    assert ops_of(model) == ["Binarize"]


# --- random networks ----------------------------------------------------------------------------------------------


def sign_network(draw):
    """A sign in the middle of dyadic arithmetic: codes on any grid, a layer of any rank, constants on any axis."""
    shape = draw(st.sampled_from([(2, 5), (1, 2, 4), (1, 2, 3, 4), (1, 3, 4, 4)]))
    chain = Chain(draw(st.data()), shape)
    for name in draw(st.lists(st.sampled_from(["sign", "codes", "arithmetic", "pixels"]), max_size=3)):
        getattr(chain, name)()
    for name in draw(st.lists(st.sampled_from(["matmul", "gemm", "conv", "padded_conv"]), min_size=1, max_size=2)):
        getattr(chain, name)()
        after = ["arithmetic", "norm", "relu", "pool", "mean", "residual", "transpose", "sign", "pad"]
        for following in draw(st.lists(st.sampled_from(after), max_size=3)):
            getattr(chain, following)()
    chain.sign()
    return chain.model()


def zero_hitting(shape):
    """Inputs on which sums of few numbers are 0 often: constants, small integers, halves, and steps of pixels."""
    generator = np.random.default_rng(0)
    yield from (np.full(shape, number, np.float32) for number in (0, 1, -1))
    for low, high, scale in [(-1, 2, 1), (-1, 2, 1), (-2, 3, 0.5), (0, 4, 1), (-8, 9, 1 / 16)]:
        yield (generator.integers(low, high, shape) * scale).astype(np.float32)


def signs_of_zero_agree(tmp_path, proto):
    model = load(write(tmp_path, proto))
    recognize_binarization(model)
    run_passes(model, DEFAULT)
    before, after = oracle.Session(proto), oracle.Session(model)
    for x in zero_hitting([int(size) for size in model.graph.inputs[0].shape]):
        for name, expected in before.run({"x": x}).items():
            np.testing.assert_array_equal(after.run({"x": x})[name], expected)


NETWORKS = st.composite(sign_network)()
IN_A_FOLDER = [HealthCheck.function_scoped_fixture]


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=IN_A_FOLDER)
@given(NETWORKS)
def test_no_sign_of_zero_is_taken_for_another(tmp_path, proto):
    signs_of_zero_agree(tmp_path, proto)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, suppress_health_check=IN_A_FOLDER)
@given(NETWORKS)
def test_no_sign_of_zero_is_taken_for_another_in_many_networks(tmp_path, proto):
    signs_of_zero_agree(tmp_path, proto)


def cancelled(draw):
    """A network whose last sign has an offset that is what its layer gives at one place of an input; and this input."""
    chain = Chain(draw(st.data()), draw(st.sampled_from([(2, 5), (1, 2, 4), (1, 2, 3, 4), (1, 3, 4, 4)])))
    moved = ["scale", "relu", "clip", "residual", "pool"]
    if draw(st.booleans()):
        getattr(chain, draw(st.sampled_from(["sign", "codes", "pixels"])))()
        # what is no code becomes so close by numbers that differ within a channel that rounding decides
        moved += ["scaling", "arithmetic", "sign", "codes", "pixels"]
    for name in draw(st.lists(st.sampled_from(moved), max_size=3)):
        getattr(chain, name)()
    chain.coarse_layer()
    for name in draw(st.lists(st.sampled_from(["scale", "scaling", "residual", "mean", "transpose"]), max_size=2)):
        getattr(chain, name)()
    x = draw(st.sampled_from(list(zero_hitting(chain.first))[1:]))
    found = oracle.Session(chain.model()).run({"x": x})[chain.value]
    kept = 1 if found.ndim == 4 else found.ndim - 1
    offset = found[tuple(slice(0, size if axis == kept else 1) for axis, size in enumerate(found.shape))]
    chain.add("Sub", [chain.value, chain.stored(offset)])
    chain.sign()
    return chain.model(), x


CANCELLED = st.composite(cancelled)()
TO_SIGNS = DEFAULT[: [type(rewrite) for rewrite in DEFAULT].index(ResolveSignZero) + 1]


def zeros_are_kept(tmp_path, proto, x):
    """Where the reference gives 0, the sign stays: whether its input is 0 or a rounding error is then the machine's."""
    model = load(write(tmp_path, proto))
    recognize_binarization(model)
    run_passes(model, TO_SIGNS)
    (given,) = oracle.Session(proto).run({"x": x}).values()
    assert (given == 0).any()
    (found,) = oracle.Session(model).run({"x": x}).values()
    last = model.graph.outputs[0].producer()
    while moves_elements(last):
        last = last.inputs[0].producer()
    assert last.op_type == "Sign" or not (found != 0)[given == 0].any()


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=IN_A_FOLDER)
@given(CANCELLED)
def test_an_offset_that_cancels_a_sum_on_any_grid_keeps_the_sign(tmp_path, network):
    zeros_are_kept(tmp_path, *network)


@pytest.mark.parametrize(
    "quantizer",
    [
        "q = Div (x, third)\n c = Clip (q, nought, most)\n r = Round (c)\n a = Mul (r, third)",
        "q = QuantizeLinear (x, third)\n a = DequantizeLinear (q, third)",
    ],
)
def test_an_offset_that_cancels_rounded_sums_keeps_the_sign(tmp_path, quantizer):
    """9 * (0.2 rounded) is not the sum of the rounded products that the offset cancels."""
    text = f"""<ir_version: 10, opset_import: ["": 21]> g (float[1, 5] x) => (float[1, 1] y)
    <float third = {{0.33333334}}, float nought = {{0}}, float most = {{255}}> {{
        {quantizer}
        s = MatMul (a, w)
        o = Sub (s, offset)
        y = Sign (o) }}"""
    proto = onnx.parser.parse_model(text)
    x = np.asarray([[3, 0, 0, 3, 0]], np.float32)
    w = np.asarray([-0.6, 0, 0, -0.6, 0], np.float32).reshape(5, 1)
    third, nine = np.float32(0.33333334), np.float32(9)
    offset = (nine * third) * w[0] + (nine * third) * w[3]
    constants = {"w": w, "offset": offset}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    zeros_are_kept(tmp_path, proto, x)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None, suppress_health_check=IN_A_FOLDER)
@given(CANCELLED)
def test_an_offset_that_cancels_a_sum_on_any_grid_keeps_the_sign_in_many_networks(tmp_path, network):
    zeros_are_kept(tmp_path, *network)


def test_a_channel_without_weights_is_its_bias():
    """The other channel sums pixels up, and its trained bias is no multiple of their unit."""
    weights = np.zeros((2, 2, 1, 1), np.float32)
    weights[0] = [[[0.5]], [[-0.75]]]
    text = f"g (float[1, 2, 6, 6] x) => (y) {{ c = Conv (x, w)\n v = Add (c, b)\n {SIGN} }}"
    for bias, resolved in (([0.3, 0.25], 1), ([0.3, 0.0], 0), ([0.25, 0.25], 0)):
        b = np.asarray(bias, np.float32).reshape(1, 2, 1, 1)
        assert apply(ResolveSignZero(), graph(text, w=weights, b=b)).rewrites == resolved


@pytest.mark.parametrize(("shift", "resolved"), [("half", 0), ("one", 1)])
def test_a_factor_of_zero_leaves_the_shift(shift, resolved):
    assert apply(ResolveSignZero(), network(f"m = Mul (x, nought)\n v = Add (m, {shift})")).rewrites == resolved


@pytest.mark.parametrize(("shift", "resolved"), [(0.2, 1), (0.25, 0), (-0.5, 1), (-0.75, 0)])
def test_sums_of_scaled_sums_with_units_of_a_small_ratio(shift, resolved):
    """Odd multiples of 0.25 and of 0.5 cancel with a quarter, though no operand is ever 0."""
    weights = np.ones((2, 1, 3, 1), np.float32) * np.asarray([0.25, 0.5], np.float32).reshape(2, 1, 1, 1)
    text = f"""g (float[1, 1, 6, 6] x) => (y) {{
        b = qcompiler.Binarize (x)
        p = Conv (b, w1)
        q = Conv (b, w2)
        s = Add (p, q)
        v = Add (s, shift)
        {SIGN} }}"""
    model = graph(text, w1=weights[:1], w2=weights[1:], shift=np.asarray(shift, np.float32))
    assert apply(ResolveSignZero(), model).rewrites == resolved


@pytest.mark.parametrize(("window", "resolved"), [(2, 0), (3, 1)])
def test_means_of_sums_that_are_never_zero(window, resolved):
    """Two odd numbers cancel, and three do not."""
    text = f"""g (float[1, 1, 6, 6] x) => (y) {{
        b = qcompiler.Binarize (x)
        p = Conv (b, w)
        v = AveragePool <kernel_shape = [{window}, 1]> (p)
        {SIGN} }}"""
    assert apply(ResolveSignZero(), graph(text, w=np.full((1, 1, 3, 1), 0.3, np.float32))).rewrites == resolved


@pytest.mark.parametrize(("taps", "resolved"), [(4, 0), (6, 0), (9, 0), (5, 1)])
def test_a_border_takes_part_of_the_offset_away(taps, resolved):
    """0.3 and steps of 1/256 of a square root, at a corner, an edge and inside."""
    text = f"""g (float[1, 1, 6, 6] x) => (y) {{
        m = Mul (x, root)
        a = Add (m, offset)
        c = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3], strides = [1, 1], dilations = [1, 1]> (a, w)
        v = Sub (c, taken)
        {SIGN} }}"""
    constants = {"root": np.sqrt(np.float32(2)), "offset": np.float32(0.3), "taken": np.float32(0.3) * np.float32(taps)}
    arrays = {name: np.asarray(number, np.float32) for name, number in constants.items()}
    model = graph(text, **arrays, w=np.ones((1, 1, 3, 3), np.float32))
    assert apply(ResolveSignZero(), model).rewrites == resolved


def test_a_border_of_zeros_is_zero():
    text = f"g (float[1, 2, 6, 6] x) => (y) {{ c = Conv (x, w)\n n = Add (c, one)\n v = Pad (n, pads)\n {SIGN} }}"
    model = graph(text, **CONSTANTS, pads=np.asarray([0, 0, 1, 1, 0, 0, 1, 1]))
    assert apply(ResolveSignZero(), model).rewrites == 0


@pytest.mark.parametrize("pool", ["AveragePool", "MaxPool"])
def test_a_pool_mixes_the_columns_of_a_product(pool):
    """No column is 0 after its own shift, but windows hold two columns."""
    text = f"""g (float[1, 1, 4, 3] x) => (y) {{
        b = qcompiler.Binarize (x)
        m = MatMul (b, w)
        p = {pool} <kernel_shape = [1, 2]> (m)
        v = Add (p, shift)
        {SIGN} }}"""
    constants = {"w": np.asarray([[1, 2]] * 3, np.float32), "shift": np.asarray([1.5], np.float32)}
    assert apply(ResolveSignZero(), graph(text, **constants)).rewrites == 0


def test_quantized_activations_over_a_scale_that_is_no_binary_fraction():
    text = f"""g (float[2, 5] x) => (y) {{
        q = QuantizeLinear (x, scale, zero)
        d = DequantizeLinear (q, scale, zero)
        u = Div (d, divisor)
        v = MatMul (u, w)
        {SIGN} }}"""
    constants = {"scale": np.asarray(0.5, np.float32), "zero": np.asarray(1, np.uint8)}
    constants |= {"divisor": np.asarray([-0.75], np.float32), "w": np.asarray([[-2]] * 4 + [[-1]], np.float32)}
    assert apply(ResolveSignZero(), graph(text, **constants)).rewrites == 0


def test_columns_that_are_padded_are_others():
    """Columns of one product each are never 0 after their shifts; padded, each shift meets the border or the other."""
    text = f"""g (float[2, 3] x) => (y) {{
        b = qcompiler.Binarize (x)
        m = MatMul (b, w)
        p = Pad (m, pads)
        s = Mul (p, scales)
        v = Add (s, shifts)
        {SIGN} }}"""
    constants = {
        "w": np.asarray([[1, 2]] * 3, np.float32),
        "pads": np.asarray([0, 1, 0, 0]),
        "scales": np.asarray([1, 2, 3], np.float32),
        "shifts": np.asarray([0.5, 4, 0.5], np.float32),
    }
    assert apply(ResolveSignZero(), graph(text, **constants)).rewrites == 0


def test_before_and_after():
    constants = {
        "w": np.float32([[1], [1], [-1]]),
    }
    before = """g (float[2, 3] x) => (y) {
    s = qcompiler.Binarize (x)
    m = MatMul (s, w)
    y = qcompiler.Binarize <zero = 0.0> (m) }"""
    after = """
    s = qcompiler.Binarize (x)
    m = MatMul (s, [[1], [1], [-1]])
    y = qcompiler.Binarize <zero = 1> (m)"""
    assert rewritten(ResolveSignZero(), before, **constants) == after
