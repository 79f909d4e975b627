import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.analysis.weights import signs_and_scales, two_values
from qcompiler.ir import oracle
from qcompiler.ir.view import constant_of
from qcompiler.passes import DEFAULT
from qcompiler.passes.extract_offsets import ExtractOffsets
from qcompiler.passes.runner import run_passes
from tests.passes.comparison import apply, graph, normal, ops_of, rewritten, signs

GENERATOR = np.random.default_rng(0)
SIGNS = signs(GENERATOR, 4, 5, 3, 3)
MEAN = np.asarray([0.25, -0.5, 0, 1], np.float32).reshape(4, 1, 1, 1)
CONSTANTS = {"a": np.asarray(0.5, np.float32), "b": np.asarray(0.25, np.float32)}
SHAPE = "kernel_shape = [3, 3], strides = [1, 1], dilations = [1, 1], group = 1"
SHIFTED = "s = qcompiler.Binarize (x)\n m = Mul (s, a)\n u = Add (m, b)"


def conv(body: str, weights, pads: str = "1, 1, 1, 1"):
    text = f"g (float[1, 5, 6, 6] x) => (y) {{ {body}\n y = Conv <{SHAPE}, pads = [{pads}]> (u, w) }}"
    return graph(text, w=weights, **CONSTANTS)


def test_activations_and_weights_of_two_values():
    model = conv(SHIFTED, SIGNS * 0.5 + MEAN)
    assert apply(ExtractOffsets(), model, exact=False).rewrites == 1
    assert ops_of(model) == ["Binarize", "Mul", "Conv", "Conv", "Mul", "Add", "Add"]
    product, window = [node for node in model.graph if node.op_type == "Conv"]
    np.testing.assert_array_equal(constant_of(product.inputs[1]), SIGNS * 0.5)
    assert constant_of(window.inputs[1]).shape == (1, 5, 3, 3)
    assert constant_of(model.graph.outputs[0].producer().inputs[1]).shape == (1, 4, 6, 6)


def test_without_a_border_the_constant_is_one_number_per_channel():
    model = conv(SHIFTED, SIGNS, "0, 0, 0, 0")
    assert apply(ExtractOffsets(), model, exact=False).rewrites == 1
    assert ops_of(model) == ["Binarize", "Mul", "Conv", "Add"]
    assert constant_of(model.graph.outputs[0].producer().inputs[1]).shape == (1, 4, 1, 1)


@pytest.mark.parametrize(
    "between", ["p = MaxPool <kernel_shape = [2, 2]> (v)", "p = Transpose <perm = [0, 1, 3, 2]> (v)"]
)
def test_offsets_move_through_layout_changes(between):
    body = SHIFTED.replace("u = Add", "v = Add") + f"\n {between}\n u = Identity (p)"
    model = conv(body, SIGNS)
    assert apply(ExtractOffsets(), model, exact=False).rewrites == 1
    assert ops_of(model).count("Add") == 1 and model.graph.outputs[0].producer().op_type == "Add"


def test_the_whole_way_to_binary_products():
    model = conv(SHIFTED, SIGNS * 0.3 + MEAN * 0.7)
    inputs = oracle.random_inputs(model, 1)
    before = oracle.run(model, inputs)["y"]
    run_passes(model, DEFAULT, check=True)
    assert ops_of(model).count("IntegerConv") == 2 and "Conv" not in ops_of(model)
    np.testing.assert_allclose(oracle.run(model, inputs)["y"], before, atol=1e-4)


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        (SHIFTED, normal(GENERATOR, 4, 5, 3, 3)),
        (SHIFTED, np.where(SIGNS > 0, SIGNS, normal(GENERATOR, 4, 1, 1, 1))[:, :, :2, :2]),
        ("s = qcompiler.Binarize (x)\n u = Mul (s, a)", SIGNS * 0.5),
        ("u = Add (x, b)", SIGNS),
        ("k = Clip (x)\n r = Round (k)\n m = Mul (r, a)\n u = Add (m, b)", SIGNS),
        ("s = qcompiler.Binarize (x)\n u = Add (s, a)\n y2 = Neg (u)", normal(GENERATOR, 4, 5, 3, 3)),
    ],
    ids=["real weights", "few weights", "no offset", "real activations", "many levels", "offset and real weights"],
)
def test_nothing_to_take_out(body, weights):
    shape = f"kernel_shape = [{weights.shape[2]}, {weights.shape[3]}]"
    text = f"g (float[1, 5, 6, 6] x) => (y) {{ {body}\n y = Conv <{shape}, pads = [0, 0, 0, 0]> (u, w) }}"
    assert apply(ExtractOffsets(), graph(text, w=weights, **CONSTANTS)).rewrites == 0


