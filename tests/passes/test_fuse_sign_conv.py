import numpy as np
import pytest

from qcompiler.ir.view import ints, number
from qcompiler.passes.fuse_sign_conv import FuseSignConv
from qcompiler.passes.spell_out_shapes import SpellOutShapes
from tests.passes.comparison import apply, graph, normal, ops_of, signs, the

GENERATOR = np.random.default_rng(0)


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
def test_binary_convolutions(attributes, shape):
    model = network(f"b = qcompiler.Binarize (x)\n y = Conv <{attributes}> (b, w)", signs(GENERATOR, *shape))
    before = {name: ints(the(model, "Conv"), name, ()) for name in ("kernel_shape", "strides", "pads", "dilations")}
    assert apply(FuseSignConv(), model).rewrites == 1
    fused = the(model, "IntegerConv")
    assert {name: ints(fused, name, ()) for name in before} == before
    assert number(fused, "pad_value", 9) == 0
    assert fused.metadata_props["qcompiler.source"] == "Conv_y"


@pytest.mark.parametrize(
    "source",
    [
        "b = qcompiler.Binarize <zero = -1.0> (x)",
        "a = qcompiler.Binarize (x)\n b = MaxPool <kernel_shape = [2, 2]> (a)",
        "a = qcompiler.Binarize (x)\n b = Transpose <perm = [0, 1, 3, 2]> (a)",
        "n = Neg (x)\n a = qcompiler.Binarize (x)\n c = qcompiler.Binarize (n)\n"
        "d = Concat <axis = 1> (a, c)\n e = Constant <value_ints = [0]> ()\n f = Constant <value_ints = [4]> ()\n"
        "g = Constant <value_ints = [1]> ()\n b = Slice (d, e, f, g)",
        "a = qcompiler.Binarize (x)\n b = Pad (a, pads, one)",
    ],
)
def test_codes_keep_being_codes(source):
    assert apply(FuseSignConv(), network(f"{source}\n y = Conv (b, w)", signs(GENERATOR, 3, 4, 3, 3))).rewrites == 1


@pytest.mark.parametrize(
    ("source", "weights"),
    [
        ("b = Relu (x)", signs(GENERATOR, 3, 4, 3, 3)),
        ("b = Sign (x)", signs(GENERATOR, 3, 4, 3, 3)),
        ("b = qcompiler.Binarize <zero = 0.0> (x)", signs(GENERATOR, 3, 4, 3, 3)),
        ("a = qcompiler.Binarize (x)\n b = Pad (a, pads)", signs(GENERATOR, 3, 4, 3, 3)),
        ("a = qcompiler.Binarize (x)\n b = AveragePool <kernel_shape = [1, 1]> (a)", signs(GENERATOR, 3, 4, 3, 3)),
        ("b = qcompiler.Binarize (x)", normal(GENERATOR, 3, 4, 3, 3)),
        ("b = qcompiler.Binarize (x)", np.sign(np.round(normal(GENERATOR, 3, 4, 3, 3)))),
    ],
)
def test_what_is_not_binary_stays(source, weights):
    model = network(f"{source}\n y = Conv (b, w)", weights)
    assert apply(FuseSignConv(), model).rewrites == 0
    assert "Conv" in ops_of(model)


def test_a_bias_must_be_split_off_first():
    text = "g (float[1, 2, 5, 5] x, float[3] bias) => (y) { b = qcompiler.Binarize (x)\n y = Conv (b, w, bias) }"
    model = graph(text, w=signs(GENERATOR, 3, 2, 3, 3))
    SpellOutShapes()(model)
    assert apply(FuseSignConv(), model).rewrites == 0
