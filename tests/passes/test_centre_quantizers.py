import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir import oracle
from qcompiler.passes.centre_quantizers import CentreQuantizers
from tests.passes.comparison import apply, graph, ops_of, rewritten

TEXT = """g (float[1, 4, 4, 6] x) => (y{outputs}) {{
    q = qcompiler.Quantize <low = {low}, high = {high}, order = "{order}"> (x, s, z)
    {moves}
    d = Sub (m, z2)
    y = Mul (d, s) }}"""


def text_of(moves="m = Identity (q)", low=-128, high=127, order="ROUND_SHIFT", outputs=""):
    return TEXT.format(moves=moves, low=float(low), high=float(high), order=order, outputs=outputs)


def constants_of(zero=3.0, **more):
    numbers = {"s": 0.25, "z": zero, "z2": zero} | more
    return {name: np.asarray(value, np.float32) for name, value in numbers.items()}


def test_codes_that_are_moved_are_moved_without_their_zero_point():
    after = """
    Quantize_q.quantize = qcompiler.Quantize <high = 124, low = -131, order = ROUND_SHIFT> (x, 0.25, 0)
    d = Transpose <perm = [0, 2, 1, 3]> (Quantize_q.quantize)
    y = Mul (d, 0.25)"""
    assert rewritten(CentreQuantizers(), text_of("m = Transpose <perm = [0, 2, 1, 3]> (q)"), **constants_of()) == after


MOVES = [
    "m = Transpose <perm = [0, 3, 1, 2]> (q)",
    "m = MaxPool <kernel_shape = [2, 2]> (q)",
    "m = Concat <axis = 1> (q, q)",
    "m = Pad (q, pads, fill)",
    "p = Pad (q, pads, fill) m = Concat <axis = -1> (p, p)",
    "m = Reshape (q, shape)",
    'm = Resize <mode = "nearest"> (q, , scales)',
]


@settings(max_examples=40, deadline=None)
@given(
    moves=st.sampled_from(MOVES),
    zero=st.integers(-300, 300),
    low=st.integers(-300, 0),
    levels=st.integers(1, 255),
    read=st.booleans(),
    seed=st.integers(0, 99),
)
def test_no_number_changes(moves, zero, low, levels, read, seed):
    """Whether or not somebody reads the codes, too."""
    text = text_of(moves, low, low + levels, outputs=", m" if read else "")
    constants = constants_of(zero, fill=low) | {
        "pads": np.asarray([0, 0, 1, 2, 0, 0, 0, 1]),
        "shape": np.asarray([1, 8, 12]),
        "scales": np.asarray([1, 1, 2, 2], np.float32),
    }
    before, after = (graph(text, **constants) for _ in range(2))
    assert CentreQuantizers()(after).rewrites == (zero != 0)
    x = np.random.default_rng(seed).normal(size=(1, 4, 4, 6)).astype(np.float32) * 100
    x[0, 0, 0, :4] = np.inf, -np.inf, np.nan, -0.01
    expected, got = (oracle.run(model, {"x": x}) for model in (before, after))
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)
        assert not np.signbit(got[name][got[name] == 0]).any() or np.signbit(array[array == 0]).any()


@pytest.mark.parametrize(
    ("settings_", "constants"),
    [
        ({"order": "SHIFT_ROUND"}, {}),
        ({}, {"z2": 2}),
        ({}, {"zero": 0.5}),
        ({}, {"zero": [3.0, 1, 2, 3, 4, 5]}),
        ({"moves": "m = Concat <axis = 1> (q, x)"}, {}),
        ({"moves": "m = Relu (q)"}, {}),
    ],
)
def test_others_stay(settings_, constants):
    model = graph(text_of(**settings_), **constants_of(**constants))
    before = ops_of(model)
    apply(CentreQuantizers(), model)
    assert ops_of(model) == before
