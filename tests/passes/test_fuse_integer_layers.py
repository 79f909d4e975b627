import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qcompiler.analysis.weights import weight_codes
from qcompiler.ir import oracle
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.view import ints, number
from qcompiler.passes.fuse_integer_layers import FuseIntegerLayers
from qcompiler.passes.spell_out_shapes import SpellOutShapes
from tests.passes.comparison import apply, graph, normal, ops_of, rewritten, signs, the

WIDE = FuseIntegerLayers("fuse-wide-layers", bound=1e-4, wide=True)
BYTES = "its sums may pass 2**24, and its inputs and weights are no bytes whose products 32 bits add up"
GENERATOR = np.random.default_rng(0)
NUMBERS = {"zero": 0, "one": 1, "two": 2, "minus": -1, "three": 3, "minus4": -4, "five": 5, "half": 0.5}
CONSTANTS = {name: np.asarray(value, np.float32) for name, value in NUMBERS.items()}
CODES = {
    "binary": "a = qcompiler.Binarize (x)",
    "binary, -1 at 0": "a = qcompiler.Binarize <zero = -1.0> (x)",
    "ternary": "a = qcompiler.Binarize <zero = 0.0> (x)",
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


def integers(bits: int, *shape: int) -> np.ndarray:
    """Weights of `bits` bits; -1 and +1 for one."""
    if bits == 1:
        return signs(GENERATOR, *shape)
    return GENERATOR.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape).astype(np.float32)


def convolution(codes: str, weights: np.ndarray, attributes: str = "group = 1"):
    text = f"g (float[1, 32, 4, 4] x) => (y) {{ {CODES[codes]}\n y = Conv <{attributes}> (a, w) }}"
    model = graph(text, w=weights, **CONSTANTS)
    SpellOutShapes()(model)
    return model


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("bits", [1, 2, 8])
@pytest.mark.parametrize("attributes", ["group = 1", "pads = [1, 0, 1, 2], strides = [2, 1]"], ids=["inside", "padded"])
def test_convolutions_of_codes(codes, bits, attributes):
    model = convolution(codes, integers(bits, 4, 32, 3, 3), attributes)
    assert apply(FuseIntegerLayers(), model).rewrites == 1
    assert ops_of(model).count("IntegerConv") == 1 and "Conv" not in ops_of(model)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(CODES)), st.integers(1, 40), st.integers(1, 5), st.integers(1, 8), st.integers(0, 2**32))
def test_matrix_products_of_any_size(codes, inner, outer, bits, seed):
    text = f"g (float[3, {inner}] x) => (y) {{ {CODES[codes]}\n y = MatMul (a, w) }}"
    model = graph(text, w=integers(bits, inner, outer), **CONSTANTS)
    assert apply(FuseIntegerLayers(), model, seed).rewrites == 1


def network(body: str, weights):
    constants = {"pads": np.asarray([0, 0, 1, 1, 0, 0, 1, 1]), "one": np.asarray(1, np.float32)}
    model = graph(f"g (float[2, 4, 7, 7] x) => (y) {{ {body} }}", w=weights, **constants)
    SpellOutShapes()(model)
    return model


@pytest.mark.parametrize(
    ("attributes", "shape"),
    [
        ("pads = [1, 1, 1, 1]", (5, 4, 3, 3)),
        ("strides = [2, 3], pads = [0, 1, 2, 0]", (5, 4, 2, 3)),
        ("dilations = [2, 1]", (5, 4, 3, 3)),
        ("group = 2", (6, 2, 3, 3)),
        ("group = 4", (4, 1, 1, 1)),
        ('auto_pad = "SAME_UPPER"', (5, 4, 4, 4)),
    ],
)
def test_the_window_stays(attributes, shape):
    model = network(f"b = qcompiler.Binarize (x)\n y = Conv <{attributes}> (b, w)", signs(GENERATOR, *shape))
    before = {name: ints(the(model, "Conv"), name, ()) for name in ("kernel_shape", "strides", "pads", "dilations")}
    assert apply(FuseIntegerLayers(), model).rewrites == 1
    fused = the(model, "IntegerConv")
    assert {name: ints(fused, name, ()) for name in before} == before
    assert number(fused, "pad_value", 9) == 0
    assert fused.metadata_props["qcompiler.source"] == "Conv_y"


