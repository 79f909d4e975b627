import numpy as np
import pytest

from qcompiler.ir.axis_order import is_marked
from qcompiler.passes.choose_layouts import ChooseLayouts
from tests.lowering.interpreter import run
from tests.passes.comparison import apply, graph, signs, the

GENERATOR = np.random.default_rng(3)
CONV = "kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], group = 1"


def test_what_lies_between_kernels_runs_channels_last():
    text = f"""g (float[1, 4, 6, 6] x) => (float[1, 8, 6, 6] y) {{
        a = qcompiler.Binarize (x)
        b = qcompiler.IntegerConv <{CONV}> (a, w0)
        c = qcompiler.IntegerConv <{CONV}> (a, w1)
        d = Concat <axis = 1> (b, c)
        e = Sigmoid (d)
        f = qcompiler.Binarize (e)
        y = qcompiler.IntegerConv <{CONV}> (f, w2) }}"""
    model = graph(
        text, w0=signs(GENERATOR, 8, 4, 1, 1), w1=signs(GENERATOR, 8, 4, 1, 1), w2=signs(GENERATOR, 8, 16, 1, 1)
    )
    assert apply(ChooseLayouts(), model).rewrites == 2
    assert is_marked(the(model, "Concat")) and is_marked(the(model, "Sigmoid"))
    assert apply(ChooseLayouts(), model).rewrites == 0
    _, works = run(model, [GENERATOR.standard_normal((1, 4, 6, 6)).astype(np.float32)])
    assert sum(work.op == "layout" for work in works) == 0


def test_what_only_the_caller_sees_stays_dense():
    text = """g (float[1, 4, 6, 6] x, float[1, 4, 6, 6] z) => (float[1, 8, 6, 6] y) {
        d = Concat <axis = 1> (x, z)
        y = Exp (d) }"""
    model = graph(text)
    assert apply(ChooseLayouts(), model).rewrites == 0
    assert not is_marked(the(model, "Concat"))


def test_what_an_image_passes_first_runs_as_the_caller_has_it():
    """A quantizer of the image, for example: converted to 16 lanes it would compute on 13 of padding."""
    text = """g (float[1, 3, 6, 6] x) => (y) {
        a = Mul (x, scale)
        b = Add (a, scale)
        c = Floor (b)
        d = Conv (c, w)
        e = Sigmoid (d)
        y = Conv (e, w2) }"""
    weights = {"w": np.ones((8, 3, 1, 1), np.float32), "w2": np.ones((8, 8, 1, 1), np.float32)}
    model = graph(text, scale=np.float32(2).reshape(1), **weights)
    assert apply(ChooseLayouts(), model).rewrites == 1
    assert is_marked(the(model, "Sigmoid"))


def test_the_cheaper_cut_wins():
    """The large tensor comes from the caller, the small one from a kernel: only the small one is converted."""
    text = f"""g (float[1, 4, 6, 6] x, float[1, 60, 6, 6] z) => (y) {{
        a = qcompiler.Binarize (x)
        b = qcompiler.IntegerConv <{CONV}> (a, w0)
        d = Concat <axis = 1> (b, z)
        y = Exp (d) }}"""
    model = graph(text, w0=signs(GENERATOR, 4, 4, 1, 1))
    assert apply(ChooseLayouts(), model).rewrites == 0


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        ("ReduceMean <keepdims = 0> (b, spatial)", (1, 8)),
        ("ReduceMax <keepdims = 1> (b, channel)", (1, 1, 6, 6)),
        ("GlobalAveragePool (b)", (1, 8, 1, 1)),
        ("Mul (b, per_channel)", (1, 8, 6, 6)),
        ("Concat <axis = 2> (b, b)", (1, 8, 12, 6)),
    ],
)
def test_axes_follow_the_layout(node, shape):
    """Lowered channels-last and run, the region equals the graph in onnxruntime."""
    from qcompiler.ir import oracle

    text = f"""g (float[1, 4, 6, 6] x) => (y) {{
        a = qcompiler.Binarize (x)
        b = qcompiler.IntegerConv <{CONV}> (a, w0)
        c = {node}
        y = Exp (c) }}"""
    constants = {
        "w0": signs(GENERATOR, 8, 4, 1, 1),
        "spatial": np.array([2, 3]),
        "channel": np.array([1]),
        "per_channel": GENERATOR.standard_normal((8, 1, 1)).astype(np.float32),
    }
    model = graph(text, **constants)
    for n in model.graph:
        if n.domain == "":
            n.metadata_props["qcompiler.layout"] = "channels_last"
    inputs = oracle.random_inputs(model, 0)
    expected = oracle.run(model, inputs)["y"]
    assert expected.shape == shape
    outputs, _ = run(model, list(inputs.values()))
    np.testing.assert_allclose(outputs[0], expected, rtol=1e-5)
