import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir.codes import Codes
from tests.passes.comparison import graph, the


def codes_of(body: str, **constants):
    model = graph(f"g (float[1, 2, 4, 4] x) => (y) {{ {body} }}", **constants)
    return IntegerRanges().codes(model.graph.outputs[0])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = qcompiler.Binarize (x)", Codes(-1, 1, 2)),
        ("y = qcompiler.Binarize <zero = -1.0> (x)", Codes(-1, 1, 2)),
        ("y = qcompiler.Binarize <zero = 0.0> (x)", Codes(-1, 1, 1)),
        ("y = Sign (x)", Codes(-1, 1, 1)),
        ("b = qcompiler.Binarize (x)\n y = MaxPool <kernel_shape = [2, 2]> (b)", Codes(-1, 1, 2)),
        ("b = qcompiler.Binarize (x)\n y = Pad (b, pads)", Codes(-1, 1, 1)),
        ("b = qcompiler.Binarize (x)\n y = Pad (b, pads, minus)", Codes(-1, 1, 2)),
        ("a = qcompiler.Binarize (x)\n b = Sign (x)\n y = Concat <axis = 1> (a, b)", Codes(-1, 1, 1)),
        ("r = Round (x)\n y = Clip (r, low, high)", Codes(-8, 7, 1)),
        ("b = qcompiler.Binarize (x)\n y = Mul (b, seven)", Codes(-7, 7, 14)),
        ("b = qcompiler.Binarize (x)\n m = Mul (seven, b)\n y = Sub (m, seven)", Codes(-14, 0, 14)),
        ("b = qcompiler.Binarize (x)\n y = Mul (b, nought)", Codes(0, 0, 1)),
        ("b = qcompiler.Binarize (x)\n y = Add (b, b)", Codes(-2, 2, 2)),
        ("c = Clip (x, low, high)\n y = Round (c)", Codes(-8, 7, 1)),
        ("y = qcompiler.Quantize <low = -3.0, high = 2.0> (x, seven, nought)", Codes(-3, 2, 1)),
        ("q = qcompiler.Quantize <low = 0.0, high = 255.0> (x, x, x)\n y = Sub (q, seven)", Codes(-7, 248, 1)),
        ("q = qcompiler.Quantize <low = 0.0, high = 3e38> (x, seven, seven)\n y = Neg (q)", None),
        (
            "q = qcompiler.Quantize <low = 0.0, high = 127.0> (x, x, x)\n i = Cast <to = 3> (q)\n"
            " y = Cast <to = 1> (i)",
            Codes(0, 127, 1),
        ),
        (
            "q = qcompiler.Quantize <low = 0.0, high = 128.0> (x, x, x)\n i = Cast <to = 3> (q)\n"
            " y = Cast <to = 1> (i)",
            None,
        ),
        (
            "q = qcompiler.Quantize <low = 0.0, high = 256.0> (x, x, x)\n y = qcompiler.RoundTo <to = 16> (q)",
            Codes(0, 256),
        ),
        ("q = qcompiler.Quantize <low = 0.0, high = 257.0> (x, x, x)\n y = qcompiler.RoundTo <to = 16> (q)", None),
        ("b = qcompiler.Binarize (x)\n y = ReduceSum <keepdims = 0> (b, first)", Codes(-2, 2, 2)),
        ("b = Greater (x, seven)\n c = Cast <to = 1> (b)\n y = ReduceSum (c)", Codes(0, 32, 1)),
        ("y = AveragePool <kernel_shape = [2, 2]> (x)", None),
        ("y = Relu (x)", None),
    ],
)
def test_codes_of_values(body, expected):
    constants = {
        "pads": np.asarray([0, 0, 1, 1, 0, 0, 1, 1]),
        "first": np.asarray([1]),
        "seven": np.asarray(7, np.float32),
        "nought": np.asarray(0, np.float32),
        "minus": np.asarray(-1, np.float32),
        "low": np.asarray(-8, np.float32),
        "high": np.asarray(7, np.float32),
    }
    assert codes_of(body, **constants) == expected


def test_unbounded_rounding_gives_no_exact_sums():
    text = "g (float[1, 3] x) => (y) { r = Round (x)\n y = MatMul (r, w) }"
    assert IntegerRanges().lattice(the(graph(text, w=np.ones((3, 1), np.float32)), "MatMul")) is None


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=4), st.sampled_from(["Binarize", "Sign"]))
def test_a_lattice_holds_every_attainable_sum(weights, op):
    domain = "qcompiler." if op == "Binarize" else ""
    text = f"g (float[1, {len(weights)}] x) => (y) {{ b = {domain}{op} (x)\n y = MatMul (b, w) }}"
    model = graph(text, w=np.asarray(weights, np.float32).reshape(-1, 1))
    reach = IntegerRanges().lattice(the(model, "MatMul"))
    assert reach is not None
    codes = (-1, 1) if op == "Binarize" else (-1, 0, 1)
    points = itertools.product(codes, repeat=len(weights))
    sums = {sum(a * w for a, w in zip(point, weights, strict=True)) for point in points}
    allowed = {int(n) for n in reach.at(np.arange(reach.count[0]))}
    assert sums <= allowed
    assert (min(sums), max(sums)) == (reach.low[0], reach.high[0])


def test_parity_is_lost_where_zeros_pad_the_border():
    text = "g (float[1, 1, 4, 4] x) => (y) {{ b = qcompiler.Binarize (x)\n y = Conv <pads = [{0}]> (b, w) }}"
    weights = np.ones((1, 1, 3, 3), np.float32)
    inside = IntegerRanges().lattice(the(graph(text.format("0, 0, 0, 0"), w=weights), "Conv"))
    padded = IntegerRanges().lattice(the(graph(text.format("1, 1, 1, 1"), w=weights), "Conv"))
    assert (inside.step[0], padded.step[0]) == (2, 1)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("uint8", Codes(0, 255)), ("int8", Codes(-128, 127)), ("int16", Codes(-(2**15), 2**15 - 1)), ("int32", None)],
)
def test_narrow_integers_are_codes_once_they_are_floats(kind, expected):
    model = graph(f"g ({kind}[1, 2, 4, 4] x) => (y) {{ m = Transpose (x)\n y = Cast <to = 1> (m) }}")
    assert IntegerRanges().codes(model.graph.outputs[0]) == expected
