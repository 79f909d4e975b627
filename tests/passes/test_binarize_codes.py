import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import Codes
from qcompiler.ir.view import number
from qcompiler.passes.binarize_codes import BinarizeCodes, form_of, weight_planes
from qcompiler.passes.spell_out_shapes import SpellOutShapes
from tests.passes.comparison import apply, graph, normal, ops_of, signs

GENERATOR = np.random.default_rng(0)
CONSTANTS = {
    name: np.asarray(value, np.float32)
    for name, value in (
        ("zero", 0),
        ("one", 1),
        ("two", 2),
        ("minus", -1),
        ("three", 3),
        ("minus4", -4),
        ("three", 3),
        ("five", 5),
        ("half", 0.5),
    )
}
CODES = {
    "binary": "a = qcompiler.Binarize (x)",
    "sign": "a = Sign (x)",
    "unit step": "c = Clip (x, zero, one)\n a = Round (c)",
    "compared": "c = Greater (x, half)\n a = Cast <to = 1> (c)",
    "selected": "c = Less (x, half)\n a = Where (c, five, one)",
    "two bits, narrow": "c = Clip (x, minus, one)\n a = Round (c)",
    "two bits": "c = Clip (x, zero, three)\n a = Round (c)",
    "three bits": "d = Mul (x, two)\n c = Clip (d, minus4, three)\n a = Round (c)",
    "five levels": "d = Mul (x, two)\n c = Clip (d, minus, three)\n a = Round (c)",
    "three levels from 0": "c = Clip (x, zero, two)\n a = Round (c)",
    "sum of two": "b = qcompiler.Binarize (x)\n n = Sub (x, half)\n d = qcompiler.Binarize (n)\n a = Add (b, d)",
}

PRODUCTS = {
    "sign": 2,
    "two bits, narrow": 2,
    "three levels from 0": 2,
    "sum of two": 2,
    "two bits": 2,
    "three bits": 3,
    "five levels": 3,
}


def ternary(*shape):
    return np.sign(np.round(normal(GENERATOR, *shape)))


def convolution(codes: str, weights, attributes: str = ""):
    text = f"g (float[1, 32, 4, 4] x) => (y) {{ {CODES[codes]}\n y = Conv <{attributes or 'group = 1'}> (a, w) }}"
    model = graph(text, w=weights, **CONSTANTS)
    SpellOutShapes()(model)
    return model


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("kind", [signs, lambda _, *shape: ternary(*shape)], ids=["binary weights", "ternary weights"])
@pytest.mark.parametrize("attributes", ["", "pads = [1, 0, 1, 2], strides = [2, 1]"], ids=["inside", "padded"])
def test_two_and_three_levels(codes, kind, attributes):
    model = convolution(codes, kind(GENERATOR, 4, 32, 3, 3), attributes)
    products = PRODUCTS.get(codes, 1) * (1 + (kind is not signs))
    unneeded = codes == "binary" and kind is signs
    refused = codes == "selected" and attributes != ""
    result = apply(BinarizeCodes(), model)
    assert result.rewrites == int(not unneeded and not refused)
    assert len(result.refusals) == int(refused)
    assert ops_of(model).count("BinaryConv") == (products if result.rewrites else 0)


def test_zeros_at_the_border_are_the_lower_level_of_a_unit_step():
    model = convolution("unit step", signs(GENERATOR, 4, 32, 3, 3), "pads = [1, 1, 1, 1]")
    apply(BinarizeCodes(), model)
    (conv,) = [node for node in model.graph if node.op_type == "BinaryConv"]
    assert number(conv, "pad_value", 9) == -1


def test_many_products_over_few_channels_are_not_worth_it():
    text = "g (float[1, 3, 6, 6] x) => (y) { a = Sign (x)\n y = Conv (a, w) }"
    model = graph(text, w=signs(GENERATOR, 4, 3, 3, 3))
    SpellOutShapes()(model)
    result = apply(BinarizeCodes(), model)
    assert result.rewrites == 0
    assert result.refusals[0].reason == "2 binary products over 3 channels cost more than a real one"


@pytest.mark.parametrize(("rows", "products"), [(1, 8), (2, 0)])
def test_pixels_are_worth_eight_products_where_there_is_one_row(rows, products):
    text = f"g (float[{rows}, 784] x) => (y) {{ d = Mul (x, fifty)\n c = Clip (d, low, high)\n a = Round (c)\n"
    limits = {"fifty": np.float32(50), "low": np.float32(-128), "high": np.float32(127)}
    model = graph(text + " y = MatMul (a, w) }", w=signs(GENERATOR, 784, 5), **limits)
    result = apply(BinarizeCodes(), model)
    assert ops_of(model).count("BinaryMatMul") == products
    refusals = [refusal.reason for refusal in result.refusals]
    assert refusals == ([] if products else ["8 binary products over 784 channels cost more than a real one"])


def test_layers_of_one_value_share_its_planes():
    text = "g (float[2, 9] x) => (y, z) { a = Sign (x)\n y = MatMul (a, v)\n z = MatMul (a, w) }"
    model = graph(text, v=signs(GENERATOR, 9, 2), w=signs(GENERATOR, 9, 3))
    assert apply(BinarizeCodes(), model).rewrites == 2
    assert ops_of(model).count("Binarize") == 2


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(CODES)), st.integers(1, 40), st.integers(1, 5), st.booleans(), st.integers(0, 2**32 - 1))
def test_matrix_products_of_any_size(codes, inner, outer, binary, seed):
    generator = np.random.default_rng(seed)
    weights = signs(generator, inner, outer) if binary else np.sign(np.round(normal(generator, inner, outer)))
    text = f"g (float[3, {inner}] x) => (y) {{ {CODES[codes]}\n y = MatMul (a, w) }}"
    apply(BinarizeCodes(), graph(text, w=weights, **CONSTANTS), seed)


@pytest.mark.parametrize(
    ("codes", "weights"),
    [("a = Round (x)", signs(GENERATOR, 9, 2)), ("a = Sign (x)", normal(GENERATOR, 9, 2)), ("a = Neg (x)", None)],
    ids=["unbounded codes", "real weights", "real activations"],
)
def test_what_has_no_planes_stays(codes, weights):
    weights = signs(GENERATOR, 9, 2) if weights is None else weights
    model = graph(f"g (float[2, 9] x) => (y) {{ {codes}\n y = MatMul (a, w) }}", w=weights, **CONSTANTS)
    assert apply(BinarizeCodes(), model).rewrites == 0


@given(st.integers(-40, 40), st.integers(1, 40), st.integers(1, 3))
def test_a_form_reaches_every_code_and_its_fills_are_zero(low, span, step):
    form = form_of(Codes(low, low + step * span, step))
    reached = {form.middle + sum(point) for point in itertools.product(*((-s, s) for s in form.steps))}
    assert set(range(low, low + step * span + 1, step)) <= reached
    if form.fills is not None:
        assert form.middle + sum(s * fill for s, fill in zip(form.steps, form.fills, strict=True)) == 0


def test_weight_planes_average_to_the_weights():
    weights = ternary(7, 5)
    np.testing.assert_array_equal(sum(weight_planes(weights, "MatMul")) / 2, weights)
    assert len(weight_planes(np.abs(weights) * 2 - 1, "MatMul")) == 1
