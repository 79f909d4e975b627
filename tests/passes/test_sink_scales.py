import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir import oracle
from qcompiler.passes.sink_scales import SinkScales
from tests.passes.comparison import apply, graph, ops_of

TEXT = """g (float[1, 4, 4, 6] x, float[1, 4, 4, 6] r) => (y) {{
    q = qcompiler.Quantize <low = {low}, high = {high}, order = "ROUND_SHIFT"> (x, q_scale, z)
    p = qcompiler.Quantize <low = {low}, high = {high}, order = "ROUND_SHIFT"> (r, q_scale, z)
    c = Sub (q, z)
    d = Sub (p, z2)
    a = Mul (c, s)
    b = Mul (s2, d)
    {moves} }}"""


def model_of(moves, low=-128, high=127, **changed):
    numbers = {"q_scale": 0.25, "z": 3.0, "s": 0.37, **changed}
    numbers = {"z2": numbers["z"], "s2": numbers["s"], "fill": 0.0, **numbers}
    constants = {name: np.asarray(value, np.float32) for name, value in numbers.items()} | {
        "pads": np.asarray([0, 0, 1, 2, 0, 0, 0, 1]),
        "shape": np.asarray([1, 8, 12]),
        "sizes": np.asarray([1, 3]),
        "index": np.asarray([3, 0]),
        "scales": np.asarray([1, 1, 2, 2], np.float32),
    }
    return graph(TEXT.format(moves=moves, low=float(low), high=float(high)), **constants)


MOVES = {
    "y = Transpose <perm = [0, 3, 1, 2]> (a)": ["Transpose", "Sub", "Mul"],
    "y = MaxPool <kernel_shape = [2, 2], pads = [1, 1, 1, 1]> (a)": ["MaxPool", "Sub", "Mul"],
    "y = Concat <axis = 1> (a, b)": ["Concat", "Sub", "Mul"],
    "y = Pad (a, pads, fill)": ["Pad", "Sub", "Mul"],
    'y = Pad <mode = "edge"> (a, pads)': ["Pad", "Sub", "Mul"],
    "m, n = Split <axis = 1> (a, sizes) y = Concat <axis = 1> (n, b, m)": ["Slice", "Slice", "Concat", "Sub", "Mul"],
    "y = Gather <axis = 2> (a, index)": ["Gather", "Sub", "Mul"],
    "y = Reshape (a, shape)": ["Reshape", "Sub", "Mul"],
    'y = Resize <mode = "nearest"> (a, , scales)': ["Resize", "Sub", "Mul"],
}


@settings(max_examples=60, deadline=None)
@given(
    moves=st.sampled_from([moves for moves in MOVES]),
    scale=st.floats(2.0**-20, 2.0**20, width=32),
    zero=st.integers(-300, 300),
    low=st.integers(-300, 0),
    levels=st.integers(1, 255),
    filled=st.integers(0, 255),
    seed=st.integers(0, 99),
)
def test_no_bit_changes(moves, scale, zero, low, levels, filled, seed):
    """And the move comes before the arithmetic, right behind the quantizers."""
    code = low + filled % (levels + 1)
    fill = np.float32(code - zero) * np.float32(scale)
    settings_ = {"low": low, "high": low + levels, "z": zero, "s": scale, "fill": fill}
    before, after = (model_of(moves, **settings_) for _ in range(2))
    SinkScales()(after)
    found = [op for op in ops_of(after) if op != "Quantize"]
    assert found == MOVES[moves]
    generator = np.random.default_rng(seed)
    x, r = (generator.normal(size=(1, 4, 4, 6)).astype(np.float32) * 100 for _ in range(2))
    x[0, 0, 0, :3] = np.inf, -np.inf, np.nan
    expected, got = (oracle.run(model, {"x": x, "r": r})["y"] for model in (before, after))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("moves", "changed"),
    [
        ("y = Concat <axis = 1> (a, b)", {"s2": 0.38}),
        ("y = Concat <axis = 1> (a, x)", {}),
        ("y = MaxPool <kernel_shape = [2, 2]> (a)", {"s": -0.5}),
        ("y = Pad (a, pads, fill)", {"fill": 0.2}),
        ("y = Transpose (a)", {"low": -1000.0, "high": 1000.0}),
        ("y = Transpose (a)", {"s": 0.0}),
        ("y = Transpose (a)", {"s": [0.25, 0.5, 1, 2, 3, 4]}),
    ],
)
def test_others_stay(moves, changed):
    model = model_of(moves, **changed)
    assert apply(SinkScales(), model).rewrites == 0
