import numpy as np

from qcompiler.passes.eliminate_identities import EliminateIdentities
from qcompiler.passes.lift_1d_convs import Lift1dConvs
from qcompiler.passes.sink_layouts import SinkLayouts
from qcompiler.passes.spell_out_shapes import SpellOutShapes
from tests.passes.comparison import apply, graph, normal, ops_of, rewritten

TEXT = """g (float[2, 4, 20] x) => (y) {
    a = Conv <pads = [2, 1], strides = [2], dilations = [2], group = 2> (x, w, bias)
    b = qcompiler.Binarize (a)
    c = MaxPool <kernel_shape = [3], strides = [2], pads = [1, 0]> (b)
    y = AveragePool <kernel_shape = [2], count_include_pad = 1, pads = [1, 0]> (c) }"""


def model():
    generator = np.random.default_rng(0)
    result = graph(TEXT, w=normal(generator, 6, 2, 3), bias=normal(generator, 6))
    SpellOutShapes()(result)
    return result


def test_windows_of_rank_three_get_a_height_of_one():
    lifted = model()
    assert apply(Lift1dConvs(), lifted, exact=False).rewrites == 3
    assert all(len(node.inputs[0].shape) == 4 for node in lifted.graph if node.op_type in ("Conv", "MaxPool"))


def test_the_reshapes_between_them_cancel():
    lifted = model()
    Lift1dConvs()(lifted)
    apply(SinkLayouts(), lifted)
    apply(EliminateIdentities(), lifted)
    assert ops_of(lifted) == ["Reshape", "Conv", "Binarize", "MaxPool", "AveragePool", "Reshape"]


def test_images_are_left_alone():
    image = graph("g (float[1, 2, 5, 5] x) => (y) { y = Conv (x, w) }", w=np.ones((1, 2, 3, 3), np.float32))
    SpellOutShapes()(image)
    assert apply(Lift1dConvs(), image).rewrites == 0


def test_before_and_after():
    constants = {
        "w": np.ones((3, 2, 3), np.float32),
    }
    before = """g (float[1, 2, 6] x) => (y) {
    y = Conv <kernel_shape = [3], pads = [1, 1]> (x, w) }"""
    after = """
    Conv_y.reshape = Reshape (x, [1, 2, 1, 6])
    Conv_y.conv = Conv <kernel_shape = [1, 3], pads = [0, 1, 0, 1]> (Conv_y.reshape, float32[3, 2, 1, 3])
    y = Reshape (Conv_y.conv, [1, 3, 6])"""
    assert rewritten(Lift1dConvs(), before, exact=False, **constants) == after
