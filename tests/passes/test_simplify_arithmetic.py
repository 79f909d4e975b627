import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.passes.simplify_arithmetic import SimplifyArithmetic
from tests.passes.comparison import apply, graph, ops_of, rewritten, signs

CONSTANTS = {
    "one": np.ones(1, np.float32),
    "ones": np.ones((1, 3), np.float32),
    "nought": np.zeros(1, np.float32),
    "minus_nought": np.full(1, -0.0, np.float32),
    "wide": np.ones((4, 1, 1), np.float32),
    "low": np.asarray(-1, np.float32),
    "high": np.asarray(1, np.float32),
    "zero": np.asarray(0, np.float32),
}


@pytest.mark.parametrize("body", ["Mul (a, one)", "Mul (ones, a)", "Div (a, one)", "Sub (a, nought)",
                                  "Add (minus_nought, a)"])  # fmt: skip
def test_neutral_operands(body):
    model = graph(f"g (float[2, 3] x) => (y) {{ a = Abs (x)\n m = {body}\n y = Neg (m) }}", **CONSTANTS)
    apply(SimplifyArithmetic(), model)
    assert ops_of(model) == ["Abs", "Neg"]


@pytest.mark.parametrize("body", ["Add (a, nought)", "Div (one, a)", "Sub (nought, a)", "Mul (a, wide)"])
def test_what_changes_a_bit_or_a_shape_stays(body):
    model = graph(f"g (float[2, 3] x) => (y) {{ a = Abs (x)\n m = {body}\n y = Neg (m) }}", **CONSTANTS)
    assert apply(SimplifyArithmetic(), model).rewrites == 0


@pytest.mark.parametrize(
    ("clip", "left"), [("x, low, high", 1), ("x, low", 1), ("x, , high", 1), ("x, zero, high", 2), ("x, low, zero", 2)]
)
def test_a_clip_around_zero_keeps_every_sign(clip, left):
    model = graph(f"g (float[50] x) => (y) {{ c = Clip ({clip})\n y = qcompiler.Binarize (c) }}", **CONSTANTS)
    apply(SimplifyArithmetic(), model)
    assert len(ops_of(model)) == left


@pytest.mark.parametrize("cut", [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
def test_round_before_a_cut_between_integers_is_not_needed(cut):
    """The values are halves, so that half of them are ties, which round to even."""
    text = """g (float[200] x) => (y) {
        d = Mul (x, four)
        i = Round (d)
        h = Mul (i, half)
        r = Round (h)
        s = Sub (r, cut)
        y = qcompiler.Binarize (s) }"""
    numbers = {"four": 4.0, "half": 0.5, "cut": cut}
    model = graph(text, **{name: np.full(1, number, np.float32) for name, number in numbers.items()})
    assert apply(SimplifyArithmetic(), model).rewrites == 1
    assert ops_of(model) == ["Mul", "Round", "Mul", "Sub", "Binarize"]


@pytest.mark.parametrize("cut", [-0.5, 0.5])
def test_sign_before_a_cut_between_its_codes_is_not_needed(cut):
    text = "g (float[200] x) => (y) { i = Round (x)\n s = Sign (i)\n c = Sub (s, cut)\n y = qcompiler.Binarize (c) }"
    model = graph(text, cut=np.full(1, cut, np.float32))
    assert apply(SimplifyArithmetic(), model).rewrites >= 1
    assert "Sign" not in ops_of(model)


@pytest.mark.parametrize(
    "body",
    [
        "r = Round (x)\n s = Sub (r, third)\n y = qcompiler.Binarize (s)",
        "r = Sign (x)\n s = Sub (r, third)\n y = qcompiler.Binarize (s)",
        "r = Clip (x, low, high)\n s = Sub (r, far)\n y = qcompiler.Binarize (s)",
        "r = Round (x)\n s = Sub (r, row)\n y = qcompiler.Binarize (s)",
    ],
)
def test_other_cuts_stay(body):
    numbers = {"third": np.full(1, 1 / 3, np.float32), "far": np.full(1, 1.5, np.float32)}
    model = graph(f"g (float[3] x) => (y) {{ {body} }}", row=np.full(3, 0.5, np.float32), **numbers, **CONSTANTS)
    assert apply(SimplifyArithmetic(), model).rewrites == 0


@settings(max_examples=40, deadline=None)
@given(st.floats(-100, 100, width=32), st.floats(-100, 100, width=32), st.integers(-20, 20))
def test_factors_of_an_integer_merge_only_where_no_bit_changes(a, b, exponent):
    text = """g (float[4, 37] x) => (y) {
        c = qcompiler.Binarize (x)
        n = qcompiler.IntegerMatMul (c, w)
        m = Mul (n, a)
        y = Mul (m, b) }"""
    weights = signs(np.random.default_rng(0), 37, 5)
    power = np.asarray([2.0**exponent], np.float32)
    for first, second in ((a, power), (power, b), (a, b)):
        model = graph(
            text, w=weights, a=np.asarray(first, np.float32).reshape(1), b=np.asarray(second, np.float32).reshape(1)
        )
        apply(SimplifyArithmetic(), model)


def test_before_and_after():
    constants = {
        "ones": np.float32([1]),
        "low": np.float32(-1),
        "high": np.float32(1),
    }
    before = """g (float[2, 3] x) => (y) {
    a = Mul (x, ones)
    b = Neg (a)
    c = Clip (b, low, high)
    y = qcompiler.Binarize (c) }"""
    after = """
    b = Neg (x)
    y = qcompiler.Binarize <zero = 1> (b)"""
    assert rewritten(SimplifyArithmetic(), before, **constants) == after
