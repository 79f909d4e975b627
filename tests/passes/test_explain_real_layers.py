import numpy as np
import pytest

from qcompiler.passes.explain_real_layers import ExplainRealLayers
from qcompiler.passes.fuse_integer_layers import FuseIntegerLayers
from qcompiler.passes.spell_out_shapes import SpellOutShapes
from tests.passes.comparison import apply, graph, normal, ops_of, signs, the

GENERATOR = np.random.default_rng(0)
SIGNS = signs(GENERATOR, 4, 2, 3, 3)
# from -8 to 7, another scale for each channel
GRID = np.float32([[[[0.1]]], [[[0.3]]], [[[0.7]]], [[[1.1]]]]) * GENERATOR.integers(-8, 8, SIGNS.shape).astype(
    np.float32
)
TERNARY = np.sign(np.round(normal(GENERATOR, 4, 2, 3, 3)))


@pytest.mark.parametrize(
    ("body", "weights", "words"),
    [
        ("y = Conv (x, w)", SIGNS, ["activations are real", "the graph input 'x'", "put a sign before it"]),
        ("r = Relu (x)\n y = Conv (r, w)", SIGNS, ["activations are real", "comes from Relu 'Relu_r'"]),
        (
            "r = Relu (x)\n p = MaxPool <kernel_shape = [2, 2]> (r)\n y = Conv (p, w)",
            SIGNS,
            ["comes from Relu 'Relu_r'"],
        ),
        ("b = qcompiler.Binarize (x)\n y = Conv (b, w)", TERNARY, ["the weights are ternary"]),
        ("b = qcompiler.Binarize (x)\n y = Conv (b, w)", normal(GENERATOR, 4, 2, 3, 3), ["the weights are real"]),
        (
            "b = qcompiler.Binarize (x)\n y = Conv (b, w)",
            GRID,
            ["the weights are 4-bit integers with a scale", "only 1-bit weights"],
        ),
        (
            "b = qcompiler.Binarize (x)\n p = Pad <mode = 'reflect'> (b, pads)\n y = Conv (p, w)",
            SIGNS,
            ["the signs pass Pad 'Pad_p' of mode reflect", "pad them with zeros in the layer"],
        ),
        ("b = Sign (x)\n y = Conv (b, w)", SIGNS, ["activations are ternary", "x >= 0"]),
        ("c = Clip (x, low, high)\n b = Round (c)\n y = Conv (b, w)", SIGNS, ["2-bit integers (0 to 3)"]),
        (
            "c = Clip (x, low, high)\n b = Round (c)\n m = Mul (b, scale)\n y = Conv (m, w)",
            SIGNS,
            ["2-bit integers (0 to 3) with a scale", "comes from Mul 'Mul_m'"],
        ),
        (
            "b = qcompiler.Binarize (x)\n m = Mul (b, scales)\n y = Conv (m, w)",
            SIGNS,
            ["1-bit integers (-1 to 1) with a scale per channel", "use activations of -s and +s", "behind the layer"],
        ),
        (
            "b = qcompiler.Binarize (x)\n m = Mul (b, scale)\n a = Add (m, scale)\n y = Conv (a, w)",
            normal(GENERATOR, 4, 2, 3, 3),
            ["1-bit integers (-1 to 1) with a scale and an offset", "comes from Add 'Add_a'"],
        ),
        (
            "b = qcompiler.Binarize (x)\n p = Pad (b, more)\n y = Conv (p, w)",
            signs(GENERATOR, 4, 8, 4, 4) + np.float32(0.25),
            ["take two values that are no -c and +c", "subtract their mean"],
        ),
        (
            "q = qcompiler.Quantize <low = 0.0, high = 255.0> (x, scale, low)\n m = Mul (q, scale)\n y = Conv (m, w)",
            SIGNS,
            ["8-bit integers (0 to 255) with a scale", "comes from Mul 'Mul_m'"],
        ),
    ],
)
def test_reasons(body, weights, words):
    constants = {
        "low": np.asarray(0, np.float32),
        "high": np.asarray(3, np.float32),
        "scale": np.asarray(0.3, np.float32),
        "scales": np.asarray([0.3, 0.7], np.float32).reshape(2, 1, 1),
        "more": np.array([0, 3, 0, 0, 0, 3, 0, 0]),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    }
    model = graph(f"g (float[1, 2, 6, 6] x) => (y) {{ {body} }}".replace("'", '"'), w=weights, **constants)
    before = ops_of(model)
    result = apply(ExplainRealLayers(), model)
    assert ops_of(model) == before
    reason = the(model, "Conv").metadata_props["qcompiler.reason"]
    assert result.refusals[0].reason == reason
    assert all(word in reason for word in words), reason


def test_run_time_weights_and_left_constants():
    model = graph(
        "g (float[3, 3] x) => (y, z) { y = MatMul (x, x)\n z = MatMul (w, x) }", w=np.eye(3, dtype=np.float32)
    )
    apply(ExplainRealLayers(), model)
    reasons = [node.metadata_props["qcompiler.reason"] for node in model.graph]
    assert "computed at run time" in reasons[0]
    assert "put the weights on the right" in reasons[1]


def test_binary_layers_need_no_reason():
    text = "g (float[3, 3] x) => (y) { b = qcompiler.Binarize (x)\n y = qcompiler.IntegerMatMul (b, w) }"
    model = graph(text, w=np.ones((3, 3), np.float32))
    assert ExplainRealLayers()(model).refusals == ()


def test_what_a_pass_found_is_told_too():
    text = "g (float[1, 2, 6, 6] x) => (y) { c = Clip (x, low, high)\n r = Round (c)\n y = Conv (r, w) }"
    model = graph(text, w=SIGNS, low=np.asarray(0, np.float32), high=np.asarray(300, np.float32))
    SpellOutShapes()(model)
    FuseIntegerLayers()(model)
    apply(ExplainRealLayers(), model)
    reason = the(model, "Conv").metadata_props["qcompiler.reason"]
    assert "9-bit integers (0 to 300)" in reason and "its activations have 9 bits, more than 8" in reason
