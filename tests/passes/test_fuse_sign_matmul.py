import numpy as np
import pytest

from qcompiler.passes.fuse_sign_matmul import FuseSignMatmul
from tests.passes.comparison import apply, graph, normal, ops_of, signs

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("shape", ["5, 13", "2, 3, 13", "2, 2, 2, 13"])
def test_products_of_any_rank(shape):
    text = f"g (float[{shape}] x) => (y) {{ b = qcompiler.Binarize (x)\n y = MatMul (b, w) }}"
    model = graph(text, w=signs(GENERATOR, 13, 4))
    assert apply(FuseSignMatmul(), model).rewrites == 1
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
def test_what_is_not_binary_stays(body, weights):
    model = graph(f"g (float[5, 13] x) => (y) {{ {body} }}", w=weights)
    assert apply(FuseSignMatmul(), model).rewrites == 0
    assert "MatMul" in ops_of(model)
