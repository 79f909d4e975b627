import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir.codes import Codes
from qcompiler.ir.quantizing import ORDERS, ROUND_SHIFT, ROUNDINGS, SHIFT_ROUND, UNBOUNDED
from qcompiler.ir.view import constant_of
from qcompiler.passes.spell_out_quantizers import SpellOutQuantizers
from tests.passes.comparison import apply, graph, ops_of, rewritten, the

TEXT = """g (float[2, 3, 4, 4] x{inputs}) => (float[2, 3, 4, 4] y) {{
    y = qcompiler.Quantize <low = {low}, high = {high}, rounding = "{rounding}", order = "{order}"> (x, s, z) }}"""


def quantize(scale, zero, low=0.0, high=7.0, rounding="ROUND", order=SHIFT_ROUND, inputs=""):
    text = TEXT.format(inputs=inputs, low=low, high=high, rounding=rounding, order=order)
    constants = {"s": scale, "z": zero}
    return graph(text, **{name: np.asarray(a, np.float32) for name, a in constants.items() if a is not None})


@pytest.mark.parametrize(
    ("scale", "zero", "order", "ops"),
    [
        (0.5, 3, SHIFT_ROUND, ["Div", "Add", "Clip", "Round"]),
        (0.5, 0, SHIFT_ROUND, ["Div", "Clip", "Round"]),
        (1.0, 0, SHIFT_ROUND, ["Clip", "Round"]),
        (0.5, 3, ROUND_SHIFT, ["Div", "Clip", "Round", "Add"]),
        # -0 becomes 0, as integers have it
        (1.0, 0, ROUND_SHIFT, ["Clip", "Round", "Add"]),
        ([[[1]], [[2]], [[3]]], [[[1]], [[2]], [[3]]], ROUND_SHIFT, ["Div", "Round", "Add", "Clip", "Clip", "Round"]),
    ],
)
def test_what_is_neutral_is_left_out(scale, zero, order, ops):
    model = quantize(scale, zero, order=order)
    assert apply(SpellOutQuantizers(), model).rewrites == 1
    assert ops_of(model) == ops


def test_bounds_move_with_the_zero_point():
    model = quantize(0.5, 3, order=ROUND_SHIFT)
    apply(SpellOutQuantizers(), model)
    clip = the(model, "Clip")
    assert [float(constant_of(bound)) for bound in clip.inputs[1:]] == [-3.0, 4.0]
    assert the(model, "Add").outputs[0].name == "y"


def test_no_bounds_are_no_clip():
    model = quantize(0.5, 0, -UNBOUNDED, UNBOUNDED)
    apply(SpellOutQuantizers(), model)
    assert ops_of(model) == ["Div", "Round"]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_number_changes_and_the_codes_stay_known(data):
    """Whatever the rounding, the order and the parameters, at run time too: layers on codes read them afterwards."""
    shape = data.draw(st.sampled_from([(), (1,), (3, 1, 1), (1, 3, 1, 1), (2, 3, 4, 4), (4,)]))
    count = int(np.prod(shape, dtype=int))

    def drawn(kind):
        return np.asarray(data.draw(st.lists(kind, min_size=count, max_size=count)), np.float32).reshape(shape)

    scale, zero = drawn(st.sampled_from([1.0, 0.25, 0.0371])), drawn(st.integers(-4, 4))
    low = data.draw(st.sampled_from([-128, -3, 0, 1]))
    high = low + data.draw(st.sampled_from([1, 3, 255]))
    rounding, order = data.draw(st.sampled_from(sorted(ROUNDINGS))), data.draw(st.sampled_from(ORDERS))
    at_run_time = data.draw(st.sampled_from(["", "s", "z"])) if shape else ""
    order = SHIFT_ROUND if at_run_time == "z" else order  # random zero points are not whole
    inputs = f", float[{', '.join(map(str, shape))}] {at_run_time}" if at_run_time else ""
    model = quantize(
        None if at_run_time == "s" else scale, None if at_run_time == "z" else zero, float(low), float(high),
        rounding, order, inputs,
    )  # fmt: skip
    assert IntegerRanges().codes(model.graph.outputs[0]) == Codes(low, high)
    apply(SpellOutQuantizers(), model, data.draw(st.integers(0, 99)))
    assert all(node.domain == "" for node in model.graph)
    if at_run_time != "s":  # a division by less than 0 turns the bounds of the example
        found = IntegerRanges().codes(model.graph.outputs[0])
        assert found is not None and low <= found.low and found.high <= high


def test_before_and_after():
    constants = {
        "scale": np.float32(0.5),
        "zero": np.float32(0),
    }
    before = """g (float[2, 3] x) => (y) {
    y = qcompiler.Quantize <low = -8.0, high = 7.0> (x, scale, zero) }"""
    after = """
    Quantize_y.div = Div (x, 0.5)
    Quantize_y.clip = Clip (Quantize_y.div, -8, 7)
    y = Round (Quantize_y.clip)"""
    assert rewritten(SpellOutQuantizers(), before, **constants) == after
