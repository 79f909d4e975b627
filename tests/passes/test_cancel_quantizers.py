import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir import oracle
from qcompiler.ir.quantizing import ROUNDINGS
from qcompiler.passes.cancel_quantizers import CancelQuantizers
from tests.passes.comparison import apply, graph, ops_of, rewritten

TEXT = """g (float[1, 4, 6] x) => (y) {{
    q = qcompiler.Quantize <low = {low}, high = {high}, order = "{order}"> (x, s, z)
    d = Sub (q, z)
    n = Mul (d, s)
    t = Transpose <perm = [0, 2, 1]> (n)
    y = qcompiler.Quantize <low = -128.0, high = 127.0, rounding = "{rounding}", order = "{order}"> (t, s2, z2) }}"""


def model_of(low=-128.0, high=127.0, rounding="ROUND", order="ROUND_SHIFT", **changed):
    constants = {"s": np.float32(0.0371), "z": np.float32(3), "s2": np.float32(0.0371), "z2": np.float32(3)} | changed
    text = TEXT.format(low=low, high=high, rounding=rounding, order=order)
    return graph(text, **{name: np.asarray(value, np.float32) for name, value in constants.items()})


def test_a_quantizer_of_numbers_on_its_own_grid_is_gone():
    text = TEXT.format(low=-128.0, high=127.0, rounding="ROUND", order="ROUND_SHIFT")
    constants = {name: np.asarray(2, np.float32) for name in ("s", "z", "s2", "z2")}
    after = """
    q = qcompiler.Quantize <high = 127, low = -128, order = ROUND_SHIFT> (x, 2, 2)
    y = Transpose <perm = [0, 2, 1]> (q)"""
    assert rewritten(CancelQuantizers(), text, **constants) == after


@settings(max_examples=60, deadline=None)
@given(
    scale=st.floats(2.0**-50, 2.0**50, width=32),
    zero=st.integers(-(2**15), 2**15),
    order=st.sampled_from(["ROUND_SHIFT", "SHIFT_ROUND"]),
    rounding=st.sampled_from(["ROUND", "HALF_UP", "HALF_DOWN"]),
    seed=st.integers(0, 99),
)
def test_every_code_comes_back(scale, zero, order, rounding, seed):
    """All codes of 16 bits, and any scale."""
    text = f"""g (float[65536] x) => (y) {{
        q = qcompiler.Quantize <low = -32768.0, high = 32767.0> (x, one, nought)
        d = Sub (q, z)
        n = Mul (s, d)
        y = qcompiler.Quantize <low = -32768.0, high = 40000.0, rounding = "{rounding}", order = "{order}">
            (n, s, z) }}"""
    constants = {"one": 1, "nought": 0, "s": scale, "z": zero}
    before, after = (graph(text, **{k: np.asarray(v, np.float32) for k, v in constants.items()}) for _ in range(2))
    assert CancelQuantizers()(after).rewrites == 1
    x = np.arange(-(2**15), 2**15).astype(np.float32)
    np.testing.assert_array_equal(*(oracle.run(model, {"x": x})["y"] for model in (before, after)))


@pytest.mark.parametrize(
    "changed",
    [
        {"s2": 0.0372},
        {"z2": 4},
        {"s2": [0.0371, 0.0371, 0.0371, 0.05]},
        {"high": 200.0},
        {"low": -129.0},
        {"z": 2.5, "z2": 2.5, "order": "SHIFT_ROUND"},
        {"s": 1e-30, "s2": 1e-30},
        *({"rounding": each} for each in ROUNDINGS if each not in ("ROUND", "HALF_UP", "HALF_DOWN")),
    ],
)
def test_what_stays(changed):
    model = model_of(**changed)
    count = len(ops_of(model))
    assert CancelQuantizers()(model).rewrites == 0
    assert len(ops_of(model)) == count


def test_several_in_a_row():
    again = "".join(
        f"""
        d{i} = Sub (q{i}, z)
        n{i} = Mul (d{i}, s)
        m{i} = MaxPool <kernel_shape = [2]> (n{i})
        q{i + 1} = qcompiler.Quantize <low = 0.0, high = 255.0> (m{i}, s, z)"""
        for i in range(3)
    )
    first = "q0 = qcompiler.Quantize <low = 0.0, high = 255.0> (x, s, z)"
    text = f"g (float[1, 2, 9] x) => (y) {{ {first} {again}\n y = Neg (q3) }}"
    model = graph(text, s=np.asarray(0.1, np.float32), z=np.asarray(7, np.float32))
    assert apply(CancelQuantizers(), model).rewrites == 3
    assert ops_of(model) == ["Quantize", "MaxPool", "MaxPool", "MaxPool", "Neg"]
