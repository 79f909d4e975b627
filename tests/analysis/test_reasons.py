import numpy as np
import pytest

from qcompiler.analysis.layers import Layer, recorded
from qcompiler.analysis.macs import macs_of
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
        (
            "y = Conv (x, w)",
            SIGNS,
            ["activations are real", "the graph input 'x'", "put a sign before it"],
        ),
        ("r = Relu (x)\n y = Conv (r, w)", SIGNS, ["activations are real", "comes from Relu 'Relu_r'"]),
        (
            "r = Relu (x)\n p = MaxPool <kernel_shape = [2, 2]> (r)\n y = Conv (p, w)",
            SIGNS,
            ["comes from Relu 'Relu_r'"],
        ),
        ("b = qcompiler.Binarize (x)\n y = Conv (b, w)", normal(GENERATOR, 4, 2, 3, 3), ["the weights are real"]),
        (
            "b = qcompiler.Binarize (x)\n p = Pad (b, pads, scale)\n y = Conv (p, w)",
            SIGNS,
            ["the codes pass Pad 'Pad_p', which adds other numbers", "pad them with zeros in the layer"],
        ),
        (
            "c = Clip (x, low, wide)\n b = Round (c)\n y = Conv (b, w)",
            SIGNS,
            ["9-bit integers (0 to 300), of more than 8 bits"],
        ),
        ("c = Clip (x, low, high)\n b = Round (c)\n y = Conv (b, w)", GRID, ["the scale of its weights"]),
        (
            "c = Clip (x, low, high)\n b = Round (c)\n m = Mul (b, scale)\n y = Conv (m, w)",
            SIGNS,
            ["2-bit integers (0 to 3) with a scale", "comes from Mul 'Mul_m'"],
        ),
        (
            "b = qcompiler.Binarize (x)\n m = Mul (b, scales)\n y = Conv (m, w)",
            SIGNS,
            ["1-bit integers (-1 to 1) with a scale per channel", "use activations of one scale s", "behind the layer"],
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
        (
            "a = Abs (x)\n m = ReduceMean (a, channels)\n y = Conv (m, w)",
            np.full((1, 1, 3, 3), 1 / 9, np.float32),
            ["it averages windows of real numbers, as XNOR-Net's K map does", "leave it"],
        ),
        (
            "a = Abs (x)\n m = ReduceMean (a, channels)\n y = Conv (m, w)",
            np.full((1, 1, 3, 3), -1 / 9, np.float32),
            ["activations are real: the input of the node comes from ReduceMean", "put a sign before it"],
        ),
        ("r = Round (x)\n y = Conv (r, w)", SIGNS, ["integers without bounds"]),
        (
            "q = qcompiler.Quantize <low = 0.0, high = 31.0> (x, scale, low)\n m = Mul (q, scale)\n"
            " p = AveragePool <kernel_shape = [4, 4]> (m)\n y = Conv (p, w)",
            SIGNS,
            ["numbers of 497 levels, more than 256", "comes from AveragePool 'AveragePool_p'"],
        ),
    ],
)
def test_reasons(body, weights, words):
    constants = {
        "low": np.asarray(0, np.float32),
        "high": np.asarray(3, np.float32),
        "wide": np.asarray(300, np.float32),
        "scale": np.asarray(0.3, np.float32),
        "scales": np.asarray([0.3, 0.7], np.float32).reshape(2, 1, 1),
        "more": np.array([0, 3, 0, 0, 0, 3, 0, 0]),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "channels": np.array([1]),
    }
    model = graph(f"g (float[1, 2, 6, 6] x) => (y) {{ {body} }}".replace("'", '"'), w=weights, **constants)
    SpellOutShapes()(model)
    before = ops_of(model)
    result = apply(FuseIntegerLayers(), model)
    assert ops_of(model) == before
    reason = the(model, "Conv").metadata_props["qcompiler.reason"]
    assert result.refusals[0].reason == reason
    assert all(word in reason for word in words), reason


def test_scales_of_blocks_and_scales_of_activations():
    random = np.random.default_rng(0)
    blocks = random.integers(-8, 8, (64, 3)) * np.repeat(random.uniform(0.1, 1, (2, 3)), 32, axis=0)
    model = graph("g (float[3, 64] x) => (y) { y = MatMul (x, w) }", w=blocks.astype(np.float32))
    apply(FuseIntegerLayers(), model)
    assert "a scale for every 32 inputs" in model.graph[0].metadata_props["qcompiler.reason"]
    body = "q = qcompiler.Quantize <low = 0.0, high = 7.0> (x, s, z)\n m = Mul (q, s)\n y = MatMul (m, w)"
    scalars = {"s": np.asarray(0.3, np.float32), "z": np.asarray(0, np.float32)}
    model = graph(f"g (float[3, 64] x) => (y) {{ {body} }}", w=normal(random, 64, 3), **scalars)
    apply(FuseIntegerLayers(), model)
    reason = the(model, "MatMul").metadata_props["qcompiler.reason"]
    assert "weights are real" in reason and "scale:" not in reason