@pytest.mark.parametrize(
    "source",
    [
        "a = qcompiler.Binarize (x)\n b = MaxPool <kernel_shape = [2, 2]> (a)",
        "a = qcompiler.Binarize (x)\n b = Transpose <perm = [0, 1, 3, 2]> (a)",
        "n = Neg (x)\n a = qcompiler.Binarize (x)\n c = qcompiler.Binarize (n)\n"
        "d = Concat <axis = 1> (a, c)\n e = Constant <value_ints = [0]> ()\n f = Constant <value_ints = [4]> ()\n"
        "g = Constant <value_ints = [1]> ()\n b = Slice (d, e, f, g)",
        "a = qcompiler.Binarize (x)\n b = Pad (a, pads, one)",
        "a = qcompiler.Binarize (x)\n b = Pad (a, pads)",
    ],
)
def test_codes_keep_being_codes(source):
    model = network(f"{source}\n y = Conv (b, w)", signs(GENERATOR, 3, 4, 3, 3))
    assert apply(FuseIntegerLayers(), model).rewrites == 1


@pytest.mark.parametrize(
    ("source", "weights"),
    [
        ("b = Relu (x)", signs(GENERATOR, 3, 4, 3, 3)),
        ("b = Round (x)", signs(GENERATOR, 3, 4, 3, 3)),
        ("a = qcompiler.Binarize (x)\n b = AveragePool <kernel_shape = [1, 1]> (a)", signs(GENERATOR, 3, 4, 3, 3)),
        ("b = qcompiler.Binarize (x)", normal(GENERATOR, 3, 4, 3, 3)),
        ("b = qcompiler.Binarize (x)", GENERATOR.integers(-300, 300, (3, 4, 3, 3)).astype(np.float32)),
    ],
)
def test_what_is_not_on_integers_stays(source, weights):
    model = network(f"{source}\n y = Conv (b, w)", weights)
    assert apply(FuseIntegerLayers(), model).rewrites == 0
    assert "Conv" in ops_of(model)


def test_a_bias_must_be_split_off_first():
    text = "g (float[1, 2, 5, 5] x, float[3] bias) => (y) { b = qcompiler.Binarize (x)\n y = Conv (b, w, bias) }"
    model = graph(text, w=signs(GENERATOR, 3, 2, 3, 3))
    SpellOutShapes()(model)
    assert apply(FuseIntegerLayers(), model).rewrites == 0


@pytest.mark.parametrize("shape", ["5, 13", "2, 3, 13", "2, 2, 2, 13"])
def test_products_of_any_rank(shape):
    text = f"g (float[{shape}] x) => (y) {{ b = qcompiler.Binarize (x)\n y = MatMul (b, w) }}"
    model = graph(text, w=signs(GENERATOR, 13, 4))
    assert apply(FuseIntegerLayers(), model).rewrites == 1
    assert ops_of(model) == ["Binarize", "IntegerMatMul"]


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = MatMul (x, w)", signs(GENERATOR, 13, 4)),
        ("b = qcompiler.Binarize (x)\n y = MatMul (b, w)", normal(GENERATOR, 13, 4)),
        ("b = qcompiler.Binarize (x)\n y = MatMul (b, w)", signs(GENERATOR, 2, 13, 4)),
        ("b = qcompiler.Binarize (x)\n t = Transpose (b)\n y = MatMul (b, t)", signs(GENERATOR, 13, 4)),
        ("b = qcompiler.Binarize (x)\n y = MatMul (b, w)", signs(GENERATOR, 13)),
    ],
    ids=["real input", "real weights", "batched weights", "run-time weights", "vector"],
)
def test_products_that_stay(body, weights):
    model = graph(f"g (float[5, 13] x) => (y) {{ {body} }}", w=weights)
    assert apply(FuseIntegerLayers(), model).rewrites == 0
    assert "MatMul" in ops_of(model)


def test_wide_codes_and_large_sums_are_refused_with_a_reason():
    text = "g (float[1, 9] x) => (y) { d = Mul (x, two)\n c = Clip (d, low, high)\n a = Round (c)\n y = MatMul (a, w) }"
    limits = {"low": np.float32(-200), "high": np.float32(200), "two": np.float32(2)}
    result = apply(FuseIntegerLayers(), graph(text, w=signs(GENERATOR, 9, 2), **limits))
    assert [refusal.reason for refusal in result.refusals] == [
        "activations are 9-bit integers (-200 to 200), of more than 8 bits"
    ]
    text = "g (float[1, 4096] x) => (y) { c = Clip (x, low, high)\n a = Round (c)\n y = MatMul (a, w) }"
    limits = {"low": np.float32(0), "high": np.float32(255)}
    for low, high, reason in ((-56, 200, BYTES), (-55, 200, ""), (-1, 127, "")):
        weights = np.full((4096, 2), high, np.float32)
        weights[0] = low
        model = graph(text, w=weights, **limits)
        narrow, wide = apply(FuseIntegerLayers(), model), apply(WIDE, model, exact=False)
        assert narrow.rewrites == 0 and wide.rewrites == (not reason) and not wide.refusals
        assert [refusal.reason.split(";")[0] for refusal in narrow.refusals] == ([reason] if reason else [])


