import numpy as np
import pytest

from qcompiler.ir.view import ints, number
from qcompiler.passes.merge_pads import MergePads
from tests.passes.comparison import apply, graph, ops_of, rewritten, signs, the

PADS = np.asarray([0, 0, 1, 2, 0, 0, 0, 1])
WEIGHTS = signs(np.random.default_rng(0), 3, 2, 3, 3)
BINARY = "kernel_shape = [3, 3], strides = [1, 1], dilations = [1, 1], group = 1"


def network(body: str, fill: float, pads=PADS):
    text = f"g (float[1, 2, 5, 5] x) => (y) {{ {body} }}"
    return graph(text, w=WEIGHTS, pads=pads, v=np.asarray(fill, np.float32))


def test_a_zero_border_joins_the_pads_of_a_convolution():
    model = network("p = Pad (x, pads, v)\n y = Conv <pads = [1, 1, 1, 1]> (p, w)", 0)
    assert apply(MergePads(), model, exact=False).rewrites == 1
    assert ints(the(model, "Conv"), "pads", ()) == (2, 3, 1, 2)


def test_axes_of_a_pad():
    text = "g (float[1, 2, 5, 5] x) => (y) { p = Pad (x, pads, , axes)\n y = Conv <pads = [0, 0, 0, 0]> (p, w) }"
    model = graph(text, w=WEIGHTS, pads=np.asarray([1, 2, 3, 4]), axes=np.asarray([-1, 2]))
    assert apply(MergePads(), model, exact=False).rewrites == 1
    assert ints(the(model, "Conv"), "pads", ()) == (2, 1, 4, 3)


@pytest.mark.parametrize("fill", [-1.0, 0.0, 1.0])
def test_a_border_of_codes_becomes_the_pad_value(fill):
    body = f"""b = qcompiler.Binarize (x)
        p = Pad (b, pads, v)
        y = qcompiler.IntegerConv <{BINARY}, pads = [0, 0, 0, 0], pad_value = 0.0> (p, w)"""
    model = network(body, fill)
    assert apply(MergePads(), model).rewrites == 1
    conv = the(model, "IntegerConv")
    assert ints(conv, "pads", ()) == (1, 2, 0, 1)
    assert number(conv, "pad_value", 9) == fill


@pytest.mark.parametrize(("op", "fill"), [("qcompiler.Binarize (x)", -1.0), ("Relu (x)", 0.0), ("Abs (x)", -np.inf)])
def test_a_border_below_all_elements_joins_a_max_pool(op, fill):
    body = f"b = {op}\n p = Pad (b, pads, v)\n y = MaxPool <kernel_shape = [3, 3], pads = [0, 0, 0, 0]> (p)"
    model = network(body, fill)
    assert apply(MergePads(), model).rewrites == 1
    assert ints(the(model, "MaxPool"), "pads", ()) == (1, 2, 0, 1)


@pytest.mark.parametrize(
    ("body", "fill", "reason"),
    [
        ("p = Pad (x, pads, v)\n y = Conv <pads = [0, 0, 0, 0]> (p, w)", 1, "filled with 1"),
        ("p = Pad (x, pads, v)\n y = MaxPool <kernel_shape = [3, 3], pads = [0, 0, 0, 0]> (p)", 0, "may be below"),
        ("p = Pad (x, pads, v)\n y = MaxPool <kernel_shape = [2, 2], pads = [0, 0, 0, 0]> (p)", -np.inf, "no pixel"),
        (
            f"b = Sign (x)\n p = Pad (b, pads, v)\n"
            f"y = qcompiler.IntegerConv <{BINARY}, pads = [1, 1, 1, 1], pad_value = 0.0> (p, w)",
            1,
            "different values",
        ),
        ('p = Pad <mode = "reflect"> (x, pads)\n y = Conv <pads = [0, 0, 0, 0]> (p, w)', 0, "not a constant border"),
    ],
)
def test_refusals(body, fill, reason):
    model = network(body, fill)
    result = apply(MergePads(), model)
    assert result.rewrites == 0
    assert "Pad" in ops_of(model)
    assert reason in result.refusals[0].reason


