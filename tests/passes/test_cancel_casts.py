import numpy as np
import pytest

from qcompiler.passes.cancel_casts import CancelCasts
from tests.passes.comparison import apply, graph, ops_of, rewritten

QUANTIZE = "q = qcompiler.Quantize <low = 0.0, high = 255.0> (x, one, one)"
ONE = {"one": np.asarray(1, np.float32)}


def test_what_moves_integers_moves_floats():
    text = f"""g (float[1, 3, 6, 6] x) => (y) {{
        {QUANTIZE}
        i = Cast <to = 2> (q)
        p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (i)
        c = Concat <axis = 1> (p, p)
        t = Transpose <perm = [0, 2, 3, 1]> (c)
        y = Cast <to = 1> (t) }}"""
    after = """
    q = qcompiler.Quantize <high = 255, low = 0> (x, 1, 1)
    MaxPool_p.maxpool = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (q)
    Concat_c.concat = Concat <axis = 1> (MaxPool_p.maxpool, MaxPool_p.maxpool)
    y = Transpose <perm = [0, 2, 3, 1]> (Concat_c.concat)"""
    assert rewritten(CancelCasts(), text, **ONE) == after


def test_other_readers_keep_their_integers():
    text = f"""g (float[1, 3, 6, 6] x) => (y, i) {{
        {QUANTIZE}
        i = Cast <to = 2> (q)
        r = Reshape (i, shape)
        f = Cast <to = 1> (r)
        y = Neg (f) }}"""
    model = graph(text, shape=np.asarray([3, 36]), **ONE)
    assert apply(CancelCasts(), model).rewrites == 1
    assert sorted(ops_of(model)) == ["Cast", "Neg", "Quantize", "Reshape"]


def test_applied_twice_it_does_nothing_more():
    text = f"g (float[1, 4] x) => (y) {{ {QUANTIZE}\n i = Cast <to = 6> (q)\n y = Cast <to = 1> (i) }}"
    model = graph(text, **ONE)
    assert apply(CancelCasts(), model).rewrites == 1
    assert apply(CancelCasts(), model).rewrites == 0


SUMS = """g (float[2, 40] x) => (y) {{
    {0}
    m = MatMul (q, w)
    d = Sub (m, s)
    i = Cast <to = {1}> (d)
    y = Cast <to = 1> (i) }}"""


@pytest.mark.parametrize(
    ("weight", "kind", "cancels"),
    # 40 * 255 * 200 = 2040000 is less than 2**31 and more than 2**15; 40 * 255 * 2e6 is more than 2**31
    [(200, 6, True), (200, 5, False), (2000000, 6, False), (0.5, 6, False)],
)
def test_sums_of_integers_within_the_type_are_integers(weight, kind, cancels):
    model = graph(SUMS.format(QUANTIZE, kind), w=np.full((40, 3), weight, np.float32), s=np.float32([1, 2, 3]), **ONE)
    exact = kind == 6 and weight != 2000000
    changed = CancelCasts()(model).rewrites if not exact else apply(CancelCasts(), model).rewrites
    assert changed == cancels


@pytest.mark.parametrize("high", ["127.0", "128.0"])
def test_codes_that_the_type_does_not_hold(high):
    text = f"""g (float[1, 4] x) => (y) {{
        q = qcompiler.Quantize <low = 0.0, high = {high}> (x, one, one)
        i = Cast <to = 3> (q)
        y = Cast <to = 1> (i) }}"""
    assert CancelCasts()(graph(text, **ONE)).rewrites == (high == "127.0")


def test_real_numbers_are_rounded_by_their_cast():
    text = "g (float[1, 4] x) => (y) { i = Cast <to = 6> (x)\n y = Cast <to = 1> (i) }"
    assert CancelCasts()(graph(text)).rewrites == 0