def test_sums_beyond_31_bits_are_refused():
    text = "g (float[1, 70000] x) => (y) { c = Clip (x, low, high)\n a = Round (c)\n y = MatMul (a, w) }"
    limits = {"low": np.float32(0), "high": np.float32(255)}
    model = graph(text, w=np.full((70000, 1), 127, np.float32), **limits)
    refusals = apply(FuseIntegerLayers(), model).refusals
    assert [refusal.reason for refusal in refusals] == ["its sums may be no integers below 2**31"]


@settings(max_examples=30, deadline=None)
@given(st.integers(-255, 0), st.booleans(), st.sampled_from([1, 2]), st.integers(-127, 128), st.integers(0, 2**32))
@example(-126, False, 2, 0, 0)
@example(-128, False, 2, 0, 0)
def test_wide_sums_are_exact(low, matrix, groups, zero, seed):
    """zero: what is added to weights of bytes with a sign."""
    # with any bounds, the largest sums of this many products pass 2**24
    generator, count = np.random.default_rng(seed), 1042
    weights = generator.integers(-128, 128, (4, count // groups, 1, 2)) + zero
    weights[0], weights[1] = (127 + zero, -128 + zero) if zero >= 0 else (-128 + zero, 127 + zero)
    shape = f"{2 * count}" if matrix else f"{count}, 1, 3"
    layer = "MatMul (a, w)" if matrix else f"Conv <group = {groups}, pads = [0, 1, 0, 0]> (a, w)"
    text = f"g (float[2, {shape}] x) => (y) {{ c = Clip (x, low, high)\n a = Round (c)\n y = {layer} }}"
    if matrix:
        weights = generator.integers(-128, 128, (2 * count, 4)) + zero
        weights[:, 0], weights[:, 1] = -128 + zero, 127 + zero
    held = weights.astype(np.float32)
    model = graph(text, w=held, low=np.float32(low), high=np.float32(low + 255))
    SpellOutShapes()(model)
    FuseIntegerLayers()(model)
    assert WIDE(model).rewrites == 1
    codes = generator.integers(low, low + 256, (2, *map(int, shape.split(","))))
    codes[0] = low if low < -128 else low + 255
    found = oracle.run(model, {"x": codes.astype(np.float32)})["y"]
    if matrix:
        expected = codes @ weights
    else:
        padded = np.pad(codes, [(0, 0), (0, 0), (0, 0), (1, 0)])
        windows = np.stack([padded[..., 0, :3], padded[..., 0, 1:]], axis=-1)
        grouped = windows.reshape(2, groups, count // groups, 3, 2)
        split = weights.reshape(groups, 4 // groups, count // groups, 2)
        expected = np.einsum("ngcxk,gock->ngox", grouped, split).reshape(2, 4, 1, 3)
    assert np.abs(expected).max() > 2**24
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@given(st.integers(-99, 99), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_the_codes_of_weights(low, levels, step, seed):
    index = np.random.default_rng(seed).integers(0, levels, 50)
    codes = weight_codes((low + step * index).astype(np.float32))
    assert codes is not None and codes.low >= low and codes.high <= low + step * (levels - 1)
    assert all(codes.index(low + step * int(i)) is not None for i in index)


def test_codes_of_some_weights():
    assert weight_codes(np.asarray([[1, -1]], np.float32)) == BINARY
    assert weight_codes(np.asarray([3, 3], np.float32)) == Codes(3, 3)
    assert weight_codes(np.asarray([0.5], np.float32)) is weight_codes(np.zeros(0, np.float32)) is None


def test_before_and_after():
    constants = {
        "w": np.ones((8, 2), np.float32),
        "v": np.float32([[0.25], [0.3]]),
    }
    before = """g (float[2, 8] x) => (y) {
    s = qcompiler.Binarize (x)
    m = MatMul (s, w)
    y = MatMul (m, v) }"""
    after = """
    s = qcompiler.Binarize (x)
    m = qcompiler.IntegerMatMul (s, w)
    y = MatMul (m, [[0.25], [0.3]])"""
    assert rewritten(FuseIntegerLayers(), before, **constants) == after