def test_run_time_weights_and_left_constants():
    model = graph(
        "g (float[3, 3] x) => (y, z) { y = MatMul (x, x)\n z = MatMul (w, x) }", w=np.eye(3, dtype=np.float32)
    )
    apply(FuseIntegerLayers(), model)
    reasons = [node.metadata_props["qcompiler.reason"] for node in model.graph]
    assert "computed at run time" in reasons[0]
    assert "put the weights on the right" in reasons[1]


@pytest.mark.parametrize(
    ("body", "weights", "widths"),
    [
        ("b = qcompiler.Binarize (x)\n y = Conv (b, w)", SIGNS, Layer(1, 1)),
        ("b = qcompiler.Binarize (x)\n y = Conv (b, w)", TERNARY, Layer(2, 1)),
        ("c = Clip (x, low, high)\n b = Round (c)\n y = Conv (b, w)", SIGNS, Layer(1, 2)),
        ("b = qcompiler.Binarize (x)\n p = Pad <mode = 'reflect'> (b, pads)\n y = Conv (p, w)", SIGNS, Layer(1, 1)),
        ("c = Clip (x, low, high)\n b = Round (c)\n y = Conv (b, w)", np.round(3 * SIGNS) - 1, Layer(1, 2)),
    ],
)
def test_layers_on_integers_need_no_reason(body, weights, widths):
    text = f"g (float[1, 2, 6, 6] x) => (y) {{ {body} }}".replace("'", '"')
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    model = graph(text, w=weights, low=np.asarray(0, np.float32), high=np.asarray(3, np.float32), pads=pads)
    SpellOutShapes()(model)
    result = FuseIntegerLayers()(model)
    assert (result.refusals, result.rewrites) == ((), 1)
    assert recorded(the(model, "IntegerConv")) == widths


def test_ternary_signs_are_noted():
    model = graph("g (float[1, 2, 6, 6] x) => (y) { b = Sign (x)\n y = Conv (b, w) }", w=SIGNS)
    SpellOutShapes()(model)
    FuseIntegerLayers()(model)
    note = the(model, "IntegerConv").metadata_props["qcompiler.note"]
    assert "activations are ternary" in note and "x >= 0" in note


def test_what_a_pass_found_is_told_too():
    model = graph("g (float[1, 2, 6, 6] x) => (y) { y = Conv (x, w) }", w=SIGNS)
    SpellOutShapes()(model)
    the(model, "Conv").metadata_props["qcompiler.reason"] = "found before"
    apply(FuseIntegerLayers(), model)
    reason = the(model, "Conv").metadata_props["qcompiler.reason"]
    assert reason.startswith("activations are real") and reason.endswith("; found before")


@pytest.mark.parametrize(
    ("text", "macs"),
    [
        (
            "g (float[2, 3, 5, 5] x, float[4, 3, 3, 3] w) => (y) { y = Conv <kernel_shape = [3, 3]> (x, w) }",
            2 * 4 * 9 * 27,
        ),
        ("g (float[2, 3, 5, 5, 5] x, float[4, 3, 3, 3, 3] w) => (y) { y = Conv (x, w) }", 2 * 4 * 27 * 81),
        ("g (float[2, 3, 5, 5] x, float[3, 4, 2, 2] w) => (y) { y = ConvTranspose (x, w) }", 2 * 25 * 3 * 16),
        ("g (float[2, 3, 4] x, float[2, 4, 5] w) => (y) { y = MatMul (x, w) }", 2 * 3 * 4 * 5),
        ("g (float[4] x, float[4] w) => (y) { y = MatMul (x, w) }", 4),
        ("g (float[4, 3] x, float[4, 5] w) => (y) { y = Gemm <transA = 1> (x, w) }", 3 * 4 * 5),
        (
            "g (float[7, 2, 3] x, float[1, 12, 3] w, float[1, 12, 4] r) => (y) { y = GRU <hidden_size = 4> (x, w, r) }",
            7 * 2 * 12 * (3 + 4),
        ),
    ],
)
def test_multiply_adds(text, macs):
    model = graph(text)
    assert macs_of(next(iter(model.graph))) == macs
