import numpy as np
import pytest

from qcompiler.ir.view import constant_of
from qcompiler.passes.sink_layouts import SinkLayouts
from qcompiler.passes.spell_out_shapes import SpellOutShapes
from tests.passes.comparison import apply, graph, normal, ops_of, rewritten, signs, the

GENERATOR = np.random.default_rng(0)
TO_NCHW, TO_NHWC = "Transpose <perm = [0, 3, 1, 2]>", "Transpose <perm = [0, 2, 3, 1]>"


def test_channels_last_transposes_around_convolutions_cancel():
    """What larq exports through tf2onnx: NHWC arithmetic between NCHW convolutions."""
    text = f"""g (float[1, 6, 6, 3] x) => (y) {{
        a = {TO_NCHW} (x)
        b = Conv <pads = [1, 1, 1, 1]> (a, w1)
        c = {TO_NHWC} (b)
        d = Mul (c, scale)
        e = Add (d, shift)
        f = qcompiler.Binarize (e)
        p = Pad (f, pads, one)
        h = {TO_NCHW} (p)
        i = Conv (h, w2)
        j = MaxPool <kernel_shape = [2, 2]> (i)
        k = {TO_NHWC} (j)
        y = PRelu (k, slope) }}"""
    model = graph(
        text,
        w1=normal(GENERATOR, 4, 3, 3, 3),
        w2=signs(GENERATOR, 5, 4, 3, 3),
        scale=normal(GENERATOR, 4),
        shift=normal(GENERATOR, 1, 1, 1, 4),
        slope=np.abs(normal(GENERATOR, 1, 1, 5)),
        pads=np.asarray([0, 1, 2, 0, 0, 0, 1, 0]),
        one=np.asarray(1, np.float32),
    )
    apply(SinkLayouts(), model)
    assert ops_of(model) == [
        "Transpose", "Conv", "Mul", "Add", "Binarize", "Pad", "Conv", "MaxPool", "PRelu", "Transpose",
    ]  # fmt: skip
    assert constant_of(the(model, "Mul").inputs[1]).shape == (1, 4, 1, 1)


def test_a_residual_between_two_transposed_branches():
    text = f"""g (float[1, 3, 6, 6] x) => (y) {{
        a = Abs (x)
        s = {TO_NHWC} (a)
        b = qcompiler.Binarize (s)
        t = Add (b, s)
        c = Concat <axis = -1> (t, s)
        y = {TO_NCHW} (c) }}"""
    model = graph(text)
    apply(SinkLayouts(), model)
    assert ops_of(model) == ["Abs", "Binarize", "Add", "Concat"]


@pytest.mark.parametrize("mover", [TO_NHWC, "Reshape"])
def test_quantizers_per_channel_take_their_constants_along(mover):
    text = f"""g (float[1, 3, 4, 5] x) => (y) {{
        s = {mover} (x{", target" * (mover == "Reshape")})
        q = qcompiler.Quantize <low = -8.0, high = 7.0, order = "ROUND_SHIFT"> (s, scale, zero)
        y = Mul (q, scale) }}"""
    shape = (3,) if mover == TO_NHWC else (3, 1)
    scale = np.asarray([0.5, 1, 2], np.float32).reshape(shape)
    zero = np.asarray([1, 0, -3], np.float32).reshape(shape)
    model = graph(text, scale=scale, zero=zero, target=np.asarray([1, 3, 20]))
    apply(SinkLayouts(), model)
    assert ops_of(model) == ["Quantize", "Mul", mover.split()[0]]
    assert constant_of(the(model, "Quantize").inputs[2]).reshape(-1).tolist() == [1, 0, -3]


def test_a_branch_that_is_not_transposed_stops_the_move():
    text = f"g (float[1, 3, 4, 5] x, float[1, 4, 5, 3] z) => (y) {{ s = {TO_NHWC} (x)\n y = Add (s, z) }}"
    model = graph(text)
    assert apply(SinkLayouts(), model).rewrites == 0


def test_a_flatten_moves_down_to_its_product():
    text = """g (float[2, 3, 4, 4] x) => (y) {
        f = Flatten (x)
        c = Clip (f, low, high)
        b = qcompiler.Binarize (c)
        y = MatMul (b, w) }"""
    model = graph(text, w=signs(GENERATOR, 48, 5), low=np.asarray(-1, np.float32), high=np.asarray(1, np.float32))
    SpellOutShapes()(model)
    apply(SinkLayouts(), model)
    assert ops_of(model) == ["Clip", "Binarize", "Reshape", "MatMul"]


def test_constants_of_a_flattened_pixel_move_with_it():
    text = """g (float[2, 3, 1, 1] x) => (y) {
        f = Flatten (x)
        m = Mul (f, scale)
        t = qcompiler.Threshold (m, threshold, direction)
        y = MatMul (t, w) }"""
    constants = {
        "scale": normal(GENERATOR, 3),
        "threshold": normal(GENERATOR, 1, 1, 3),
        "direction": signs(GENERATOR, 3),
    }
    model = graph(text, w=signs(GENERATOR, 3, 5), **constants)
    SpellOutShapes()(model)
    apply(SinkLayouts(), model)
    assert ops_of(model) == ["Mul", "Threshold", "Reshape", "MatMul"]
    shapes = [constant_of(value).shape for value in the(model, "Threshold").inputs[1:]]
    assert shapes == [(1, 1, 3, 1, 1), (1, 3, 1, 1)]


def test_a_constant_that_would_vary_within_a_channel_stops_the_move():
    text = "g (float[2, 3, 4, 4] x) => (y) { f = Flatten (x)\n y = Mul (f, scale) }"
    model = graph(text, scale=normal(GENERATOR, 48))
    SpellOutShapes()(model)
    assert apply(SinkLayouts(), model).rewrites == 0


@pytest.mark.parametrize(("fill", "zero", "code"), [(0.0, 1.0, 1), (0.0, -1.0, -1), (-2.0, 1.0, -1), (0.0, 0.0, 0)])
def test_a_border_before_the_sign_becomes_one_after_it(fill, zero, code):
    text = f"g (float[1, 2, 3, 3] x) => (y) {{ p = Pad (x, pads, v)\n y = qcompiler.Binarize <zero = {zero}> (p) }}"
    model = graph(text, pads=np.asarray([0, 0, 1, 1, 0, 0, 1, 1]), v=np.asarray(fill, np.float32))
    apply(SinkLayouts(), model)
    assert ops_of(model) == ["Binarize", "Pad"]
    assert constant_of(the(model, "Pad").inputs[2]) == code


def test_before_and_after():
    constants = {
        "b": np.float32([1, 2]),
    }
    before = """g (float[1, 2, 3, 3] x) => (y) {
    t = Transpose <perm = [0, 2, 3, 1]> (x)
    a = Add (t, b)
    r = Relu (a)
    y = Transpose <perm = [0, 3, 1, 2]> (r) }"""
    after = """
    Add_a.add = Add (x, [[[[1]], [[2]]]])
    y = Relu (Add_a.add)"""
    assert rewritten(SinkLayouts(), before, **constants) == after
