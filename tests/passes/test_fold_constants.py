import numpy as np

from qcompiler.ir.view import constant_of
from qcompiler.passes.fold_constants import FoldConstants
from tests.passes.comparison import apply, graph, normal, ops_of, rewritten, the

WEIGHTS = normal(np.random.default_rng(0), 3, 2, 3, 3)


def test_live_weight_binarization_becomes_a_constant():
    text = """g (float[1, 2, 5, 5] x) => (y) {
        s = qcompiler.Binarize <zero = 0.0> (w)
        a = Abs (w)
        alpha = ReduceMean (a, axes)
        sw = Mul (s, alpha)
        y = Conv (x, sw) }"""
    model = graph(text, w=WEIGHTS, axes=np.asarray([1, 2, 3]))
    assert apply(FoldConstants(), model, exact=False).rewrites == 1
    assert ops_of(model) == ["Conv"]
    alpha = np.abs(WEIGHTS).mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(constant_of(the(model, "Conv").inputs[1]), np.sign(WEIGHTS) * alpha, rtol=1e-6)


def test_shapes_of_run_time_values_are_constants():
    text = """g (float[4, 6] x) => (y) {
        whole = Shape (x)
        first = Slice (whole, zero, one)
        rest = Constant <value_ints = [2, 3]> ()
        target = Concat <axis = 0> (first, rest)
        y = Reshape (x, target) }"""
    model = graph(text, zero=np.asarray([0]), one=np.asarray([1]))
    apply(FoldConstants(), model)
    assert ops_of(model) == ["Reshape"]
    assert constant_of(the(model, "Reshape").inputs[1]).tolist() == [4, 2, 3]


def test_a_part_of_a_shape_and_a_size():
    text = """g (float[4, 6, 5] x) => (a, b) {
        s = Shape <start = 1, end = -1> (x)
        a = Add (s, one)
        n = Size (x)
        b = Add (n, one) }"""
    model = graph(text, one=np.asarray([1]))
    apply(FoldConstants(), model)
    assert ops_of(model) == ["Add", "Add"]


def test_a_constant_graph_output_stays_computed():
    model = graph("g (float[2] x) => (y, z) { y = Neg (c)\n z = Neg (x) }", c=np.ones(2, np.float32))
    apply(FoldConstants(), model)
    assert ops_of(model) == ["Neg", "Neg"]


def test_bounds_refuse_and_say_so():
    text = "g (float[1000] x) => (y) { e = Expand (c, shape)\n y = Add (x, e) }"
    model = graph(text, c=np.ones(1, np.float32), shape=np.asarray([1000]))
    result = apply(FoldConstants(value_bytes=1 << 10), model)
    assert (result.rewrites, ops_of(model)) == (0, ["Expand", "Add"])
    assert "4000 bytes" in result.refusals[0].reason


def test_the_cost_of_products_is_bounded():
    text = "g (float[8, 8] x) => (y) { p = MatMul (c, c)\n y = Add (x, p) }"
    model = graph(text, c=np.ones((8, 8), np.float32))
    assert apply(FoldConstants(operations=1000), model).rewrites == 0
    assert apply(FoldConstants(), model).rewrites == 1


def test_random_numbers_are_no_constants():
    model = graph("g (float[2] x) => (y) { r = RandomUniform <shape = [2], seed = 1.0> ()\n m = Mul (r, zero)\n"
                  "y = Add (x, m) }", zero=np.zeros(1, np.float32))  # fmt: skip
    FoldConstants()(model)
    assert "RandomUniform" in ops_of(model)


def test_what_onnxruntime_cannot_evaluate_stays_and_the_rest_folds():
    text = """g (float[2, 3] x) => (y) {
        a = Neg (c)
        b = Identity (a)
        d = Abs (c)
        e = Add (x, d)
        y = Add (e, b) }"""
    model = graph(text, c=np.ones((2, 3), np.float32))
    the(model, "Identity").op_type = "NoSuchOp"
    result = FoldConstants()(model)
    assert ops_of(model) == ["NoSuchOp", "Add", "Add"]
    assert "onnxruntime cannot evaluate it" in result.refusals[0].reason


def test_before_and_after():
    constants = {
        "w": np.float32([[1, -2, 3]]),
    }
    before = """g (float[2, 3] x) => (y) {
    t = Transpose <perm = [1, 0]> (w)
    s = Sign (t)
    y = MatMul (x, s) }"""
    after = """
    y = MatMul (x, [[1], [-1], [1]])"""
    assert rewritten(FoldConstants(), before, exact=False, **constants) == after