def test_a_border_of_channels_stays():
    body = "p = Pad (x, pads, v)\n y = MaxPool <kernel_shape = [1, 1], pads = [0, 0, 0, 0]> (p)"
    model = network(body, -np.inf, np.asarray([0, 1, 0, 0, 0, 1, 0, 0]))
    assert apply(MergePads(), model).rewrites == 0


LAYOUTS = {
    "a causal convolution over [N, L, C]": (
        "float[1, 7, 2] x",
        "p = Pad (b, pads, v)\n t = Transpose <perm = [0, 2, 1]> (p)\n u = Reshape (t, to)",
        [0, 4, 0, 0, 0, 0],
        [1, 2, 1, 11],
        (0, 4, 0, 0),
    ),
    "a convolution over [N, C, L]": (
        "float[1, 2, 7] x", "p = Pad (b, pads, v)\n u = Reshape (p, to)", [0, 0, 1, 0, 0, 2], [1, 2, 1, 10],
        (0, 1, 0, 2),
    ),
    "an image of NHWC": (
        "float[1, 3, 7, 2] x", "p = Pad (b, pads, v)\n u = Transpose <perm = [0, 3, 1, 2]> (p)",
        [0, 1, 2, 0, 0, 3, 4, 0], [0], (1, 2, 3, 4),
    ),
    "an axis of extent 1 that is padded": (
        "float[1, 2, 1, 7] x", "p = Pad (b, pads, v)\n u = Reshape (p, to)", [0, 0, 1, 0, 0, 0, 2, 0], [1, 2, 4, 7],
        (1, 0, 2, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYOUTS)
def test_a_border_behind_layout_changes(case):
    signature, between, pads, target, expected = LAYOUTS[case]
    text = (
        f"g ({signature}) => (y) {{ b = qcompiler.Binarize (x)\n {between}\n y = Conv <pads = [0, 0, 0, 0]> (u, k) }}"
    )
    constants = {"pads": np.asarray(pads), "to": np.asarray(target), "v": np.asarray(0, np.float32)}
    model = graph(text, k=WEIGHTS[:, :, :1], **constants)
    assert apply(MergePads(), model).rewrites == 1
    assert "Pad" not in ops_of(model)
    assert ints(the(model, "Conv"), "pads", ()) == expected


@pytest.mark.parametrize(
    ("between", "pads", "target"),
    [
        ("u = Reshape (p, to)", [0, 0, 0, 0, 0, 1], [1, 2, 4, 2]),
        ("t = Transpose <perm = [0, 2, 1]> (p)\n u = Reshape (t, to)", [0, 0, 1, 0, 0, 0], [1, 8, 1, 2]),
        ("u = Reshape (p, to)", [0, -1, 0, 0, 0, 0], [1, 1, 1, 7]),
    ],
    ids=["axes taken apart", "channels padded", "an axis cropped to 1"],
)
def test_a_border_that_layout_changes_scatter_stays(between, pads, target):
    text = f"g (float[1, 2, 7] x) => (y) {{ p = Pad (x, pads)\n {between}\n y = Conv <pads = [0, 0, 0, 0]> (u, k) }}"
    model = graph(text, pads=np.asarray(pads), to=np.asarray(target), k=np.ones((1, target[1], 1, 1), np.float32))
    result = apply(MergePads(), model)
    assert (result.rewrites, result.refusals[0].reason) == (
        0,
        "the Pad before it is not a constant border of the spatial axes",
    )


def test_before_and_after():
    constants = {
        "pads": np.int64([0, 0, 1, 1, 0, 0, 1, 1]),
        "w": np.ones((3, 2, 3, 3), np.float32),
    }
    before = """g (float[1, 2, 4, 4] x) => (y) {
    p = Pad (x, pads)
    y = Conv <pads = [0, 0, 0, 0]> (p, w) }"""
    after = """
    y = Conv <pads = [1, 1, 1, 1]> (x, w)"""
    assert rewritten(MergePads(), before, exact=False, **constants) == after
