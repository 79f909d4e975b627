import numpy as np
import pytest

from qcompiler.ir.view import constant_of
from qcompiler.passes.unflatten_matmul import UnflattenMatmul
from tests.passes.comparison import apply, graph, ops_of, rewritten, signs, the

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("layout", ["", "t = Transpose <perm = [0, 2, 3, 1]> (b)"])
def test_a_flattened_image_becomes_a_kernel_as_large_as_it(layout):
    source = "t" if layout else "b"
    text = f"""g (float[2, 24, 2, 3] x) => (y) {{
        b = qcompiler.Binarize (x)
        {layout}
        f = Reshape ({source}, flat)
        y = qcompiler.IntegerMatMul (f, w) }}"""
    model = graph(text, w=signs(GENERATOR, 144, 7), flat=np.asarray([2, 144]))
    assert apply(UnflattenMatmul(), model).rewrites == 1
    assert ops_of(model) == ["Binarize", "IntegerConv", "Reshape"]
    assert constant_of(the(model, "IntegerConv").inputs[1]).shape == (7, 24, 2, 3)


@pytest.mark.parametrize(
    ("shape", "flat"),
    [
        ("2, 3, 1, 1", [2, 3]),
        ("2, 3, 4, 5", [6, 20]),
        ("2, 3, 20", [2, 60]),
        ("2, 3, 4, 5", [2, 60]),
        ("1, 4, 3, 5", [2, 30]),
    ],
)
def test_other_reshapes_stay(shape, flat):
    text = f"g (float[{shape}] x) => (y) {{ b = qcompiler.Binarize (x)\n f = Reshape (b, flat)\n"
    text += "y = qcompiler.IntegerMatMul (f, w) }"
    model = graph(text, w=signs(GENERATOR, flat[1], 7), flat=np.asarray(flat))
    assert apply(UnflattenMatmul(), model).rewrites == 0


def test_before_and_after():
    constants = {
        "flat": np.int64([1, 32]),
        "w": np.ones((32, 3), np.float32),
    }
    before = """g (float[1, 8, 2, 2] x) => (y) {
    s = qcompiler.Binarize (x)
    f = Reshape (s, flat)
    y = qcompiler.IntegerMatMul (f, w) }"""
    after = """
    s = qcompiler.Binarize (x)
    IntegerMatMul_y.integerconv = qcompiler.IntegerConv <kernel_shape = [2, 2]> (s, float32[3, 8, 2, 2])
    y = Reshape (IntegerMatMul_y.integerconv, [1, 3])"""
    assert rewritten(UnflattenMatmul(), before, **constants) == after
