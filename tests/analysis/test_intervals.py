import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.analysis.intervals import EVERYTHING, Interval, Intervals
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir import oracle
from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import EXACT
from tests.passes.comparison import graph

NUMBERS = {
    "c": np.float32(1.7),
    "d": np.float32(-0.3),
    "z": np.float32(3),
    "low": np.float32(-2),
    "high": np.float32(5),
}
STEPS = (
    "Clip ({x}, low, high)",
    "Relu ({x})",
    "Neg ({x})",
    "Abs ({x})",
    "Mul ({x}, c)",
    "Mul (d, {x})",
    "Div ({x}, d)",
    "Add ({x}, c)",
    "Sub (c, {x})",
    "Min ({x}, z)",
    "Max (d, {x})",
    "Round ({x})",
    "Floor ({x})",
    "Ceil ({x})",
    "Tanh ({x})",
    "Sigmoid ({x})",
    "HardSigmoid ({x})",
    "Mul ({x}, {x})",
    "AveragePool <kernel_shape = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1> ({x})",
    "AveragePool <kernel_shape = [2, 2], pads = [1, 1, 1, 1]> ({x})",
    "MaxPool <kernel_shape = [2, 2], pads = [1, 1, 0, 0]> ({x})",
    "Pad ({x}, pads)",
    "Concat <axis = 1> ({x}, {x})",
    "qcompiler.Quantize <low = -9.0, high = 9.0> ({x}, c, z)",
    "qcompiler.Threshold <low = -3.0, step = 2.0> ({x}, thresholds, signs)",
    "qcompiler.IntegerMaxPool <kernel_shape = [2, 2], strides = [1, 1], pads = [1, 1, 0, 0], dilations = [1, 1], "
    "ceil_mode = 0> ({x}, signs)",
    'qcompiler.Quantize <low = -3.4e38, high = 3.4e38, rounding = "FLOOR"> ({x}, c, z)',
)
PADS = np.asarray([0, 0, 1, 1, 0, 0, 1, 1])
# falling, as the sign says, for all channels
THRESHOLDS = np.asarray([4, 0.5, -2], np.float32).reshape(3, 1, 1, 1, 1)
SIGNS = np.full((1, 1, 1), -1, np.float32)


@settings(deadline=None)
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6), st.integers(0, 99))
def test_values_of_any_chain_lie_in_their_interval(steps, seed):
    lines = [f"v{i + 1} = {step.format(x=f'v{i}')}" for i, step in enumerate(steps)]
    model = graph(
        f"g (float[1, 2, 4, 4] v0) => (v{len(steps)}) {{ {chr(10).join(lines)} }}",
        pads=PADS,
        thresholds=THRESHOLDS,
        signs=SIGNS,
        **{name: np.asarray(number, np.float32) for name, number in NUMBERS.items()},
    )
    random = np.random.default_rng(seed)
    x = random.normal(0, 10.0 ** random.integers(-2, 4), (1, 2, 4, 4)).astype(np.float32)
    names = [f"v{i + 1}" for i in range(len(steps))]
    found = oracle.run(model, {"v0": x}, names)
    intervals, ranges = Intervals(), IntegerRanges()
    for node in model.graph:
        value = node.outputs[0]
        interval, codes, array = intervals.of(value), ranges.codes(value), found[value.name]
        assert interval.low <= array.min() and array.max() <= interval.high, node.op_type
        if codes is not None and codes.high < EXACT:
            assert codes.low <= array.min() and array.max() <= codes.high
            assert not ((array - codes.low) % codes.step).any()
            # an interval forgets nothing of what is known of integers
            assert codes.low in (-EXACT, min(codes.low, interval.low)), node.op_type
            assert codes.high == max(codes.high, interval.high), node.op_type


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # DoReFa and PACT bound x, then scale, then round
        ("c = Clip (x, nought, one)\n m = Mul (c, three)\n y = Round (m)", Codes(0, 3)),
        ("r = Relu (x)\n c = Min (r, one)\n m = Mul (c, three)\n y = Round (m)", Codes(0, 3)),
        ("t = Tanh (x)\n m = Mul (t, three)\n y = Round (m)", Codes(-3, 3)),
        ("c = Clip (x, nought, one)\n d = Div (c, half)\n y = Floor (d)", Codes(0, 2)),
        # a zero point between the rounding and the bounds
        ("r = Round (x)\n a = Add (r, three)\n y = Clip (a, nought, three)", Codes(0, 3)),
        ("r = Round (x)\n a = Add (r, three)\n c = Clip (a, nought, three)\n y = Sub (c, three)", Codes(-3, 0)),
        ("r = Round (x)\n a = Abs (r)\n y = Clip (a, nought, three)", Codes(0, 3)),
        ("c = Clip (x, half, three)\n y = Round (c)", Codes(0, 3)),
    ],
)
def test_bounded_roundings(body, expected):
    numbers = {"nought": 0, "one": 1, "three": 3, "half": 0.5}
    constants = {name: np.asarray(number, np.float32) for name, number in numbers.items()}
    model = graph(f"g (float[1, 2, 4, 4] x) => (y) {{ {body} }}", **constants)
    assert IntegerRanges().codes(model.graph.outputs[0]) == expected


@pytest.mark.parametrize(
    ("low", "high", "to", "expected"),
    [
        (0.25, 0.75, 6, (0, 0)),
        (-2.5, 3.5, 3, (-2, 3)),
        (-2.5, 300.0, 3, None),
        (-2.5, 3.5, 2, None),
        (0.25, 0.75, 9, None),
        (0.25, 0.75, 1, (0.25, 0.75)),
    ],
)
def test_casts(low: float, high: float, to: int, expected: tuple[float, float] | None) -> None:
    bounds = {"low": np.asarray(low, np.float32), "high": np.asarray(high, np.float32)}
    model = graph(f"g (float[8] x) => (y) {{ c = Clip (x, low, high)\n y = Cast <to = {to}> (c) }}", **bounds)
    found = Intervals().of(model.graph.outputs[0])
    assert found == (EVERYTHING if expected is None else Interval(*map(np.float32, expected)))
