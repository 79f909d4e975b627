import numpy as np
import pytest

from qcompiler.ir.view import constant_of, ints
from qcompiler.passes.spell_out_shapes import SpellOutShapes
from tests.passes.comparison import apply, graph, normal, ops_of, rewritten


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("y = Flatten (x)", [2, 12]),
        ("y = Flatten <axis = 2> (x)", [6, 4]),
        ("y = Unsqueeze (x, axes)", [2, 1, 3, 4]),
        ("u = Unsqueeze (x, axes)\n y = Squeeze (u, axes)", [2, 3, 4]),
        ("y = Reshape (x, target)", [2, 12]),
    ],
)
def test_every_shape_change_is_a_reshape_to_a_full_shape(body, shape):
    model = graph(f"g (float[2, 3, 4] x) => (y) {{ {body} }}", axes=np.asarray([1]), target=np.asarray([0, -1]))
    apply(SpellOutShapes(), model)
    assert set(ops_of(model)) == {"Reshape"}
    assert constant_of(model.graph[-1].inputs[1]).tolist() == shape


@pytest.mark.parametrize("size", [5, 6, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_auto_pad_becomes_explicit(size, stride, mode):
    text = f"""g (float[1, 2, {size}, {size}] x) => (y, z) {{
        y = Conv <auto_pad = "{mode}", strides = [{stride}, {stride}], kernel_shape = [4, 3]> (x, w)
        z = MaxPool <auto_pad = "{mode}", strides = [{stride}, {stride}], kernel_shape = [2, 3]> (x) }}"""
    model = graph(text, w=normal(np.random.default_rng(0), 3, 2, 4, 3))
    assert apply(SpellOutShapes(), model).rewrites == 2
    for node in model.graph:
        assert "auto_pad" not in node.attributes
        assert len(ints(node, "pads", ())) == 4


def test_defaults_are_written_down():
    model = graph("g (float[1, 2, 5, 5] x) => (y) { y = Conv (x, w) }", w=np.ones((1, 2, 3, 3), np.float32))
    apply(SpellOutShapes(), model)
    attributes = {name: attribute.value for name, attribute in model.graph[0].attributes.items()}
    assert set(attributes) == {"kernel_shape", "strides", "dilations", "pads", "group"}


def test_before_and_after():
    before = """g (float[1, 2, 4, 4] x) => (y) {
    y = MaxPool <auto_pad = "SAME_UPPER", kernel_shape = [2, 2]> (x) }"""
    after = """
    y = MaxPool <kernel_shape = [2, 2], pads = [0, 0, 1, 1]> (x)"""
    assert rewritten(SpellOutShapes(), before) == after