def test_two_valued_weights_in_groups_stay_with_a_reason():
    weights = signs(GENERATOR, 4, 2, 4, 4) * 0.5 + MEAN
    body = "s = qcompiler.Binarize (x)\n y = Conv <group = 2, pads = [0, 0, 0, 0]> (s, w)"
    result = apply(ExtractOffsets(), graph(f"g (float[1, 4, 6, 6] x) => (y) {{ {body} }}", w=weights))
    assert (result.rewrites, "in groups" in result.refusals[0].reason) == (0, True)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    strides=st.lists(st.integers(1, 3), min_size=2, max_size=2),
    dilations=st.lists(st.integers(1, 2), min_size=2, max_size=2),
    offsets=st.tuples(*[st.sampled_from([0.0, 0.5, -0.75])] * 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_convolution(pads, strides, dilations, offsets, seed):
    """Dyadic numbers, so that the sum in another order is exact."""
    generator = np.random.default_rng(seed)
    weights = signs(generator, 3, 6, 3, 2) * 0.25 + np.float32(offsets[1])
    attributes = f"kernel_shape = [3, 2], pads = {pads}, strides = {strides}, dilations = {dilations}, group = 1"
    text = f"""g (float[2, 6, 7, 8] x) => (y) {{
        s = qcompiler.Binarize (x)
        u = Add (s, t)
        y = Conv <{attributes}> (u, w) }}"""
    model = graph(text, w=weights, t=np.asarray(offsets[0] + 0.0, np.float32))
    assert apply(ExtractOffsets(), model, seed).rewrites == int(any(offsets))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(32, 70), st.integers(1, 5), st.sampled_from([(3,), (2, 3), (1, 2, 2)]), st.integers(0, 2**32 - 1))
def test_any_matrix_product(inner, outer, batch, seed):
    generator = np.random.default_rng(seed)
    weights = signs(generator, inner, outer) * 0.25 + generator.integers(-2, 3, outer).astype(np.float32) / 2
    shape = ", ".join(map(str, (*batch, inner)))
    text = f"g (float[{shape}] x) => (y) {{ s = qcompiler.Binarize (x)\n u = Sub (s, t)\n y = MatMul (u, w) }}"
    assert apply(ExtractOffsets(), graph(text, w=weights, t=np.asarray([0.5], np.float32)), seed).rewrites == 1


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_two_values_are_a_mean_and_a_magnitude(outer, seed):
    generator = np.random.default_rng(seed)
    values = np.sort(generator.integers(-8, 9, (outer, 2)), axis=1).astype(np.float32)
    picks = generator.integers(0, 2, (outer, 40))
    weights = np.take_along_axis(values, picks, axis=1)
    found = two_values(weights, 0)
    if found is None:
        assert signs_and_scales(weights, 0) is not None
        return
    centred, mean = found
    np.testing.assert_array_equal(centred + mean[:, None], weights)
    assert signs_and_scales(centred, 0) is not None
    assert two_values(normal(generator, 3, 40), 0) is None


def test_before_and_after():
    constants = {
        "half": np.float32(0.5),
        "w": np.ones((32, 2), np.float32),
    }
    before = """g (float[2, 32] x) => (y) {
    s = qcompiler.Binarize (x)
    h = Mul (s, half)
    a = Add (h, half)
    y = MatMul (a, w) }"""
    after = """
    s = qcompiler.Binarize (x)
    h = Mul (s, 0.5)
    MatMul_y.matmul = MatMul (h, float32[32, 2])
    y = Add (MatMul_y.matmul, [16, 16])"""
    assert rewritten(ExtractOffsets(), before, exact=False, **constants) == after
